"""The CSV files with three significant digits, up to the end of the run."""

import csv
import time
from typing import Any

from locust.env import Environment
from locust.stats import StatsCSV, StatsCSVFileWriter, StatsEntry

from locust_tcp.patches import histograms, percentiles
from locust_tcp.patches.guard import Patch

_upstream_init = StatsCSVFileWriter.__init__


def _percentile_fields(self: StatsCSV, entry: StatsEntry, use_current: bool = False) -> list[Any]:
    # Locust makes whole numbers of them.
    if not entry.num_requests:
        return self.percentiles_na
    current = use_current and entry.use_response_times_cache
    percentile = entry.get_current_response_time_percentile if current else entry.get_response_time_percentile
    return [percentile(percent) or 0 for percent in self.percentiles_to_report]


def _init(self: StatsCSVFileWriter, environment: Environment, *arguments: Any, **options: Any) -> None:
    _upstream_init(self, environment, *arguments, **options)
    environment.events.quit.add_listener(lambda **_: _write_last_rows(self))


def _write_last_rows(writer: StatsCSVFileWriter) -> None:
    # Locust's last rows are up to CSV_STATS_INTERVAL_SEC older than the last exchange.
    for file, write in (
        (writer.requests_csv_filehandle, writer.requests_csv),
        (writer.failures_csv_filehandle, writer.failures_csv),
        (writer.exceptions_csv_filehandle, writer.exceptions_csv),
    ):
        file.seek(0)
        write(csv.writer(file))
        file.truncate()
    writer._stats_history_data_rows(writer.stats_history_csv_writer, time.time())
    _flush(writer)


def _flush(self: StatsCSVFileWriter) -> None:
    """Flush the files. The end of the process closes them: Locust's greenlet may write until then."""
    self.requests_flush()
    self.failures_flush()
    self.exceptions_flush()
    self.stats_history_flush()


PERCENTILES = Patch(
    lost="sub-millisecond digits in the CSV's percentiles",
    tested={
        "locust.stats:StatsCSV._percentile_fields": {
            "0ee36568a7e9c69a",  # 2.32.0
            "d13382582fd8d21e",  # 2.47.0
        }
    },
    replacements={"locust.stats:StatsCSV._percentile_fields": _percentile_fields},
    requires=[histograms.PATCH, percentiles.PATCH],
)

LAST_ROWS = Patch(
    lost="the last second of the run in the CSV",
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
        "locust.stats:StatsCSVFileWriter.close_files": _flush,
    },
)
