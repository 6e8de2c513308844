"""What Locust's statistics say of a stretch of time: read them at its beginning and at its end."""

import time
from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from locust.env import Environment
from locust.runners import WORKER_REPORT_INTERVAL, MasterRunner
from locust.stats import RequestStats, StatsEntry, calculate_response_time_percentile

from locust_tcp.connection import CONNECT

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
        requests = failures = 0
        times: Counter[Any] = Counter()
        for entry in stats.entries.values():
            failures += entry.num_failures
            if _is_connect(entry):
                requests += entry.num_failures
            else:
                requests += entry.num_requests
                times.update(entry.response_times)
        errors: Counter[str] = Counter()
        for error in stats.errors.values():
            errors[str(error.error)] += error.occurrences
        return cls(time.monotonic(), requests, failures, times, errors)

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


def _is_connect(entry: StatsEntry) -> bool:
    return (entry.method, entry.name) == (REQUEST_TYPE, CONNECT)


class Meter:
    """Reads the statistics of an environment.

    A master knows only what its workers have reported, each every few seconds. It takes its readings
    when one and the same worker reports, so that a stretch is a whole number of reports long for all.
    """

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        self._client: str | None = None
        self._last: Reading | None = None
        environment.events.test_start.add_listener(self._forget)
        environment.events.worker_report.add_listener(self._reported)

    def read(self) -> Reading | None:
        """Return the newest reading; None where no worker has reported yet."""
        if isinstance(self._environment.runner, MasterRunner):
            return self._last
        return Reading.of(self._environment.stats)

    def _forget(self, **_: Any) -> None:
        self._client = self._last = None

    def _reported(self, client_id: str, **_: Any) -> None:
        is_silent = self._last is None or time.monotonic() - self._last.at > 2 * WORKER_REPORT_INTERVAL
        if is_silent:
            self._client = client_id
        if client_id == self._client:
            self._last = Reading.of(self._environment.stats)
