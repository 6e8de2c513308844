"""What Locust's statistics say of a stretch of time: read them at its beginning and at its end."""

import time
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from statistics import fmean
from typing import Any

from locust.env import Environment
from locust.runners import WORKER_REPORT_INTERVAL, MasterRunner
from locust.stats import RequestStats, StatsEntry, StatsError, calculate_response_time_percentile

from locust_tcp.transport.errors import CONNECT

REQUEST_TYPE = "TCP"  # the Type column of our own requests and connects


@dataclass(frozen=True)
class Stretch:
    """The requests of a stretch of time.

    A connect is no request, but one that fails is a request that could not be made. Response times
    are in milliseconds.
    """

    seconds: float
    requests: int
    failures: int
    times: "Counter[float]" = field(repr=False)
    errors: Counter[str]
    """How often requests have failed, by the failure's text."""

    @property
    def rate(self) -> float:
        """Requests per second that did not fail."""
        return (self.requests - self.failures) / self.seconds if self.seconds > 0 else 0.0

    @property
    def fail_ratio(self) -> float:
        """The share of the requests that failed, from 0 to 1; where there were none it is 0."""
        return self.failures / self.requests if self.requests else 0.0

    def percentile(self, percent: float) -> float:
        """Return a percentile of the response times; where there were none it is 0."""
        return float(calculate_response_time_percentile(self.times, self.times.total(), percent))  # type: ignore[arg-type]

    @cached_property
    def p95(self) -> float:
        """The 95th percentile of the response times."""
        return self.percentile(0.95)


@dataclass(frozen=True)
class Reading:
    """The statistics at a moment, since they began."""

    at: float  # on time.monotonic's clock
    requests: int
    failures: int
    times: "Counter[float]" = field(repr=False)
    errors: Counter[str]

    @classmethod
    def of(cls, stats: RequestStats) -> "Reading":
        """Read the statistics."""
        return NOTHING.plus(stats.entries.values(), stats.errors.values(), time.monotonic())

    def plus(self, entries: Iterable[StatsEntry], errors: Iterable[StatsError], at: float) -> "Reading":
        """Return what there is with some more, at another time."""
        requests, failures = self.requests, self.failures
        times: Counter[Any] = self.times.copy()
        texts = self.errors.copy()
        for entry in entries:
            failures += entry.num_failures
            if (entry.method, entry.name) == (REQUEST_TYPE, CONNECT):
                requests += entry.num_failures
            else:
                requests += entry.num_requests
                times.update(entry.response_times)
        for error in errors:
            texts[StatsError.parse_error(error.error)] += error.occurrences  # as the Failures page has it
        return Reading(at, requests, failures, times, texts)

    def since(self, earlier: "Reading") -> Stretch:
        """Return the stretch from an earlier reading to this one."""
        return Stretch(
            self.at - earlier.at,
            self.requests - earlier.requests,
            self.failures - earlier.failures,
            self.times - earlier.times,
            self.errors - earlier.errors,
        )


NOTHING = Reading(0.0, 0, 0, Counter(), Counter())
"""What the statistics were before the test."""


class Meter:
    """Reads the statistics of an environment.

    A master knows only what its workers have reported, each every few seconds. Its readings are of
    rounds, in which each worker has reported once: so a stretch has as much of one worker as of any other.
    """

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        self._reports: dict[str, deque[tuple[float, dict[str, Any]]]] = {}  # of rounds that are not complete
        self._heard: dict[str, float] = {}
        self._last: Reading | None = None
        self.complete_since = 0.0
        """When the first report of the last round came, on time.monotonic's clock."""
        environment.events.test_start.add_listener(self._forget)
        environment.events.reset_stats.add_listener(self._forget)
        environment.events.worker_report.add_listener(self._reported)

    def read(self) -> Reading | None:
        """Return the newest reading; None where a round is still to come."""
        if isinstance(self._environment.runner, MasterRunner):
            return self._last
        return Reading.of(self._environment.stats)

    def _forget(self, **_: Any) -> None:
        self._reports.clear()
        self._last = None

    def _reported(self, client_id: str, data: dict[str, Any], **_: Any) -> None:
        now = time.monotonic()
        self._heard[client_id] = now
        if client_id not in self._reports:  # a new one; from its next report on it takes part in the rounds
            self._reports[client_id] = deque()
            last = self._last or Reading(now, 0, 0, Counter(), Counter())
            self._last = self._plus(last, [data], last.at)
            return
        self._reports[client_id].append((now, data))
        for client in list(self._reports):
            if now - self._heard[client] > 2 * WORKER_REPORT_INTERVAL:  # it is gone
                del self._reports[client]
        while all(self._reports.values()):
            arrivals, reports = zip(*(queue.popleft() for queue in self._reports.values()), strict=True)
            self._last = self._plus(self._last or NOTHING, reports, fmean(arrivals))
            self.complete_since = min(arrivals)

    def _plus(self, reading: Reading, reports: Iterable[dict[str, Any]], at: float) -> Reading:
        for report in reports:
            entries = [StatsEntry.unserialize(entry, self._environment.stats) for entry in report["stats"]]
            errors = [StatsError.unserialize(error) for error in report["errors"].values()]
            reading = reading.plus(entries, errors, at)
        return reading
