"""The console's tables with three significant digits."""

from locust import stats
from locust.stats import StatsEntry

from locust_tcp.metrics.rounding import three_digits
from locust_tcp.patches import histograms
from locust_tcp.patches.guard import Patch


def _cell(milliseconds: float) -> str:
    """Return the text of a time. The table's columns are seven characters wide and touch each other."""
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
    return f"{name}   {cells} {self.num_requests:>6}"  # the first column is eight wide


PATCH = Patch(
    lost="sub-millisecond digits in the console",
    tested={
        "locust.stats:get_stats_summary": {
            "6ea6ecf9ceb6dbce",  # 2.32.0
            "9cb1ec1186f8967b",  # 2.33.2
        },
        "locust.stats:get_percentile_stats_summary": {
            "f36d3b7ff17238ff",  # 2.32.0
            "a639d758afc6ee51",  # 2.33.2
            "5a21b4200264e165",  # 2.46.7
        },
        "locust.stats:StatsEntry.to_string": {
            "cbe8bc64987b9fee",  # 2.32.0
            "428fbee77ea0cd66",  # 2.46.7
        },
        "locust.stats:StatsEntry.percentile": {
            "a02d46f862dd426d",  # 2.32.0
            "7546172450467b2b",  # 2.46.7
        },
    },
    replacements={
        "locust.stats:StatsEntry.to_string": _to_string,
        "locust.stats:StatsEntry.percentile": _percentile_line,
    },
    requires=[histograms.PATCH],
)
