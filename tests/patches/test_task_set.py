"""locust_tcp/patches/task_set.py: it does what Locust's own task set does."""

import itertools
import random
import time
from collections import Counter
from typing import Any

import gevent
import pytest
from gevent.event import Event
from gevent.pool import Group
from locust import User, constant, task
from locust.env import Environment
from locust.exception import StopUser
from locust.user.task import LOCUST_STATE_RUNNING, LOCUST_STATE_STOPPING, LOCUST_STATE_WAITING, DefaultTaskSet

from locust_tcp.pacing import on_schedule
from locust_tcp.patches import task_set
from locust_tcp.patches.guard import digest
from locust_tcp.patches.task_set import ScheduledTaskSet, TaskSetAttribute, TcpTaskSet
from locust_tcp.user import TcpUser
from tests.kit import PATIENCE


class Idle(User):
    """A user that is never run."""


def test_each_waiting_greenlet_has_a_turn_before_any_has_two() -> None:
    rounds, users = 5, task_set.TURNS + 20  # more than one call of the event loop serves
    order: list[int] = []

    def run(number: int) -> None:
        for _ in range(rounds):
            order.append(number)
            task_set._turns.wait()

    gevent.joinall([gevent.spawn(run, number) for number in range(users)], raise_error=True)
    for begin in range(0, rounds * users, users):
        assert sorted(order[begin : begin + users]) == list(range(users))


def test_the_network_is_looked_at_while_users_take_turns() -> None:
    ended = False

    def run() -> None:
        while not ended:
            task_set._turns.wait()

    users = [gevent.spawn(run) for _ in range(3)]
    gevent.sleep(0.01)
    ended = True
    gevent.joinall(users, timeout=5, raise_error=True)
    assert all(user.dead for user in users)


def test_a_user_that_is_stopped_while_it_waits_for_its_turn_is_not_woken_from_another_wait() -> None:
    def stop_the_last() -> None:
        task_set._turns.wait()
        last.kill(block=False)  # which the event loop does before the next turns

    def run() -> None:
        try:
            task_set._turns.wait()
        finally:
            woken.append(Event().wait(0.05))  # as an on_stop may

    woken: list[bool] = []
    first = [gevent.spawn(stop_the_last), *(gevent.spawn(task_set._turns.wait) for _ in range(task_set.TURNS))]
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
    tasks = TcpTaskSet(Weighted(Environment()))
    picked = Counter(tasks.get_next_task().__name__ for _ in range(10_000))
    assert picked.keys() == {"often", "seldom"}
    assert 7300 < picked["often"] < 7700


def test_a_user_without_tasks_fails_as_with_locusts_task_set() -> None:
    with pytest.raises(Exception, match="No tasks defined on Idle"):
        TcpTaskSet(Idle(Environment())).get_next_task()


class Once(User):
    """A user that notes its task set and stops."""

    wait_time = constant(0)
    host = "tcp://nobody.invalid:1"
    used: DefaultTaskSet

    @task
    def note(self) -> None:
        type(self).used = self._taskset_instance  # type: ignore[assignment]
        raise StopUser


class OnceOverTcp(Once):
    """As TcpUser."""

    _taskset_instance: Any = TaskSetAttribute()


def used(user_class: type[Once]) -> type[DefaultTaskSet]:
    """Return the class of the task set that a user runs."""
    user_class(Environment()).run()
    return type(user_class.used)


def test_only_a_class_that_asks_for_it_gets_the_task_set() -> None:
    assert (used(OnceOverTcp), used(Once)) == (TcpTaskSet, DefaultTaskSet)
    assert isinstance(TcpUser.__dict__["_taskset_instance"], TaskSetAttribute)
    for name, digests in task_set.PATCH.tested.items():
        assert digest(name) in digests  # nothing of Locust is replaced


def test_another_locust_runs_its_own_task_set_but_for_the_first_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task_set.PATCH, "applied", False)
    assert used(OnceOverTcp) is ScheduledTaskSet
    assert [name for name, value in vars(ScheduledTaskSet).items() if callable(value)] == ["on_start"]


@pytest.fixture(params=[True, False], ids=["patch", "no patch"])
def with_or_without_the_patch(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task_set.PATCH, "applied", request.param)


class Scheduled(TcpUser):
    """A user that notes what it does, and when."""

    host = "tcp://nobody.invalid:1"
    wait_time = on_schedule(20)

    def __init__(self) -> None:
        super().__init__(Environment())
        self.done: list[tuple[str, float]] = []

    def on_start(self) -> None:
        self.done.append(("on_start", time.perf_counter()))

    @task
    def note(self) -> None:
        self.done.append(("task", self.due or 0.0))
        if len(self.done) == 4:
            raise StopUser


@pytest.mark.usefixtures("with_or_without_the_patch")
def test_the_first_task_is_on_schedule_too_and_on_start_is_not() -> None:
    user = Scheduled()
    user.run()
    assert [what for what, _ in user.done] == ["on_start", "task", "task", "task"]
    begun, *due = (when for _, when in user.done)
    assert 0 <= due[0] - begun <= 1 / 20 + PATIENCE
    assert [later - earlier for earlier, later in itertools.pairwise(due)] == pytest.approx([1 / 20] * 2)
    assert time.perf_counter() >= due[-1]


@pytest.mark.usefixtures("with_or_without_the_patch")
def test_a_user_that_is_stopped_before_its_first_task_runs_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Scheduled, "wait_time", on_schedule(0.001))
    user, group = Scheduled(), Group()
    user.start(group)
    with gevent.Timeout(PATIENCE):
        while user._state != LOCUST_STATE_WAITING:
            gevent.sleep(0.001)
    user.stop()
    assert group.join(PATIENCE)
    assert [what for what, _ in user.done] == ["on_start"]


@pytest.mark.parametrize("seconds", [0.0, 0.05])
def test_a_stopping_user_leaves_its_wait(seconds: float) -> None:
    user = OnceOverTcp(Environment())
    user.wait_time = constant(seconds).__get__(user)  # type: ignore[method-assign]
    for state_before in (LOCUST_STATE_STOPPING, LOCUST_STATE_RUNNING):
        user._state = state_before
        stopping = gevent.spawn(setattr, user, "_state", LOCUST_STATE_STOPPING)  # while the user waits
        with pytest.raises(StopUser):
            TcpTaskSet(user).wait()
        stopping.kill()


def _last(user: "Scheduling") -> None:
    user.ran.append("last")
    raise StopUser


class Scheduling(OnceOverTcp):
    """A user whose task schedules two others, the first of which fails."""

    tasks: Any = []  # noqa: RUF012 - as in Locust's documentation
    ran: list[str] = []  # noqa: RUF012

    @task
    def first(self) -> None:
        self.ran.append("first")
        task_set: Any = self._taskset_instance
        task_set.schedule_task(type(self).failing)
        task_set.schedule_task(_last)

    def failing(self) -> None:
        self.ran.append("failing")
        raise ValueError


@pytest.mark.usefixtures("with_or_without_the_patch")
def test_scheduled_tasks_come_first_and_one_that_fails_ends_nothing() -> None:
    Scheduling.ran.clear()
    Scheduling.tasks = [Scheduling.first]
    Scheduling(Environment()).run()
    assert Scheduling.ran == ["first", "failing", "last"]
