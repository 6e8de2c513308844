"""locust_tcp/patches/percentiles.py."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from locust.stats import RequestStats, StatsEntry

from tests.patches import upstream

SHARES = (0.5, 0.95, 0.999, 1.0)
Theirs = upstream.stats.StatsEntry


def logged(milliseconds: list[Any]) -> StatsEntry:
    kept = RequestStats()
    for each in milliseconds:
        kept.log_request("TCP", "word", each, 0)
    return kept.get("word", "TCP")


@given(st.lists(st.integers(1, 999), min_size=1, max_size=20))
def test_percentiles_of_three_digits_are_those_of_locust(milliseconds: list[int]) -> None:
    entry = logged(milliseconds)
    for share in SHARES:
        assert entry.get_response_time_percentile(share) == Theirs.get_response_time_percentile(entry, share)
        current = Theirs.get_current_response_time_percentile(entry, share)
        assert entry.get_current_response_time_percentile(share) == current


@given(st.lists(st.floats(0.001, 1e5), min_size=1, max_size=20))
def test_percentiles_are_those_of_locust_within_minimum_and_maximum(milliseconds: list[float]) -> None:
    entry = logged(milliseconds)
    for share in SHARES:
        theirs = Theirs.get_response_time_percentile(entry, share)
        expected = max(min(milliseconds), min(theirs, max(milliseconds)))
        assert entry.get_response_time_percentile(share) == expected
