"""The `request` event of a user's environment, with a shortcut where only Locust's statistics listen."""

import time
from typing import Any

from locust import User

from locust_tcp.metrics.rounding import three_digits
from locust_tcp.patches import histograms
from locust_tcp.patches.guard import Patch

STATISTICS = "Runner.__init__.<locals>.on_request"  # the listener that keeps Locust's statistics

PATCH = Patch(
    lost="the shortcut to the statistics: each request takes a few microseconds more",
    tested={
        "locust.event:EventHook.fire": {
            "a617d10ed05b22a8",  # 2.32.0
            "36c3c8e92b64b04e",  # 2.43.0
            "6b73b4655d1496d3",  # 2.47.0
        },
        "locust.runners:Runner.__init__.on_request": {"1e236fff8131d77a"},
        "locust.stats:RequestStats.log_request": {"35155cb9df85531f"},
        "locust.stats:StatsEntry.log": {"f8a1baa3c6a925bd"},
        "locust.stats:StatsEntry._log_time_of_request": {"084a92de9f223351"},
        "locust.stats:StatsEntry._log_response_time": {
            "6d37965717b40503",  # 2.32.0
            "649af08ae4305143",  # 2.43.4
        },
        "locust.stats:StatsEntry._cache_response_times": {
            "2356e196519d1a22",  # 2.32.0
            "75f5517a19cc0e5c",  # 2.46.2
        },
    },
    requires=[histograms.PATCH],
)


class RequestEvent:
    """Reports the requests of one user to Locust.

    Where only Locust's statistics listen to the `request` event, a success takes a shortcut: it is
    written to the statistics, and no event is fired. EventHook.fire packs and unpacks its
    arguments three times, which takes as long as a system call. With any other listener, and for
    each failure, the event is fired through the hook.

    Args:
        user: The user whose environment has the event and the statistics.
        request_type: What the statistics show as the type of the requests.
        direct: Whether the shortcut may be taken.
    """

    def __init__(self, user: User, request_type: str, direct: bool) -> None:
        self._user = user
        self._type = request_type
        self._stats = user.environment.stats
        self._hook = user.environment.events.request
        self._statistics: list[Any] | None = None  # the listeners that allow the shortcut
        if direct and PATCH.applied:
            own = [each for each in self._hook._handlers if getattr(each, "__qualname__", None) == STATISTICS]
            self._statistics = own if len(own) == 1 else None

    def fire(
        self,
        name: str,
        start_time: float,
        response_time: float | None,
        response_length: int,
        response: object,
        exception: Exception | None,
    ) -> None:
        """Report a request: fire the event, or take the shortcut.

        Args:
            name: The row of the statistics.
            start_time: Seconds since the epoch.
            response_time: Milliseconds, or None where there is nothing to measure.
            response_length: Bytes.
            response: What the listeners get as the response.
            exception: Why the request failed, or None.
        """
        statistics = self._statistics
        if statistics is None or exception or response_time is None or self._hook._handlers != statistics:
            self._hook.fire(
                request_type=self._type,
                name=name,
                start_time=start_time,
                response_time=response_time,
                response_length=response_length,
                response=response,
                url=self._user.host,
                context=self._user.context(),
                exception=exception,
            )
            return
        # As RequestStats.log_request and StatsEntry.log, which ask the clock four times and round twice.
        stats = self._stats
        now = time.time()
        second = int(now)
        bucket = three_digits(response_time)
        entry: Any  # Locust's type hints say int
        for entry in (stats.total, stats.entries[name, self._type]):
            last = entry.last_request_timestamp
            if last and second > last and entry.use_response_times_cache:
                entry._cache_response_times(second - 1)
            entry.last_request_timestamp = now
            entry.num_requests += 1
            entry.num_reqs_per_sec[second] += 1
            entry.total_content_length += response_length
            entry.total_response_time += response_time
            entry.response_times[bucket] += 1
            least = entry.min_response_time
            if least is None or response_time < least:
                entry.min_response_time = response_time
            if response_time > entry.max_response_time:
                entry.max_response_time = response_time
