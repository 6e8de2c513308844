"""locust_tcp/patches/overhead.py: it does what Locust does, and Locust still does it so."""

import random
from collections import Counter
from typing import Any

import gevent
import pytest
from gevent.event import Event
from hypothesis import given
from hypothesis import strategies as st
from locust import User, constant, stats, task
from locust.env import Environment
from locust.stats import RequestStats
from locust.user.task import DefaultTaskSet

from locust_tcp.metrics.rounding import three_digits
from locust_tcp.patches import overhead
from locust_tcp.patches.overhead import RequestEvent
from tests import upstream

# What upstream.digest says of each function that overhead.py stands in for. If one differs, read what has
# changed upstream, see to overhead.py, and put the new one here.
UPSTREAM = {
    "locust.event:EventHook.fire": "4818601eee09f35de623aee0ea562992",
    "locust.runners:Runner.__init__.on_request": "080fc0bc2e02ef089442efa6179ae8a2",
    "locust.stats:RequestStats.log_request": "889247a1bd714987a328710caf5f8841",
    "locust.stats:StatsEntry.log": "b11d22113dd52e39cd2d9c1a5bce2941",
    "locust.stats:StatsEntry._log_time_of_request": "967fb3c2ce862bb4fc09d43f366e9f7a",
    "locust.stats:StatsEntry._log_response_time": "494b295b80497165af6dbb914a7f1aaa",
    "locust.user.task:TaskSet.wait": "66fb17a3e16b05a8ba42aebcefa27f0f",
    "locust.user.task:TaskSet._sleep": "e95831e0b9a081233b0f79533dbdcb70",
    "locust.user.task:DefaultTaskSet.get_next_task": "4fb3344eeae63c7f146e78a4379148a6",
}


@pytest.mark.parametrize("name", UPSTREAM)
def test_locust_is_still_what_the_overhead_rests_on(name: str) -> None:
    assert upstream.digest(name) == UPSTREAM[name]


class Idle(User):
    """A user whose environment is all that matters."""

    host = "tcp://nobody.invalid:1"


@pytest.fixture
def environment() -> Environment:
    environment = Environment()
    environment.create_local_runner()
    return environment


def fire(user: User, name: str, response_time: float, length: int, exception: Exception | None = None) -> None:
    RequestEvent(user, "TCP").fire(name, 1.5, response_time, length, "reply", exception)


def told(kept: RequestStats) -> list[dict[str, Any]]:
    """Everything that the statistics know, row by row."""
    rows = [kept.total, *kept.entries.values()]
    return [{key: value for key, value in vars(row).items() if key not in ("stats", "start_time")} for row in rows]


requests = st.tuples(
    st.floats(0, 1.5),  # seconds since the one before
    st.sampled_from(["word", "sentence"]),
    st.floats(0.001, 1e5),  # milliseconds
    st.integers(0, 10_000),  # bytes
)


@given(st.lists(requests, max_size=20))
def test_the_statistics_are_those_that_locust_keeps(made: list[tuple[float, str, float, int]]) -> None:
    assert stats.bucket_response_time is three_digits
    now = 1_000_000.25
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("time.time", lambda: now)
        environment = Environment()
        environment.create_local_runner()
        user, theirs = Idle(environment), RequestStats()
        for wait, name, response_time, length in made:
            now += wait
            fire(user, name, response_time, length)
            theirs.log_request("TCP", name, response_time, length)  # type: ignore[arg-type]
        assert told(environment.stats) == told(theirs)


def test_whoever_else_listens_hears_everything(environment: Environment) -> None:
    heard: list[dict[str, Any]] = []
    user = Idle(environment)
    fire(user, "word", 1.0, 6)
    environment.events.request.add_listener(lambda **event: heard.append(event))  # in the middle of a test
    fire(user, "word", 2.0, 7)
    assert heard == [
        {
            "request_type": "TCP",
            "name": "word",
            "start_time": 1.5,
            "response_time": 2.0,
            "response_length": 7,
            "response": "reply",
            "context": {},
            "exception": None,
        }
    ]
    assert environment.stats.get("word", "TCP").num_requests == 2


def test_a_failure_is_counted_as_locust_counts_it(environment: Environment) -> None:
    fire(Idle(environment), "word", 1.0, 0, ValueError("wrong"))
    assert environment.stats.get("word", "TCP").num_failures == 1
    assert [each.occurrences for each in environment.stats.errors.values()] == [1]


def test_everybody_who_waits_has_a_turn_before_anybody_has_two() -> None:
    rounds, users = 5, overhead.TURNS + 20  # more than one call of the event loop serves
    order: list[int] = []

    def run(number: int) -> None:
        for _ in range(rounds):
            order.append(number)
            overhead._turns.wait()

    gevent.joinall([gevent.spawn(run, number) for number in range(users)], raise_error=True)
    for begin in range(0, rounds * users, users):
        assert sorted(order[begin : begin + users]) == list(range(users))


def test_the_network_is_looked_at_while_users_take_turns() -> None:
    ended = False

    def run() -> None:
        while not ended:
            overhead._turns.wait()

    users = [gevent.spawn(run) for _ in range(3)]
    gevent.sleep(0.01)
    ended = True
    gevent.joinall(users, timeout=5, raise_error=True)
    assert all(user.dead for user in users)


def test_a_user_that_is_stopped_while_it_waits_for_its_turn_is_not_woken_from_another_wait() -> None:
    def stop_the_last() -> None:
        overhead._turns.wait()
        last.kill(block=False)  # which the event loop does before the next turns

    def run() -> None:
        try:
            overhead._turns.wait()
        finally:
            woken.append(Event().wait(0.05))  # as an on_stop may

    woken: list[bool] = []
    first = [gevent.spawn(stop_the_last), *(gevent.spawn(overhead._turns.wait) for _ in range(overhead.TURNS))]
    last = gevent.spawn(run)
    gevent.joinall([*first, last], timeout=5)
    assert woken == [False]
    assert isinstance(last.value, gevent.GreenletExit)
    assert all(each.successful() for each in first)  # the one for which there was no room in the first round too


def test_tasks_are_picked_by_their_weight() -> None:
    class Weighted(Idle):
        wait_time = constant(0)

        @task(3)
        def often(self) -> None:
            """Never run."""

        @task
        def seldom(self) -> None:
            """Never run."""

    random.seed(1)
    tasks = DefaultTaskSet(Weighted(Environment()))
    picked = Counter(tasks.get_next_task().__name__ for _ in range(10_000))
    assert picked.keys() == {"often", "seldom"}
    assert 7300 < picked["often"] < 7700


def test_a_user_without_tasks_is_told_as_locust_tells_it() -> None:
    with pytest.raises(Exception, match="No tasks defined on Idle"):
        DefaultTaskSet(Idle(Environment())).get_next_task()
