"""What Locust itself does for each request, in half the time.

Beside reports.py, this is the module that reaches into Locust's internals: each reach names the upstream
function that it does the work of, and tests/test_overhead.py fails when a new Locust changes it.
"""

import contextlib
import random
import time
from collections import deque
from typing import Any

import gevent
from locust import User
from locust.exception import StopUser
from locust.user.task import (
    LOCUST_STATE_RUNNING,
    LOCUST_STATE_STOPPING,
    LOCUST_STATE_WAITING,
    DefaultTaskSet,
    TaskSet,
)

from locust_tcp.metrics.rounding import three_digits

STATISTICS = "Runner.__init__.<locals>.on_request"  # the listener that keeps Locust's statistics
TURNS = 100  # users in a row, before the event loop may look at the network; gevent has it look every 5 ms


class RequestEvent:
    """Fires the `request` event of a user's environment.

    Mostly nobody but Locust's statistics listens. What is fired then goes straight there: the way
    through EventHook.fire, which packs and unpacks its arguments three times, takes as long as a system call.
    """

    def __init__(self, user: User, request_type: str) -> None:
        self._user = user
        self._type = request_type
        self._stats = user.environment.stats
        self._hook = user.environment.events.request
        self._statistics = [each for each in self._hook._handlers if getattr(each, "__qualname__", None) == STATISTICS]

    def fire(
        self,
        name: str,
        start_time: float,
        response_time: float,
        response_length: int,
        response: object,
        exception: Exception | None,
    ) -> None:
        """Fire the event. `start_time` is in seconds since the epoch, `response_time` in milliseconds."""
        if exception or self._hook._handlers != self._statistics:
            self._hook.fire(
                request_type=self._type,
                name=name,
                start_time=start_time,
                response_time=response_time,
                response_length=response_length,
                response=response,
                context=self._user.context(),
                exception=exception,
            )
            return
        # As RequestStats.log_request and StatsEntry.log, which ask the clock four times and round twice.
        stats = self._stats
        now = time.time()
        second = int(now)
        bucket = three_digits(response_time)
        entry: Any  # upstream's hints have whole milliseconds
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


class _Turns:
    """Gives each user that asks for it a turn, after all who asked before.

    It takes one callback of the event loop for all of them, where gevent.sleep(0) takes one for each.
    """

    def __init__(self) -> None:
        self._waiting: deque[Any] = deque()
        self._is_called = False

    def wait(self) -> None:
        """Wait for the next turn."""
        self._call()
        user = gevent.getcurrent()
        self._waiting.append(user)
        try:
            gevent.get_hub().switch()
        except BaseException:  # it is stopped, and may wait for something else before it ends
            with contextlib.suppress(ValueError):
                self._waiting.remove(user)
            raise

    def _call(self) -> None:
        if not self._is_called:
            self._is_called = True
            gevent.get_hub().loop.run_callback(self._give)

    def _give(self) -> None:
        self._is_called = False
        for _ in range(min(TURNS, len(self._waiting))):
            if self._waiting:  # one that had its turn may have stopped another
                self._waiting.popleft().switch()
        if self._waiting:
            self._call()


_turns = _Turns()


def _wait(self: TaskSet) -> None:
    # TaskSet.wait, which looks its user up four times, and gives the turn with gevent.sleep.
    user = self._user
    if user._state == LOCUST_STATE_STOPPING:
        raise StopUser
    user._state = LOCUST_STATE_WAITING
    seconds = self.wait_time()
    if seconds > 0:
        self._sleep(seconds)
    else:
        _turns.wait()
    if user._state == LOCUST_STATE_STOPPING:
        raise StopUser
    user._state = LOCUST_STATE_RUNNING


_get_next_task = DefaultTaskSet.get_next_task


def _next_task(self: DefaultTaskSet) -> Any:
    # DefaultTaskSet.get_next_task, whose random.choice draws twice where there is one task only.
    tasks = self._user.tasks
    return tasks[int(random.random() * len(tasks))] if tasks else _get_next_task(self)


REPLACED: tuple[tuple[Any, str, Any], ...] = (
    (TaskSet, "wait", _wait),
    (DefaultTaskSet, "get_next_task", _next_task),
)
for owner, name, ours in REPLACED:
    setattr(owner, name, ours)
