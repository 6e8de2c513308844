"""What Locust's statistics say about an interval: the difference of two snapshots."""

import time
from collections import Counter, deque
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from statistics import fmean
from types import SimpleNamespace
from typing import Any, NamedTuple

from locust.env import Environment
from locust.runners import WORKER_REPORT_INTERVAL, MasterRunner
from locust.stats import RequestStats, StatsEntry, StatsError, calculate_response_time_percentile

from locust_tcp.metrics.environment import PerEnvironment
from locust_tcp.transport.errors import CONNECT

REQUEST_TYPE = "TCP"  # the Type column of TcpUser's requests and connects

Histogram = Counter[float]
"""Milliseconds, rounded to three significant digits, and how often each occurred."""


def percentile(histogram: Histogram, fraction: float) -> float:
    """Return a percentile in milliseconds (0.95: the 95th), or 0 for an empty histogram."""
    return float(calculate_response_time_percentile(histogram, histogram.total(), fraction))  # type: ignore[arg-type]


class Row(NamedTuple):
    """The counts of one row of Locust's statistics. In the row of connects, successful ones count."""

    requests: int
    failures: int
    response_times: Histogram


Rows = Mapping[tuple[str, str], Row]
"""The rows, each by its type and name."""


@dataclass(frozen=True)
class Interval:
    """The requests of an interval.

    A successful connect is not a request. A failed connect counts as a failed request: the request
    that needed the connection could not be sent.

    Attributes:
        seconds: The length of the interval.
        requests: The number of requests, failed ones included.
        failures: The number of failed requests.
        response_times: The response times of the requests.
        errors: The number of failures by their text.
        rows: The same, for each row of the statistics that was named.
        kinds: The types of all rows with response times.
    """

    seconds: float
    requests: int
    failures: int
    response_times: Histogram = field(repr=False)
    errors: Counter[str]
    rows: Rows = field(default_factory=dict, repr=False, compare=False)
    kinds: frozenset[str] = field(default=frozenset(), compare=False)

    def of_row(self, name: str) -> "Interval":
        """Return the interval of the rows of a name, which may be preceded by their type: `word`, `TCP word`."""
        rows = [row for (kind, own), row in self.rows.items() if name in (own, f"{kind} {own}")]
        times = sum((row.response_times for row in rows), Counter[float]())
        return Interval(
            self.seconds, sum(row.requests for row in rows), sum(row.failures for row in rows), times, Counter()
        )

    @property
    def goodput(self) -> float:
        """Successful requests per second."""
        return (self.requests - self.failures) / self.seconds if self.seconds > 0 else 0.0

    @property
    def fail_ratio(self) -> float:
        """The share of the requests that failed, from 0 to 1; 0 without requests."""
        return self.failures / self.requests if self.requests else 0.0

    def percentile(self, fraction: float) -> float:
        """Return a percentile of the response times in milliseconds; 0 without requests."""
        return percentile(self.response_times, fraction)

    @cached_property
    def p95(self) -> float:
        """The 95th percentile of the response times in milliseconds."""
        return self.percentile(0.95)


def request_times(stats: RequestStats) -> Histogram:
    """Return the response times of all requests so far: Locust's total also has those of connects."""
    times: Counter[Any] = Counter(stats.total.response_times)
    times.subtract(_connects(stats).response_times)
    return +times


def _connects(stats: RequestStats) -> StatsEntry:
    return stats.entries.get((CONNECT, REQUEST_TYPE)) or StatsEntry(stats, CONNECT, REQUEST_TYPE)


@dataclass(frozen=True)
class Snapshot:
    """The statistics at one moment, counted since their start.

    Attributes:
        at: The moment in seconds, on time.monotonic's clock.
        requests: As in Interval; so are `failures`, `response_times`, `errors`, `rows` and `kinds`.
        names: The names of the rows to keep, each as in `Interval.of_row`.
    """

    at: float
    requests: int
    failures: int
    response_times: Histogram = field(repr=False)
    errors: Counter[str]
    rows: Rows = field(default_factory=dict, repr=False, compare=False)
    kinds: frozenset[str] = field(default=frozenset(), compare=False)
    names: Collection[str] = ()

    @classmethod
    def of(cls, stats: RequestStats, names: Collection[str] = ()) -> "Snapshot":
        """Take a snapshot of the statistics now, and of the rows that have one of the names.

        There may be thousands of rows: what all requests have in common is that of Locust's total.
        """
        total, connects = stats.total, _connects(stats)
        errors: Counter[str] = Counter()
        for error in stats.errors.values():
            errors[StatsError.parse_error(error.error)] += error.occurrences  # the text of the Failures tab
        return cls(
            time.monotonic(),
            total.num_requests - connects.num_requests + connects.num_failures,
            total.num_failures,
            request_times(stats),
            errors,
            {
                (entry.method, entry.name): Row(entry.num_requests, entry.num_failures, Counter(entry.response_times))
                for entry in (stats.entries.values() if names else ())
                if _is_named(entry, names)
            },
            frozenset({entry.method for entry in stats.entries.values() if entry.response_times}),
            names,
        )

    def plus(self, entries: Iterable[StatsEntry], errors: Iterable[StatsError], at: float) -> "Snapshot":
        """Return a snapshot of the moment `at` with more entries and errors added."""
        requests, failures = self.requests, self.failures
        response_times: Counter[Any] = self.response_times.copy()
        texts = self.errors.copy()
        rows = dict(self.rows)
        kinds = set(self.kinds)
        for entry in entries:
            failures += entry.num_failures
            key = entry.method, entry.name
            if entry.response_times:
                kinds.add(entry.method)
            if _is_named(entry, self.names):
                row = rows.get(key, Row(0, 0, Counter()))
                rows[key] = Row(
                    row.requests + entry.num_requests,
                    row.failures + entry.num_failures,
                    row.response_times + Counter(entry.response_times),
                )
            if key == (REQUEST_TYPE, CONNECT):
                requests += entry.num_failures
            else:
                requests += entry.num_requests
                response_times.update(entry.response_times)
        for error in errors:
            texts[StatsError.parse_error(error.error)] += error.occurrences  # the text of the Failures tab
        return Snapshot(at, requests, failures, response_times, texts, rows, frozenset(kinds), self.names)

    def since(self, earlier: "Snapshot") -> Interval:
        """Return the interval from an earlier snapshot to this one."""
        return Interval(
            self.at - earlier.at,
            self.requests - earlier.requests,
            self.failures - earlier.failures,
            self.response_times - earlier.response_times,
            self.errors - earlier.errors,
            {key: _difference(row, earlier.rows.get(key)) for key, row in self.rows.items()},
            self.kinds,
        )


def _is_named(entry: StatsEntry, names: Collection[str]) -> bool:
    return bool(names) and (entry.name in names or f"{entry.method} {entry.name}" in names)


def _difference(row: Row, earlier: Row | None) -> Row:
    if earlier is None:
        return row
    return Row(
        row.requests - earlier.requests, row.failures - earlier.failures, row.response_times - earlier.response_times
    )


EMPTY = Snapshot(0.0, 0, 0, Counter(), Counter())
"""The statistics before any request."""


def _add_report(snapshot: Snapshot, report: Mapping[str, Any], at: float) -> Snapshot:
    """Return a snapshot of the moment `at` with a worker's report added."""
    # Releases of Locust unserialize in different ways. The attributes are the same.
    entries: list[Any] = [SimpleNamespace(**entry) for entry in report["stats"]]
    errors: list[Any] = [SimpleNamespace(**error) for error in report["errors"].values()]
    return snapshot.plus(entries, errors, at)


class Boundary:
    """The statistics at a moment. On a master the first report of each worker since then completes them.

    Workers report at the moments that matter (`report_now` in plugin.py), so that little else is in
    such a report.

    Attributes:
        snapshot: The statistics.
    """

    def __init__(self, environment: Environment, names: Collection[str] = (), *, is_reset: bool = False) -> None:
        """Set a boundary now.

        Args:
            environment: The environment whose statistics are meant.
            names: The names of the rows to keep.
            is_reset: Whether the statistics are about to be reset.
        """
        self._reported: set[str] = set()
        self.snapshot = Snapshot.of(environment.stats, names)
        if is_reset:
            self.snapshot = replace(EMPTY, at=self.snapshot.at, names=names)

    def add_report(self, client_id: str, data: Mapping[str, Any]) -> bool:
        """Add the first report of a worker; return whether it was one."""
        is_first = client_id not in self._reported
        if is_first:
            self._reported.add(client_id)
            self.snapshot = _add_report(self.snapshot, data, self.snapshot.at)
        return is_first


class StatsCollector(PerEnvironment):
    """Takes snapshots of an environment's statistics.

    Attributes:
        names: The names of the rows to keep.

    A master only has what its workers report, every few seconds. So its snapshots contain complete
    rounds: one report of each worker. An interval then covers the same time of every worker.
    """

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        self._pending: dict[str, deque[tuple[float, dict[str, Any]]]] = {}  # reports of incomplete rounds
        self._last_report_at: dict[str, float] = {}
        self._last: Snapshot | None = None
        self.names: Collection[str] = ()

    def snapshot(self) -> Snapshot | None:
        """Return the newest snapshot; None on a master that has no complete round yet."""
        if isinstance(self._environment.runner, MasterRunner):
            return self._last
        return Snapshot.of(self._environment.stats, self.names)

    def reset(self, **_: Any) -> None:
        """Forget all reports: a test starts, or the statistics were reset."""
        self._pending.clear()
        self._last = None

    def add_report(self, client_id: str, data: dict[str, Any], **_: Any) -> None:
        """Add a worker's report; a snapshot is made when the round is complete."""
        now = time.monotonic()
        self._last_report_at[client_id] = now
        if client_id not in self._pending:  # a new worker: it takes part in the rounds from its next report on
            self._pending[client_id] = deque()
            last = self._last or replace(EMPTY, at=now, names=self.names)
            self._last = self._plus(last, [data], last.at)
            return
        self._pending[client_id].append((now, data))
        for client in list(self._pending):
            if now - self._last_report_at[client] > 2 * WORKER_REPORT_INTERVAL:  # it no longer reports
                del self._pending[client]
        while all(self._pending.values()):
            arrivals, reports = zip(*(queue.popleft() for queue in self._pending.values()), strict=True)
            self._last = self._plus(self._last or replace(EMPTY, names=self.names), reports, fmean(arrivals))

    def _plus(self, snapshot: Snapshot, reports: Iterable[dict[str, Any]], at: float) -> Snapshot:
        for report in reports:
            snapshot = _add_report(snapshot, report, at)
        return snapshot
