"""locust_tcp/patches/csv_files.py."""

from collections.abc import Mapping
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from locust.env import Environment
from locust.stats import PERCENTILES_TO_REPORT, StatsCSV, StatsCSVFileWriter

from tests import kit
from tests.patches import upstream
from tests.patches.test_percentiles import logged


@given(st.lists(st.integers(1, 999), max_size=20))
def test_percentiles_of_whole_milliseconds_are_those_of_locust(milliseconds: list[int]) -> None:
    entry, writer = logged(milliseconds), StatsCSV(Environment(), PERCENTILES_TO_REPORT)
    for current in (True, False):
        theirs = upstream.stats.StatsCSV._percentile_fields(writer, entry, use_current=current)
        assert writer._percentile_fields(entry, use_current=current) == theirs


def test_percentiles_have_three_digits() -> None:
    writer = StatsCSV(Environment(), [0.5, 1.0])
    assert writer._percentile_fields(logged([0.1, 0.1234, 0.1234, 0.5678])) == [0.123, 0.5678]  # the exact maximum


def columns(rows: list[Mapping[str, str]], *names: str) -> list[tuple[str, ...]]:
    return [tuple(row[name] for name in names) for row in rows]


def test_the_files_have_all_requests_when_locust_quits(tmp_path: Path) -> None:
    environment = Environment()
    writer = StatsCSVFileWriter(environment, PERCENTILES_TO_REPORT, f"{tmp_path}/run")
    environment.create_local_runner()
    environment.stats.log_request("TCP", "word", 1, 6)
    environment.stats.log_error("TCP", "word", "reply: wrong")
    environment.events.quit.fire(exit_code=0)
    for row in kit.rows(tmp_path / "run_stats.csv"):
        assert (row["Request Count"], row["Failure Count"]) == ("1", "1")
    assert columns(kit.rows(tmp_path / "run_failures.csv"), "Error", "Occurrences") == [("reply: wrong", "1")]
    assert kit.rows(tmp_path / "run_exceptions.csv") == []
    assert (tmp_path / "run_stats_history.csv").read_text().split(",")[14] == "1"  # all requests so far
    writer.close_files()
    assert not writer.requests_csv_filehandle.closed
