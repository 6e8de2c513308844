"""locust_tcp/pacing.py. tests/swarm/test_schedule.py has real swarms."""

import random
import time
from statistics import fmean
from types import SimpleNamespace
from typing import Any

import pytest

from locust_tcp.pacing import on_schedule

USERS = 2000


def first_gaps(schedule: Any, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return after how many seconds the first task of each of many users is due, which begin together."""
    monkeypatch.setattr(time, "perf_counter", lambda: 1000.0)
    users: list[Any] = [SimpleNamespace(due=None) for _ in range(USERS)]
    waits = [schedule(user) for user in users]
    assert waits == [user.due - 1000.0 for user in users]
    return waits


def test_the_first_task_of_each_user_is_due_at_another_time_of_its_first_gap(monkeypatch: pytest.MonkeyPatch) -> None:
    waits = sorted(first_gaps(on_schedule(0.5), monkeypatch))
    assert waits[0] >= 0 and waits[-1] <= 2
    assert max(later - earlier for earlier, later in zip([0, *waits], [*waits, 2], strict=True)) < 3 * 2 / USERS


def test_where_the_first_user_begins_is_left_to_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "perf_counter", lambda: 1000.0)
    random.seed(1)
    first = [on_schedule(1)(user) for user in (SimpleNamespace(due=None) for _ in range(USERS))]
    assert [sum(tenth <= 10 * wait < tenth + 1 for wait in first) for tenth in range(10)] == pytest.approx(
        [USERS / 10] * 10, rel=0.25
    )


def test_the_first_gap_of_random_arrivals_is_exponential(monkeypatch: pytest.MonkeyPatch) -> None:
    random.seed(1)
    waits = first_gaps(on_schedule(0.5, "poisson"), monkeypatch)
    assert fmean(waits) == pytest.approx(2, rel=0.1)
    for gaps, share in ((1, 0.368), (2, 0.135), (3, 0.050)):  # e**-gaps
        assert sum(wait > 2 * gaps for wait in waits) / USERS == pytest.approx(share, abs=0.03)


def test_an_edited_rate_goes_on_from_the_last_due_time() -> None:
    user: Any = SimpleNamespace(due=time.perf_counter() + 60)
    before = user.due
    on_schedule(4)(user)
    assert user.due == pytest.approx(before + 1 / 4)
