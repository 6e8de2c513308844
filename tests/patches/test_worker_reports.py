"""patches/worker_reports.py in one process; tests/swarm/test_clocks.py has the workers."""

import copy
import time
from collections import Counter
from typing import Any

import pytest
from locust.event import Events
from locust.stats import RequestStats

from locust_tcp.patches import worker_reports


def report(clock: Any) -> dict[str, Any]:
    """Return what a worker with a clock reports: two requests within this second, and a failure."""
    stats = RequestStats()
    for _ in range(2):
        stats.log_request("TCP", "word", 1, 1)
    stats.log_error("TCP", "word", "reply: wrong")
    data = {
        "stats": stats.serialize_stats(),
        "stats_total": stats.total.get_stripped_report(),
        "errors": stats.serialize_errors(),
    }
    return data | ({} if clock is None else {worker_reports.CLOCK: clock})


def test_a_report_that_comes_late_is_no_wrong_clock(caplog: pytest.LogCaptureFixture) -> None:
    events, stats = Events(), RequestStats()
    worker_reports._set_up(events, stats)
    for delay in (5.0, 0.0, 0.0, 5.0):
        events.worker_report.fire(client_id="worker", data=report(time.time() - delay))
    assert stats.total.num_requests == 8
    assert "clock" not in caplog.text
    events.test_start.fire(environment=None)
    for _ in range(4):
        events.worker_report.fire(client_id="worker", data=report(time.time() - 5))
    assert caplog.text.count("The clock of worker worker is 5.0 s behind") == 1


def test_a_packed_report_counts_as_an_unpacked_one() -> None:
    events, stats = Events(), RequestStats()
    worker_reports._set_up(events, stats)
    figures = {"lags": Counter({0.5: 3}), "users": 7}
    unpacked = report(None) | {"generator": figures}
    packed = copy.deepcopy(unpacked)
    worker_reports.pack_histograms(data=packed)
    assert isinstance(packed["stats"][0]["response_times"], list)
    events.worker_report.fire(client_id="worker", data=packed)
    assert packed == unpacked
    assert stats.total.response_times == {1: 2}


@pytest.mark.parametrize("clock", [None, "now", []])
def test_a_report_without_a_clock_is_counted(clock: Any) -> None:
    events, stats = Events(), RequestStats()
    worker_reports._set_up(events, stats)
    events.worker_report.fire(client_id="worker", data=report(clock))
    assert stats.total.num_requests == 2
