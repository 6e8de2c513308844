"""locust_tcp/patches/rows.py."""

import math
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from locust import User
from locust.env import Environment
from locust.stats import update_stats_history

from locust_tcp.metrics.rounding import three_digits
from tests.patches import upstream
from tests.patches.test_histograms import logged

times = st.lists(st.floats(0.001, 1e5), max_size=20)


@given(times)
def test_a_row_differs_from_locusts_in_the_digits_only(milliseconds: list[float]) -> None:
    entry = logged(milliseconds)
    ours: dict[str, Any] = {**entry.to_dict()}
    theirs = upstream.stats.StatsEntry.to_dict(entry)
    assert ours.keys() == theirs.keys()
    for key, value in theirs.items():
        if "response_time" in key:  # Locust rounds some to whole milliseconds, and some not at all
            assert math.isclose(ours[key], value, rel_tol=0.0051, abs_tol=0.51)
            assert ours[key] == three_digits(ours[key])
        else:
            assert ours[key] == value


def test_the_average_of_the_charts_has_three_digits() -> None:
    environment = Environment(user_classes=[User])
    runner = environment.create_local_runner()
    environment.stats.log_request("TCP", "word", 0.12345, 0)  # type: ignore[arg-type]
    update_stats_history(runner)
    ours = environment.stats.history[-1]
    upstream.stats.update_stats_history(runner)
    theirs = environment.stats.history[-1]
    assert ours.pop("total_avg_response_time")[1] == 0.123
    assert theirs.pop("total_avg_response_time")[1] == 0.12
    assert ours.keys() == theirs.keys()
