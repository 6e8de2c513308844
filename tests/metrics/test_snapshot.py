"""locust_tcp/metrics/snapshot.py: what Locust's statistics say of a stretch of time."""

import itertools
from collections import Counter
from unittest.mock import Mock

import pytest
from locust.env import Environment
from locust.runners import WORKER_REPORT_INTERVAL, LocalRunner, MasterRunner
from locust.stats import RequestStats

from locust_tcp import TcpError
from locust_tcp.metrics.snapshot import NOTHING, REQUEST_TYPE, Meter, Reading, Stretch
from locust_tcp.transport.errors import CONNECT, REFUSED, REPLY, TIMED_OUT, WRONG


def log(stats: RequestStats, name: str, time: float | None, error: object = None, kind: str = REQUEST_TYPE) -> None:
    """Count a request as Locust's listener of the `request` event does."""
    stats.log_request(kind, name, time, 0)  # type: ignore[arg-type]
    if error:
        stats.log_error(kind, name, error)  # type: ignore[arg-type]


def stretch(stats: RequestStats) -> Stretch:
    """All of the statistics, as if they were ten seconds'."""
    whole = Reading.of(stats).since(NOTHING)
    return Stretch(10.0, whole.requests, whole.failures, whole.times, whole.errors)


def test_a_connect_is_no_request() -> None:
    stats = RequestStats()
    log(stats, CONNECT, 70.0)
    log(stats, "word", 3.0)
    found = stretch(stats)
    assert (found.requests, found.failures, found.times, found.errors) == (1, 0, {3.0: 1}, {})
    assert found.rate == 0.1


def test_a_connect_that_failed_is_a_request_that_could_not_be_made() -> None:
    stats = RequestStats()
    log(stats, CONNECT, 70.0)
    log(stats, CONNECT, 5000.0, TcpError(CONNECT, TIMED_OUT))
    log(stats, CONNECT, 1.0, TcpError(CONNECT, REFUSED))
    found = stretch(stats)
    assert (found.requests, found.failures) == (2, 2)
    assert found.times == {}
    assert found.errors == {"connect: timed out": 1, "connect: refused": 1}
    assert (found.rate, found.fail_ratio, found.p95) == (0.0, 1.0, 0.0)


def test_another_kind_of_request_may_be_named_connect() -> None:
    stats = RequestStats()
    log(stats, CONNECT, 70.0, kind="GET")
    assert stretch(stats).requests == 1


def test_failures_are_counted_with_their_texts_over_all_names() -> None:
    stats = RequestStats()
    for name in ("word", "sentence"):
        for _ in range(3):
            log(stats, name, 10.0, TcpError(REPLY, TIMED_OUT))
    log(stats, "word", 10.0, TcpError(REPLY, WRONG))
    log(stats, "word", 10.0)
    found = stretch(stats)
    assert (found.requests, found.failures) == (8, 7)
    assert found.errors == {"reply: timed out": 6, "reply: wrong": 1}
    assert found.fail_ratio == 7 / 8
    assert found.rate == pytest.approx(0.1)


def test_errors_that_came_from_workers_are_counted_too() -> None:
    # A master gets them as text, one entry for each worker's own.
    worker, master = RequestStats(), RequestStats()
    log(worker, "word", 10.0, TcpError(REPLY, WRONG))
    (error,) = worker.errors.values()
    master.errors["theirs"] = type(error).unserialize(error.serialize())
    assert Reading.of(master).errors == Reading.of(worker).errors == {"reply: wrong": 1}


def test_percentiles_are_of_all_requests_with_three_digits() -> None:
    stats = RequestStats()
    for number in range(1, 101):
        log(stats, "word" if number % 2 else "sentence", number / 1000)
    found = stretch(stats)
    assert found.p95 == found.percentile(0.95) == pytest.approx(0.095, abs=0.0011)
    assert found.percentile(0.5) == pytest.approx(0.05, abs=0.0011)
    assert found.percentile(1.0) == 0.1


def test_a_request_without_a_time_counts_all_the_same() -> None:
    stats = RequestStats()
    log(stats, "word", None)
    found = stretch(stats)
    assert (found.requests, found.times, found.p95) == (1, {}, 0.0)


def test_a_stretch_is_what_has_come_between_two_readings(monkeypatch: pytest.MonkeyPatch) -> None:
    stats = RequestStats()
    log(stats, "word", 500.0, TcpError(REPLY, TIMED_OUT))
    log(stats, CONNECT, 1.0, TcpError(CONNECT, REFUSED))
    for _ in range(100):
        log(stats, "word", 500.0)
    monkeypatch.setattr("time.monotonic", lambda: 100.0)
    earlier = Reading.of(stats)
    log(stats, "word", 3.0)
    log(stats, "word", 500.0)
    log(stats, "new", 4.0, TcpError(REPLY, WRONG))
    monkeypatch.setattr("time.monotonic", lambda: 102.0)
    found = Reading.of(stats).since(earlier)
    assert found == Stretch(2.0, 3, 1, Counter({3.0: 1, 500.0: 1, 4.0: 1}), Counter({"reply: wrong": 1}))
    assert found.rate == 1.0
    assert earlier.times == {500.0: 101}, "a reading is of its moment"


def test_nothing_came_of_nothing() -> None:
    found = Reading.of(RequestStats()).since(NOTHING)
    assert (found.requests, found.rate, found.fail_ratio, found.p95, found.percentile(0.5)) == (0, 0, 0, 0, 0)
    assert Stretch(0.0, 5, 0, Counter(), Counter()).rate == 0, "no time, no rate"


def test_a_process_of_its_own_reads_when_it_is_asked() -> None:
    environment = Environment()
    environment.runner = Mock(spec=LocalRunner)
    meter = Meter(environment)
    log(environment.stats, "word", 1.0)
    reading = meter.read()
    assert reading and reading.requests == 1
    log(environment.stats, "word", 1.0)
    reading = meter.read()
    assert reading and reading.requests == 2


def report(environment: Environment, client: str, *times: float) -> None:
    """Have a worker report so many requests, which took so many milliseconds, and one that failed."""
    theirs = RequestStats()
    for milliseconds in times:
        log(theirs, "word", milliseconds)
    log(theirs, "word", 99.0, TcpError(REPLY, WRONG))
    data = {"stats": theirs.serialize_stats(), "errors": theirs.serialize_errors()}
    environment.events.worker_report.fire(client_id=client, data=data)


def test_a_masters_reading_has_as_much_of_one_worker_as_of_any_other(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = 100.0
    monkeypatch.setattr("time.monotonic", lambda: clock)
    environment = Environment()
    environment.runner = Mock(spec=MasterRunner)
    meter = Meter(environment)
    readings = []
    assert meter.read() is None
    # Those of --processes start together: whose report comes first is up to chance, each time.
    for order in ("ab", "ab", "ba", "ab", "ba", "ba"):
        for client in order:
            report(environment, client, *{"a": [1.0], "b": [2.0, 2.0]}[client])
            readings.append(meter.read())
            clock += 0.01
        clock += WORKER_REPORT_INTERVAL - 0.02
    found = sorted({reading.at: reading for reading in readings if reading}.values(), key=lambda each: each.at)
    for earlier, later in itertools.pairwise(found):
        stretch = later.since(earlier)
        assert stretch.times == {1.0: 1, 2.0: 2, 99.0: 2}
        assert (stretch.requests, stretch.failures, stretch.errors) == (5, 2, {"reply: wrong": 2})
        assert stretch.seconds == pytest.approx(WORKER_REPORT_INTERVAL, abs=0.02)
    assert len(found) >= 5, "one a round"


def test_a_master_does_not_wait_for_a_worker_that_is_gone_and_takes_in_a_new_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = 100.0
    monkeypatch.setattr("time.monotonic", lambda: clock)
    environment = Environment()
    environment.runner = Mock(spec=MasterRunner)
    meter = Meter(environment)

    def requests(*clients: str) -> int:
        """Say how many requests the newest reading has, after a report of each of some workers."""
        nonlocal clock
        for client in clients:
            report(environment, client, 1.0)
        clock += WORKER_REPORT_INTERVAL
        reading = meter.read()
        return reading.requests if reading else 0

    assert requests("a", "b") >= 2
    before = requests("a", "b")
    for _ in range(3):
        after = requests("b")
    assert after == before + 3 * 2
    assert requests("b", "c") > after
    environment.events.test_start.fire(environment=environment)
    assert meter.read() is None
