"""The CSV files: three significant digits, N/A where nothing was measured, up to the end of the run.

A disk that fills up costs the files and not the run: one line in the log says so.
"""

import contextlib
import csv
import functools
import logging
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

from locust.env import Environment
from locust.stats import StatsCSV, StatsCSVFileWriter, StatsEntry, sort_stats

from locust_tcp.metrics.rounding import three_digits
from locust_tcp.patches import histograms
from locust_tcp.patches.guard import Patch

logger = logging.getLogger(__name__)

NOT_MEASURED = "N/A"  # as Locust writes for the percentiles of an entry without requests

_upstream_init = StatsCSVFileWriter.__init__
_upstream_stats_writer = StatsCSVFileWriter.stats_writer
_upstream_requests_rows = StatsCSV._requests_data_rows
_upstream_history_rows = StatsCSVFileWriter._stats_history_data_rows


def _percentile_fields(self: StatsCSV, entry: StatsEntry, use_current: bool = False) -> list[Any]:
    # Locust makes whole numbers of them, and 0 where no request had a response time.
    current = use_current and entry.use_response_times_cache
    percentile = entry.get_current_response_time_percentile if current else entry.get_response_time_percentile
    nothing = 0 if 0 in entry.response_times else NOT_MEASURED
    return [_shown(percentile(percent)) or nothing for percent in self.percentiles_to_report]


def _shown(milliseconds: float | None) -> float:
    rounded = three_digits(milliseconds or 0.0)
    return int(rounded) if rounded == int(rounded) else rounded  # 10 and not 10.0, as Locust writes it


class _MeasuredTimes:
    """Writes the rows of some entries to a CSV, with three digits of each time, and N/A where there is none."""

    def __init__(self, writer: Any, columns: Sequence[str], entries: Sequence[StatsEntry]) -> None:
        self._writer = writer
        self._times = [place for place, column in enumerate(columns) if column.endswith("Response Time")]
        self._entries = iter(entries)

    def writerow(self, cells: Iterable[Any]) -> None:
        """Write the row of the next entry."""
        row, entry = list(cells), next(self._entries)
        for place in self._times:
            if entry.num_requests and not entry.response_times:
                row[place] = NOT_MEASURED  # requests without a response time did not take 0 ms
            elif row[place]:
                row[place] = _shown(row[place])
        self._writer.writerow(row)


def _requests_rows(self: StatsCSV, csv_writer: Any) -> None:
    stats = self.environment.stats
    entries = [*sort_stats(stats.entries), stats.total]
    _upstream_requests_rows(self, _MeasuredTimes(csv_writer, self.requests_csv_columns, entries))


def _history_rows(self: StatsCSVFileWriter, csv_writer: Any, now: float) -> None:
    stats = self.environment.stats
    entries = [*(sort_stats(stats.entries) if self.full_history else ()), stats.total]
    _upstream_history_rows(self, _MeasuredTimes(csv_writer, self.stats_history_csv_columns, entries), now)


def _init(self: StatsCSVFileWriter, environment: Environment, *arguments: Any, **options: Any) -> None:
    _upstream_init(self, environment, *arguments, **options)
    environment.events.quit.add_listener(lambda **_: _write_last_rows(self))


def _stats_writer(self: StatsCSVFileWriter) -> None:
    with _or_one_line(self):
        _upstream_stats_writer(self)


def _write_last_rows(writer: StatsCSVFileWriter) -> None:
    # Locust's last rows are up to CSV_STATS_INTERVAL_SEC older than the last exchange.
    for file, write in (
        (writer.requests_csv_filehandle, writer.requests_csv),
        (writer.failures_csv_filehandle, writer.failures_csv),
        (writer.exceptions_csv_filehandle, writer.exceptions_csv),
    ):
        with _or_one_line(writer, file):
            file.seek(0)
            write(csv.writer(file))
            file.truncate()
            file.flush()
    with _or_one_line(writer, writer.stats_history_csv_filehandle, is_rewritten=False):
        writer._stats_history_data_rows(writer.stats_history_csv_writer, time.time())
        writer.stats_history_flush()


def _flush(self: StatsCSVFileWriter) -> None:
    """Flush the files. The end of the process closes them: Locust's greenlet may write until then."""
    with _or_one_line(self):
        self.requests_flush()
        self.failures_flush()
        self.exceptions_flush()
        self.stats_history_flush()


@contextlib.contextmanager
def _or_one_line(writer: StatsCSVFileWriter, file: TextIO | None = None, is_rewritten: bool = True) -> Iterator[None]:
    """Log one line where the disk is full.

    Args:
        writer: Whose files are written.
        file: The file, if it is written for the last time.
        is_rewritten: Whether the last rows replace those before. Without them the file is emptied:
            figures of an earlier second are not those of the run.
    """
    try:
        yield
    except OSError as error:
        _log_once(writer.base_filepath, error.strerror)
        if file and is_rewritten:
            with contextlib.suppress(OSError):
                os.ftruncate(file.fileno(), 0)
        if file:  # Python writes what it still has in memory when the process ends
            with Path(os.devnull).open("w") as nowhere:
                os.dup2(nowhere.fileno(), file.fileno())


@functools.cache  # once
def _log_once(prefix: str, reason: str) -> None:
    logger.error("--csv: can't write %s_*.csv: %s. The CSVs of this run are not complete.", prefix, reason)


PERCENTILES = Patch(
    lost="sub-millisecond digits in the CSV's percentiles, and N/A where nothing was measured",
    tested={
        "locust.stats:StatsCSV._percentile_fields": {
            "0ee36568a7e9c69a",  # 2.32.0
            "d13382582fd8d21e",  # 2.47.0
        }
    },
    replacements={"locust.stats:StatsCSV._percentile_fields": _percentile_fields},
    requires=[histograms.PATCH],
)

TIMES = Patch(
    lost="three digits of the CSV's times, and N/A for requests that have none",
    tested={
        "locust.stats:StatsCSV._requests_data_rows": {"b576fe908a41f552"},
        "locust.stats:StatsCSVFileWriter._stats_history_data_rows": {
            "ebe182a74087fadc",  # 2.32.0
            "d6d9d32cb8808910",  # 2.46.7
        },
    },
    replacements={
        "locust.stats:StatsCSV._requests_data_rows": _requests_rows,
        "locust.stats:StatsCSVFileWriter._stats_history_data_rows": _history_rows,
    },
)

LAST_ROWS = Patch(
    lost="the last second of the run in the CSV, and one line instead of a traceback where the disk is full",
    tested={
        "locust.stats:StatsCSV.requests_csv": {"12759cd3da1e15d8"},
        "locust.stats:StatsCSV.failures_csv": {"7924788b95d1b9b5"},
        "locust.stats:StatsCSV.exceptions_csv": {"ca3f3a964b09dfa1"},
        "locust.stats:StatsCSVFileWriter.__init__": {"957d35a21800c91b"},
        "locust.stats:StatsCSVFileWriter.stats_writer": {
            "007d3a6c211a9257",  # 2.32.0
            "e17f0d89cc499170",  # 2.43.0
        },
        "locust.stats:StatsCSVFileWriter._stats_history_data_rows": {
            "ebe182a74087fadc",  # 2.32.0
            "d6d9d32cb8808910",  # 2.46.7
        },
        "locust.stats:StatsCSVFileWriter.close_files": {"852af3bd42cb9ed7"},
    },
    replacements={
        "locust.stats:StatsCSVFileWriter.__init__": _init,
        "locust.stats:StatsCSVFileWriter.stats_writer": _stats_writer,
        "locust.stats:StatsCSVFileWriter.close_files": _flush,
    },
)
