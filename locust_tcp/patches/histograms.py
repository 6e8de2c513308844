"""Histograms of response times with three significant digits.

Locust rounds response times below 100 ms to whole milliseconds, so that every reply of a service
on the same machine takes 0 ms.
"""

from typing import Any

from locust import stats
from locust.stats import StatsEntry

from locust_tcp.metrics.rounding import three_digits
from locust_tcp.patches.guard import ABSENT, Patch


def _log_response_time(self: StatsEntry, response_time: float | None) -> None:
    """Do the work of Locust's method with another rounding."""
    if response_time is None:
        self.num_none_requests += 1
        return
    entry: Any = self  # Locust's type hints say int
    entry.total_response_time += response_time
    least = entry.min_response_time
    entry.min_response_time = response_time if least is None else min(least, response_time)
    entry.max_response_time = max(entry.max_response_time, response_time)
    entry.response_times[three_digits(response_time)] += 1


# Since 2.43.4 the rounding is a function of its own, which may be replaced ("Customizing response time
# bucketing" in Locust's documentation).
_BUCKETS = "locust.stats:bucket_response_time"
_LOG = "locust.stats:StatsEntry._log_response_time"

PATCH = Patch(
    lost="all sub-millisecond digits",
    tested={
        _BUCKETS: {ABSENT, "e175a7d2fc0c29ed"},
        _LOG: {
            "6d37965717b40503",  # 2.32.0
            "649af08ae4305143",  # 2.43.4
        },
    },
    replacements={_BUCKETS: three_digits} if hasattr(stats, "bucket_response_time") else {_LOG: _log_response_time},
)
