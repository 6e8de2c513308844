"""locust_tcp/patches/histograms.py."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from locust import stats
from locust.stats import RequestStats, StatsEntry

from locust_tcp.metrics.rounding import three_digits
from locust_tcp.patches import histograms
from tests.patches import upstream

Theirs = upstream.stats.StatsEntry
times = st.none() | st.floats(0.001, 1e6)


def logged(milliseconds: list[Any]) -> StatsEntry:
    """Return the row of some requests."""
    kept = RequestStats()
    for each in milliseconds:
        kept.log_request("TCP", "word", each, 0)
    return kept.get("word", "TCP")


def test_the_buckets_have_three_digits() -> None:
    entry: Any = StatsEntry(RequestStats(), "word", "TCP")
    for milliseconds in (0.12345, 0.12349, 12.345, 1234.5):
        entry.log(milliseconds, 0)
    assert entry.response_times == {0.123: 2, 12.3: 1, 1230: 1}
    assert stats.bucket_response_time is three_digits


@given(st.lists(times, max_size=20))
def test_the_method_for_older_releases_differs_from_locusts_in_the_digits_only(milliseconds: list[float]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(upstream.stats, "bucket_response_time", three_digits)
        ours: Any
        theirs: Any
        ours, theirs = (Theirs(RequestStats(), "word", "TCP") for _ in range(2))
        for each in milliseconds:
            histograms._log_response_time(ours, each)
            theirs._log_response_time(each)
        kept = "num_none_requests", "total_response_time", "min_response_time", "max_response_time", "response_times"
        assert [getattr(ours, name) for name in kept] == [getattr(theirs, name) for name in kept]
