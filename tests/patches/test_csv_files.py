"""locust_tcp/patches/csv_files.py."""

import csv
import io
import time
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from locust.env import Environment
from locust.stats import PERCENTILES_TO_REPORT, RequestStats, StatsCSV, StatsCSVFileWriter

from locust_tcp.metrics.rounding import three_digits
from locust_tcp.patches import csv_files
from tests import kit
from tests.patches import upstream
from tests.patches.test_histograms import logged


@given(st.lists(st.integers(1, 999), max_size=20))
def test_percentiles_of_whole_milliseconds_are_those_of_locust(milliseconds: list[int]) -> None:
    entry, writer = logged(milliseconds), StatsCSV(Environment(), PERCENTILES_TO_REPORT)
    assert writer._percentile_fields(entry) == upstream.stats.StatsCSV._percentile_fields(writer, entry)


def test_percentiles_of_the_last_seconds_are_those_of_locust_but_for_those_of_nothing() -> None:
    entry, writer = RequestStats().get("word", "TCP"), StatsCSV(Environment(), [0.5, 1.0])

    def ours_and_locusts() -> tuple[list[Any], list[Any]]:
        theirs = upstream.stats.StatsCSV._percentile_fields(writer, entry, use_current=True)
        return writer._percentile_fields(entry, use_current=True), theirs

    def cache() -> None:
        entry.response_times_cache = OrderedDict()
        entry._cache_response_times(int(time.time()) - 10)

    cache()
    entry.log(7, 0)
    assert ours_and_locusts() == ([7, 7], [7, 7])
    cache()
    assert ours_and_locusts() == (["N/A", "N/A"], [0, 0])  # no reply for 10 s
    entry.response_times_cache = OrderedDict()
    assert ours_and_locusts() == (["N/A", "N/A"], [0, 0])  # the first seconds of a run


def times_of_a_row(*milliseconds: float | None) -> set[str]:
    """Return the times of the row of such requests, which stands between others."""
    environment, out = Environment(), io.StringIO()
    for name, made in (("a", (8,)), ("log line", milliseconds), ("z", (9,))):
        for each in made:
            environment.stats.log_request("TCP", name, each, 3)  # type: ignore[arg-type]
    StatsCSV(environment, [0.5, 1.0]).requests_csv(csv.writer(out))
    before, row, *after = csv.DictReader(io.StringIO(out.getvalue()))
    assert "N/A" not in {*before.values(), *(value for each in after for value in each.values())}
    times = {column: row.pop(column) for column in [*row] if column.endswith(("Response Time", "%"))}
    assert len(times) == 6
    assert "N/A" not in row.values()
    return set(times.values())


def test_requests_without_a_response_time_took_not_0_ms() -> None:
    assert times_of_a_row(None, None) == {"N/A"}
    assert times_of_a_row(None, 0.25) == {"0.25"}
    assert {float(time) for time in times_of_a_row(0)} == {0.0}  # another user's event may say so


def test_an_empty_row_is_locusts() -> None:
    out, theirs = io.StringIO(), io.StringIO()
    StatsCSV(Environment(), PERCENTILES_TO_REPORT).requests_csv(csv.writer(out))
    upstream.stats.StatsCSV(Environment(), PERCENTILES_TO_REPORT).requests_csv(csv.writer(theirs))
    assert out.getvalue() == theirs.getvalue()


@given(st.lists(st.floats(0.001, 1e5), min_size=1, max_size=20))
def test_times_have_three_digits_and_percentiles_lie_between_minimum_and_maximum(milliseconds: list[float]) -> None:
    environment, out = Environment(), io.StringIO()
    for each in milliseconds:
        environment.stats.log_request("TCP", "word", each, 3)  # type: ignore[arg-type]
    StatsCSV(environment, PERCENTILES_TO_REPORT).requests_csv(csv.writer(out))
    for row in csv.DictReader(io.StringIO(out.getvalue())):
        times = {column: float(row[column]) for column in row if column.endswith(("Response Time", "%"))}
        assert times == {column: three_digits(value) for column, value in times.items()}
        percentiles = [value for column, value in times.items() if column.endswith("%")]
        assert percentiles == sorted(percentiles)
        assert times["Min Response Time"] <= percentiles[0] <= percentiles[-1] == times["Max Response Time"]


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
    assert (tmp_path / "run_stats_history.csv").read_text().split(",")[17] == "1"  # all requests so far
    writer.close_files()
    assert not writer.requests_csv_filehandle.closed


@pytest.fixture
def full(tmp_path: Path) -> Path:
    """Return the prefix of CSVs, of which the file of the statistics has no room left on its device."""
    (tmp_path / "run_stats.csv").symlink_to("/dev/full")
    csv_files._log_once.cache_clear()
    return tmp_path / "run"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_is_one_line_and_costs_no_other_file(full: Path, caplog: pytest.LogCaptureFixture) -> None:
    environment = Environment()
    writer = StatsCSVFileWriter(environment, PERCENTILES_TO_REPORT, str(full))
    writer.stats_writer()  # ends
    environment.stats.log_request("TCP", "word", 1, 6)
    environment.stats.log_error("TCP", "word", "reply: wrong")
    environment.events.quit.fire(exit_code=0)
    writer.close_files()
    assert caplog.messages == [
        f"--csv: can't write {full}_*.csv: No space left on device. The CSVs of this run are not complete."
    ]
    assert columns(kit.rows(Path(f"{full}_failures.csv")), "Error") == [("reply: wrong",)]
    writer.requests_csv_filehandle.close()  # as at the end of the process


def test_a_file_without_its_last_rows_is_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    environment = Environment()
    writer = StatsCSVFileWriter(environment, PERCENTILES_TO_REPORT, f"{tmp_path}/run")
    writer.requests_csv(writer.requests_csv_writer)
    writer.requests_flush()

    def fail(_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(writer, "requests_csv", fail)
    environment.events.quit.fire(exit_code=0)
    assert (tmp_path / "run_stats.csv").read_text() == ""
    assert (tmp_path / "run_failures.csv").read_text()
