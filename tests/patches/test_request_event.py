"""locust_tcp/patches/request_event.py."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from locust import User, stats
from locust.env import Environment
from locust.stats import RequestStats

from locust_tcp.metrics.rounding import three_digits
from locust_tcp.patches import request_event
from locust_tcp.patches.request_event import RequestEvent


class Idle(User):
    """A user whose environment is all that matters."""

    host = "tcp://nobody.invalid:1"


@pytest.fixture
def environment() -> Environment:
    environment = Environment()
    environment.create_local_runner()
    return environment


def fire(
    user: User,
    name: str,
    response_time: float | None,
    length: int,
    exception: Exception | None = None,
    direct: bool = True,
) -> None:
    RequestEvent(user, "TCP", direct).fire(name, 1.5, response_time, length, "reply", exception)


def contents(kept: RequestStats) -> list[dict[str, Any]]:
    """Return all that the statistics hold, row by row."""
    rows = [kept.total, *kept.entries.values()]
    return [{key: value for key, value in vars(row).items() if key not in ("stats", "start_time")} for row in rows]


requests = st.tuples(
    st.floats(0, 1.5),  # seconds since the one before
    st.sampled_from(["word", "sentence"]),
    st.floats(0.001, 1e5),  # milliseconds
    st.integers(0, 10_000),  # bytes
)


@pytest.mark.parametrize("direct", [True, False])
@given(made=st.lists(requests, max_size=20))
def test_the_statistics_are_those_that_locust_keeps(direct: bool, made: list[tuple[float, str, float, int]]) -> None:
    assert stats.bucket_response_time is three_digits
    now = 1_000_000.25
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("time.time", lambda: now)
        environment = Environment()
        environment.create_local_runner()
        user, theirs = Idle(environment), RequestStats()
        for wait, name, response_time, length in made:
            now += wait
            fire(user, name, response_time, length, direct=direct)
            theirs.log_request("TCP", name, response_time, length)  # type: ignore[arg-type]
        assert contents(environment.stats) == contents(theirs)


def test_any_other_listener_gets_the_event(environment: Environment) -> None:
    events: list[dict[str, Any]] = []
    user = Idle(environment)
    fire(user, "word", 1.0, 6)
    environment.events.request.add_listener(lambda **event: events.append(event))  # in the middle of a test
    fire(user, "word", 2.0, 7)
    assert events == [
        {
            "request_type": "TCP",
            "name": "word",
            "start_time": 1.5,
            "response_time": 2.0,
            "response_length": 7,
            "response": "reply",
            "url": "tcp://nobody.invalid:1",
            "context": {},
            "exception": None,
        }
    ]
    assert environment.stats.get("word", "TCP").num_requests == 2


@pytest.fixture
def fired(environment: Environment, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the names of the requests that went through the hook of the event."""
    names: list[str] = []
    hook = environment.events.request

    def count(**event: Any) -> None:
        names.append(event["name"])
        type(hook).fire(hook, **event)

    monkeypatch.setattr(hook, "fire", count)
    return names


def test_the_event_is_fired_but_for_a_success_that_only_the_statistics_hear(
    environment: Environment, fired: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    user = Idle(environment)
    fire(user, "shortcut", 1.0, 6)
    assert fired == []
    fire(user, "failure", 1.0, 6, ValueError("wrong"))
    fire(user, "no time", None, 6)
    fire(user, "switched off", 1.0, 6, direct=False)
    with monkeypatch.context() as patch:
        patch.setattr(request_event.PATCH, "applied", False)
        fire(user, "another Locust", 1.0, 6)
    environment.runner = None
    environment.create_local_runner()  # its listener adds each request a second time
    fire(user, "two runners", 1.0, 6)
    assert fired == ["failure", "no time", "switched off", "another Locust", "two runners"]
    counts = [entry.num_requests for entry in environment.stats.entries.values()]
    assert counts == [1, 1, 1, 1, 1, 2]
    assert [each.occurrences for each in environment.stats.errors.values()] == [1]


def test_without_a_runner_nothing_is_counted() -> None:
    environment = Environment()  # Locust's statistics do not listen
    fire(Idle(environment), "word", 1.0, 6)
    assert environment.stats.total.num_requests == 0
