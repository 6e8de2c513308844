"""The web page's and the report's numbers with three significant digits."""

from typing import Any

from locust.stats import StatsEntry

from locust_tcp.metrics.rounding import three_digits
from locust_tcp.patches import histograms
from locust_tcp.patches.guard import Patch

_upstream_to_dict = StatsEntry.to_dict


def _to_dict(self: StatsEntry, escape_string_values: bool = False) -> dict[str, Any]:
    # Locust rounds minimum and maximum to whole milliseconds.
    exact = {"min_response_time": self.min_response_time or 0.0, "max_response_time": self.max_response_time}
    row: dict[str, Any] = _upstream_to_dict(self, escape_string_values) | exact
    return {key: three_digits(value or 0) if "response_time" in key else value for key, value in row.items()}


def _rounded(value: float, digits: int = 0) -> float:
    """Stand in for Locust's `proper_round`, which update_stats_history applies to the average."""
    return three_digits(value)


TABLES = Patch(
    lost="sub-millisecond digits in the tables of the web page and the report",
    tested={
        "locust.stats:StatsEntry.to_dict": {
            "4afabd9489a55071",  # 2.32.0
            "eb3c724fe30977ee",  # 2.37.13
            "8edc41e902e20437",  # 2.46.0
        },
        "locust.stats:StatsEntry.median_response_time": {
            "4ce856529a9f3da1",  # 2.32.0
            "5494ce4647fbe5ba",  # 2.46.6
        },
    },
    replacements={"locust.stats:StatsEntry.to_dict": _to_dict},
    requires=[histograms.PATCH],
)

CHARTS = Patch(
    lost="sub-millisecond digits of the average in the charts",
    tested={
        "locust.stats:update_stats_history": {
            "026062ab04865b23",  # 2.32.0
            "5a19d12fb93797a6",  # 2.32.2
        },
        "locust.stats:proper_round": {
            "e616b147c98a8404",  # 2.32.0
            "6b8497c743840cc3",  # 2.46.0
        },
    },
    replacements={"locust.stats:proper_round": _rounded},
    requires=[histograms.PATCH, TABLES],  # to_dict rounds with it too
)
