"""Locust's tables, charts, CSVs and reports with three significant digits, below a millisecond too.

Locust rounds response times under 100 ms to whole milliseconds, in its histograms and again where it
shows them, so that everything a service on the same machine does takes 0. This is the one module that
reaches into Locust's internals: each reach names the upstream function, and tests/swarm/test_reports.py
fails when a new Locust changes what it rests on.
"""

import csv
import re
import time
from typing import Any

import gevent
import locust.main
import locust.web
from flask import Response, request
from locust import events, stats
from locust.env import Environment
from locust.html import get_html_report
from locust.rpc import Message
from locust.runners import MasterRunner
from locust.stats import StatsCSV, StatsCSVFileWriter, StatsEntry

from locust_tcp.metrics.rounding import three_digits

LAST_REPORTS = 2.0  # seconds for workers to report when their users have stopped; mostly it takes some milliseconds


def _within(entry: StatsEntry, percentile: float | None) -> float | None:
    """Keep a percentile, which is a bucket's middle, between the exact minimum and maximum."""
    if not percentile or entry.min_response_time is None:
        return percentile
    return max(entry.min_response_time, min(percentile, entry.max_response_time))


class _Upstream:
    """Locust's own functions, where ours call them."""

    to_dict = StatsEntry.to_dict
    percentile = StatsEntry.get_response_time_percentile
    current_percentile = StatsEntry.get_current_response_time_percentile
    html_report = staticmethod(get_html_report)


def _percentile(self: StatsEntry, percent: float) -> float | None:
    return _within(self, _Upstream.percentile(self, percent))


def _current_percentile(self: StatsEntry, percent: float) -> float | None:
    return _within(self, _Upstream.current_percentile(self, percent))


def _to_dict(self: StatsEntry, escape_string_values: bool = False) -> dict[str, Any]:
    # Minimum and maximum are rounded to whole milliseconds upstream.
    exact = {"min_response_time": self.min_response_time or 0.0, "max_response_time": self.max_response_time}
    row: dict[str, Any] = _Upstream.to_dict(self, escape_string_values) | exact
    return {key: three_digits(value or 0) if "response_time" in key else value for key, value in row.items()}


def _percentile_fields(self: StatsCSV, entry: StatsEntry, use_current: bool = False) -> list[Any]:
    # Upstream makes whole numbers of them.
    if not entry.num_requests:
        return self.percentiles_na
    current = use_current and entry.use_response_times_cache
    percentile = entry.get_current_response_time_percentile if current else entry.get_response_time_percentile
    return [percentile(percent) or 0 for percent in self.percentiles_to_report]


def _close_files(self: StatsCSVFileWriter) -> None:
    # Upstream's last rows are up to CSV_STATS_INTERVAL_SEC older than the last exchange.
    for file, write in (
        (self.requests_csv_filehandle, self.requests_csv),
        (self.failures_csv_filehandle, self.failures_csv),
        (self.exceptions_csv_filehandle, self.exceptions_csv),
    ):
        file.seek(0)
        write(csv.writer(file))
        file.truncate()
        file.flush()
    self._stats_history_data_rows(self.stats_history_csv_writer, time.time())
    self.stats_history_csv_filehandle.flush()
    # Left open, and closed by the end of the process: upstream's greenlet may still write, and fail.


def _cell(milliseconds: float) -> str:
    """Return a time for the console's tables, whose columns of seven characters touch each other."""
    text = f"{three_digits(milliseconds):g}"
    return text if len(text) < 7 else text.removeprefix("0")


def _to_string(self: StatsEntry, current: bool = True) -> str:
    # The layout is that of the heading, which stats.get_stats_summary prints.
    times = (self.avg_response_time, self.min_response_time or 0, self.max_response_time, self.median_response_time)
    return "%-*s %-*s %7d %12s |%7s %7s %7s%7s | %7.2f %11.2f" % (  # noqa: UP031 - as upstream's, to compare
        stats.STATS_TYPE_WIDTH,
        self.method or "",
        stats.STATS_NAME_WIDTH - stats.STATS_TYPE_WIDTH + 4,
        self.name,
        self.num_requests,
        f"{self.num_failures}({self.fail_ratio:.2%})",
        *map(_cell, times),
        self.current_rps if current else self.total_rps,
        self.current_fail_per_sec if current else self.total_fail_per_sec,
    )


def _percentile_line(self: StatsEntry) -> str:
    # The layout is that of the heading, which stats.get_percentile_stats_summary prints.
    percentiles = [self.get_response_time_percentile(percent) or 0 for percent in stats.PERCENTILES_TO_REPORT]
    cells = " ".join(f"{_cell(value):>6}" for value in percentiles)
    name = f"{self.method or '':<{stats.STATS_TYPE_WIDTH}} {self.name:<{stats.STATS_NAME_WIDTH}}"
    return f"{name} {cells:>8} {self.num_requests:>6}"


_quitting: set[MasterRunner] = set()


def _quit(self: MasterRunner) -> None:
    # Upstream gives the workers half a second for their last reports; users have up to --stop-timeout.
    if self in _quitting:  # the last worker to leave has it quit again
        return
    _quitting.add(self)
    self.stop(send_stop_to_client=False)
    for client in self.clients.all:
        self.server.send_to_client(Message("quit", None, client.id))
    end = time.monotonic() + (self.environment.stop_timeout or 0) + LAST_REPORTS
    while self.worker_count and time.monotonic() < end:
        gevent.sleep(0.01)
    self.greenlet.kill(block=True)


# The page's own script rounds two columns to two decimals (StatsTable.tsx, HtmlReport.tsx). Our numbers
# are rounded already; six decimals show all of them.
_ROUNDED = re.compile(r'(key:(["`])(?:median|avg)ResponseTime\2,title:\2[^"`]*\2,round:)2\b')
_SCRIPT = re.compile(rb'(src="[^"]*/assets/[^"]*\.js)"')


def unrounded(script: str) -> str:
    """Return the script of Locust's page or report without the rounding of its median and average."""
    return _ROUNDED.sub(r"\g<1>6", script)


def _html_report(*arguments: Any, **options: Any) -> str:
    return unrounded(_Upstream.html_report(*arguments, **options))


# What of Locust is replaced. The first is documented ("customizing response time bucketing").
REPLACED: tuple[tuple[Any, str, Any], ...] = (
    (stats, "bucket_response_time", three_digits),
    (stats, "proper_round", lambda value, digits=0: three_digits(value)),  # update_stats_history: the average
    (StatsEntry, "get_response_time_percentile", _percentile),
    (StatsEntry, "get_current_response_time_percentile", _current_percentile),
    (StatsEntry, "to_dict", _to_dict),
    (StatsEntry, "to_string", _to_string),
    (StatsEntry, "percentile", _percentile_line),
    (StatsCSV, "_percentile_fields", _percentile_fields),
    (StatsCSVFileWriter, "close_files", _close_files),
    (MasterRunner, "quit", _quit),
    (locust.web, "get_html_report", _html_report),
    (locust.main, "get_html_report", _html_report),
)
for owner, name, ours in REPLACED:
    setattr(owner, name, ours)


@events.init.add_listener
def _serve_unrounded(environment: Environment, **_: Any) -> None:
    if environment.web_ui is None or environment.web_ui.app is None:
        return

    @environment.web_ui.app.after_request
    def unround(response: Response) -> Response:
        if response.mimetype == "text/html":
            # An address of its own: the browser may have kept another Locust's script.
            response.set_data(_SCRIPT.sub(rb'\1?three-digits"', response.get_data()))
        elif request.path.endswith(".js") and response.status_code == 200:
            response.direct_passthrough = False
            response.set_data(unrounded(response.get_data(as_text=True)))
        return response
