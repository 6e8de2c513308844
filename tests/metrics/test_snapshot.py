"""locust_tcp/metrics/snapshot.py: what Locust's statistics say about an interval."""

import itertools
from collections import Counter
from typing import Any
from unittest.mock import Mock

import pytest
from locust.env import Environment
from locust.runners import WORKER_REPORT_INTERVAL, LocalRunner, MasterRunner
from locust.stats import RequestStats, StatsEntry

from locust_tcp import TcpError
from locust_tcp.metrics.snapshot import EMPTY, REQUEST_TYPE, Boundary, Interval, Snapshot, StatsCollector
from locust_tcp.transport.errors import CONNECT, REFUSED, REPLY, TIMED_OUT, WRONG


def log(stats: RequestStats, name: str, time: float | None, error: object = None, kind: str = REQUEST_TYPE) -> None:
    """Count a request as Locust's listener of the `request` event does."""
    stats.log_request(kind, name, time, 0)  # type: ignore[arg-type]
    if error:
        stats.log_error(kind, name, error)  # type: ignore[arg-type]


def interval(stats: RequestStats) -> Interval:
    """All of the statistics, as those of ten seconds."""
    whole = Snapshot.of(stats).since(EMPTY)
    return Interval(10.0, whole.requests, whole.failures, whole.response_times, whole.errors)


def test_a_connect_is_no_request() -> None:
    stats = RequestStats()
    log(stats, CONNECT, 70.0)
    log(stats, "word", 3.0)
    found = interval(stats)
    assert (found.requests, found.failures, found.response_times, found.errors) == (1, 0, {3.0: 1}, {})
    assert found.goodput == 0.1


def test_a_connect_that_failed_is_a_request_that_could_not_be_made() -> None:
    stats = RequestStats()
    log(stats, CONNECT, 70.0)
    log(stats, CONNECT, 5000.0, TcpError(CONNECT, TIMED_OUT))
    log(stats, CONNECT, 1.0, TcpError(CONNECT, REFUSED))
    found = interval(stats)
    assert (found.requests, found.failures) == (2, 2)
    assert found.response_times == {}
    assert found.errors == {"connect: timed out": 1, "connect: refused": 1}
    assert (found.goodput, found.fail_ratio, found.p95) == (0.0, 1.0, 0.0)


def test_another_kind_of_request_may_be_named_connect() -> None:
    stats = RequestStats()
    log(stats, CONNECT, 70.0, kind="GET")
    assert interval(stats).requests == 1


def test_failures_are_counted_with_their_texts_over_all_names() -> None:
    stats = RequestStats()
    for name in ("word", "sentence"):
        for _ in range(3):
            log(stats, name, 10.0, TcpError(REPLY, TIMED_OUT))
    log(stats, "word", 10.0, TcpError(REPLY, WRONG))
    log(stats, "word", 10.0)
    found = interval(stats)
    assert (found.requests, found.failures) == (8, 7)
    assert found.errors == {"reply: timed out": 6, "reply: wrong": 1}
    assert found.fail_ratio == 7 / 8
    assert found.goodput == pytest.approx(0.1)


def test_errors_that_came_from_workers_are_counted_too() -> None:
    # A master gets them as text, one entry for each worker's own.
    worker, master = RequestStats(), RequestStats()
    log(worker, "word", 10.0, TcpError(REPLY, WRONG))
    (error,) = worker.errors.values()
    master.errors["theirs"] = type(error).unserialize(error.serialize())
    assert Snapshot.of(master).errors == Snapshot.of(worker).errors == {"reply: wrong": 1}


def test_percentiles_are_of_all_requests_with_three_digits() -> None:
    stats = RequestStats()
    for number in range(1, 101):
        log(stats, "word" if number % 2 else "sentence", number / 1000)
    found = interval(stats)
    assert found.p95 == found.percentile(0.95) == pytest.approx(0.095, abs=0.0011)
    assert found.percentile(0.5) == pytest.approx(0.05, abs=0.0011)
    assert found.percentile(1.0) == 0.1


def test_a_request_without_a_time_counts_all_the_same() -> None:
    stats = RequestStats()
    log(stats, "word", None)
    found = interval(stats)
    assert (found.requests, found.response_times, found.p95) == (1, {}, 0.0)


def test_an_interval_is_the_difference_of_two_snapshots(monkeypatch: pytest.MonkeyPatch) -> None:
    stats = RequestStats()
    log(stats, "word", 500.0, TcpError(REPLY, TIMED_OUT))
    log(stats, CONNECT, 1.0, TcpError(CONNECT, REFUSED))
    for _ in range(100):
        log(stats, "word", 500.0)
    monkeypatch.setattr("time.monotonic", lambda: 100.0)
    earlier = Snapshot.of(stats)
    log(stats, "word", 3.0)
    log(stats, "word", 500.0)
    log(stats, "new", 4.0, TcpError(REPLY, WRONG))
    monkeypatch.setattr("time.monotonic", lambda: 102.0)
    found = Snapshot.of(stats).since(earlier)
    assert found == Interval(2.0, 3, 1, Counter({3.0: 1, 500.0: 1, 4.0: 1}), Counter({"reply: wrong": 1}))
    assert found.goodput == 1.0
    assert earlier.response_times == {500.0: 101}, "a snapshot does not change"


def test_without_requests_all_figures_are_0() -> None:
    found = Snapshot.of(RequestStats()).since(EMPTY)
    assert (found.requests, found.goodput, found.fail_ratio, found.p95, found.percentile(0.5)) == (0, 0, 0, 0, 0)
    assert Interval(0.0, 5, 0, Counter(), Counter()).goodput == 0, "no time, no rate"


def test_a_single_process_takes_a_snapshot_at_any_time() -> None:
    environment = Environment()
    environment.runner = Mock(spec=LocalRunner)
    collector = StatsCollector(environment)
    log(environment.stats, "word", 1.0)
    snapshot = collector.snapshot()
    assert snapshot and snapshot.requests == 1
    log(environment.stats, "word", 1.0)
    snapshot = collector.snapshot()
    assert snapshot and snapshot.requests == 2


def report(collector: StatsCollector, client: str, *times: float) -> None:
    """Add the report of a worker: a request for each time in milliseconds, and one that failed."""
    theirs = RequestStats()
    for milliseconds in times:
        log(theirs, "word", milliseconds)
    log(theirs, "word", 99.0, TcpError(REPLY, WRONG))
    data = {"stats": theirs.serialize_stats(), "errors": theirs.serialize_errors()}
    collector.add_report(client, data)


def test_a_masters_snapshot_has_as_many_reports_of_one_worker_as_of_any_other(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = 100.0
    monkeypatch.setattr("time.monotonic", lambda: clock)
    environment = Environment()
    environment.runner = Mock(spec=MasterRunner)
    collector = StatsCollector(environment)
    snapshots = []
    assert collector.snapshot() is None
    # The workers of --processes start together: the order of their reports varies.
    for order in ("ab", "ab", "ba", "ab", "ba", "ba"):
        for client in order:
            report(collector, client, *{"a": [1.0], "b": [2.0, 2.0]}[client])
            snapshots.append(collector.snapshot())
            clock += 0.01
        clock += WORKER_REPORT_INTERVAL - 0.02
    found = sorted({each.at: each for each in snapshots if each}.values(), key=lambda each: each.at)
    for earlier, later in itertools.pairwise(found):
        interval = later.since(earlier)
        assert interval.response_times == {1.0: 1, 2.0: 2, 99.0: 2}
        assert (interval.requests, interval.failures, interval.errors) == (5, 2, {"reply: wrong": 2})
        assert interval.seconds == pytest.approx(WORKER_REPORT_INTERVAL, abs=0.02)
    assert len(found) >= 5, "one a round"


def test_a_master_does_not_wait_for_a_worker_that_is_gone_and_adds_a_new_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = 100.0
    monkeypatch.setattr("time.monotonic", lambda: clock)
    environment = Environment()
    environment.runner = Mock(spec=MasterRunner)
    collector = StatsCollector(environment)

    def requests(*clients: str) -> int:
        """Say how many requests the newest snapshot has, after a report of each of some workers."""
        nonlocal clock
        for client in clients:
            report(collector, client, 1.0)
        clock += WORKER_REPORT_INTERVAL
        snapshot = collector.snapshot()
        return snapshot.requests if snapshot else 0

    assert requests("a", "b") >= 2
    before = requests("a", "b")
    for _ in range(3):
        after = requests("b")
    assert after == before + 3 * 2
    assert requests("b", "c") > after
    collector.reset()
    assert collector.snapshot() is None


def report_of(stats: RequestStats) -> dict[str, Any]:
    """A worker's report, as Locust makes it: what came since the one before."""
    errors = stats.serialize_errors()
    stats.errors.clear()
    return {"stats": stats.serialize_stats(), "errors": errors}


def test_a_boundary_of_a_master_has_the_first_report_of_each_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(StatsEntry, "unserialize")  # its arguments differ between the supported releases
    environment = Environment()
    workers = {"one": RequestStats(), "other": RequestStats()}

    log(environment.stats, "word", 1.0)
    boundary = Boundary(environment)
    for stats in workers.values():
        log(stats, "word", 2.0, TcpError(REPLY, WRONG))
        log(stats, "line", 3.0)
    first = {name: report_of(stats) for name, stats in workers.items()}
    for stats in workers.values():
        log(stats, "word", 4.0)
    second = {name: report_of(stats) for name, stats in workers.items()}
    assert [boundary.add_report("one", first["one"]), boundary.add_report("one", second["one"])] == [True, False]
    assert boundary.add_report("other", first["other"])
    assert (boundary.snapshot.requests, boundary.snapshot.failures) == (5, 2)
    assert boundary.snapshot.errors == {"reply: wrong": 2}
    assert boundary.snapshot.response_times == {1.0: 1, 2.0: 2, 3.0: 2}


def test_a_boundary_at_a_reset_begins_at_nothing() -> None:
    environment = Environment()
    log(environment.stats, "word", 1.0)
    assert Boundary(environment).snapshot.requests == 1
    assert Boundary(environment, is_reset=True).snapshot.requests == 0


def test_a_row_has_its_own_figures() -> None:
    stats = RequestStats()
    log(stats, "word", 1.0)
    log(stats, "word", 2.0, TcpError(REPLY, WRONG))
    log(stats, CONNECT, 9.0)
    earlier = Snapshot.of(stats, {"word", "TCP word", CONNECT, "none"})
    for kind in (REQUEST_TYPE, "GET"):
        log(stats, "word", 3.0, kind=kind)
    log(stats, CONNECT, 8.0)
    log(stats, CONNECT, 8.0, TcpError(CONNECT, REFUSED))
    found = Snapshot.of(stats, {"word", "TCP word", CONNECT, "none"}).since(earlier)
    rows = {name: found.of_row(name) for name in ("word", "TCP word", CONNECT, "none")}
    assert {name: (row.requests, row.failures, row.response_times) for name, row in rows.items()} == {
        "word": (2, 0, {3.0: 2}),
        "TCP word": (1, 0, {3.0: 1}),
        CONNECT: (2, 1, {8.0: 2}),
        "none": (0, 0, {}),
    }
    assert rows["word"].seconds == found.seconds
