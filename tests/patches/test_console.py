"""locust_tcp/patches/console.py."""

from hypothesis import given
from hypothesis import strategies as st

from locust_tcp.metrics.rounding import three_digits
from locust_tcp.patches.console import _cell
from tests.patches import upstream
from tests.patches.test_histograms import logged

Theirs = upstream.stats.StatsEntry


@given(st.floats(min_value=0.0, max_value=99_999.0))
def test_a_time_fits_into_its_column(milliseconds: float) -> None:
    cell = _cell(milliseconds)
    assert len(cell) <= 6
    assert float(cell) == three_digits(milliseconds)


@given(st.integers(1, 999), st.integers(1, 5), st.integers(0, 2))
def test_lines_with_whole_milliseconds_are_those_of_locust(milliseconds: int, requests: int, failures: int) -> None:
    entry = logged([milliseconds] * requests)
    for _ in range(failures):
        entry.log_error(ValueError())
    for current in (True, False):
        assert entry.to_string(current) == Theirs.to_string(entry, current)
    assert entry.percentile() == Theirs.percentile(entry)


def test_lines_show_three_digits() -> None:
    entry = logged([0.12345])
    assert " 0.123   0.123   0.123  0.123 |" in entry.to_string()
    assert entry.percentile().count(" 0.123") == 11
