"""Percentiles within the exact minimum and maximum.

A percentile is the middle of a bucket of the histogram: it can lie outside by half a bucket.
"""

from locust.stats import StatsEntry

from locust_tcp.patches import histograms
from locust_tcp.patches.guard import Patch

_get_percentile = StatsEntry.get_response_time_percentile
_get_current_percentile = StatsEntry.get_current_response_time_percentile


def _within(entry: StatsEntry, percentile: float | None) -> float | None:
    if not percentile or entry.min_response_time is None:
        return percentile
    return max(entry.min_response_time, min(percentile, entry.max_response_time))


def _percentile(self: StatsEntry, percent: float) -> float | None:
    return _within(self, _get_percentile(self, percent))


def _current_percentile(self: StatsEntry, percent: float) -> float | None:
    return _within(self, _get_current_percentile(self, percent))


PATCH = Patch(
    lost="percentiles within the exact minimum and maximum",
    tested={
        "locust.stats:calculate_response_time_percentile": {"6246ddfa16c19e7d"},
        "locust.stats:StatsEntry.get_response_time_percentile": {
            "2135867a53cbaa6b",  # 2.32.0
            "cc50187fd29b396e",  # 2.46.2
        },
        "locust.stats:StatsEntry.get_current_response_time_percentile": {
            "c4a52049df7a199e",  # 2.32.0
            "3350fcb0bda1400e",  # 2.37.0
            "811dde6692bf5c2e",  # 2.46.2
        },
    },
    replacements={
        "locust.stats:StatsEntry.get_response_time_percentile": _percentile,
        "locust.stats:StatsEntry.get_current_response_time_percentile": _current_percentile,
    },
    requires=[histograms.PATCH],
)
