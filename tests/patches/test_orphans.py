"""locust_tcp/patches/orphans.py. tests/swarm/test_orphans.py has real workers."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import gevent
import pytest
from gevent.pool import Group
from locust.env import Environment
from locust.runners import STATE_RUNNING, STATE_STOPPED, WorkerRunner

from locust_tcp.patches import orphans
from tests.kit import PATIENCE

USERS = {"SomeUser": 3}
SILENCE = 0.2  # seconds, for these tests


class Worker(WorkerRunner):
    """A worker without a master: its heartbeats are those of the test."""

    def __init__(self) -> None:
        self.greenlet = Group()
        self.last_heartbeat_timestamp = 1.0
        self.state = STATE_RUNNING
        self.target_user_classes_count = USERS
        self.running = USERS
        self.done: list[str] = []

    @property
    def user_count(self) -> int:
        return sum(self.running.values())

    @property
    def user_classes_count(self) -> dict[str, int]:
        return self.running

    def stop_users(self, user_classes_stop_count: dict[str, int]) -> None:
        assert user_classes_stop_count == self.running
        self.running = {}
        self.done.append("stop")

    def start_worker(self, user_classes_count: dict[str, int], **_: Any) -> None:
        self.running = user_classes_count
        self.done.append("start")


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> Iterator[Worker]:
    monkeypatch.setattr(orphans, "SILENCE", SILENCE)
    monkeypatch.setattr(orphans, "TICK", SILENCE / 20)
    environment = Environment()
    environment.runner = made = Worker()
    watching = gevent.spawn(orphans.watch, environment)
    yield made
    watching.kill()


def beat(worker: Worker, times: int = 1) -> None:
    """Let the master answer so many heartbeats."""
    for _ in range(times):
        assert worker.last_heartbeat_timestamp
        worker.last_heartbeat_timestamp += 1
        gevent.sleep(SILENCE / 4)


def eventually(condition: Callable[[], bool]) -> None:
    with gevent.Timeout(PATIENCE):
        while not condition():
            gevent.sleep(0.001)


def test_users_stop_in_silence_and_start_when_the_master_is_back(worker: Worker) -> None:
    beat(worker, 8)
    assert worker.done == []
    eventually(lambda: worker.done == ["stop"])
    beat(worker)
    eventually(lambda: worker.done == ["stop", "start"])
    eventually(lambda: worker.done == ["stop", "start", "stop"])


def test_users_stay_stopped_if_the_master_says_so_when_it_is_back(worker: Worker) -> None:
    eventually(lambda: worker.done == ["stop"])
    worker.state = STATE_STOPPED
    beat(worker, 4)
    assert worker.done == ["stop"]


def test_a_process_that_could_not_read_heartbeats_keeps_its_users(worker: Worker) -> None:
    beat(worker)
    time.sleep(2 * SILENCE)  # blocks all greenlets, as a task may
    beat(worker, 4)
    assert worker.done == []


def test_a_worker_that_never_heard_a_master_is_locusts(worker: Worker) -> None:
    worker.last_heartbeat_timestamp = None
    gevent.sleep(2 * SILENCE)
    assert worker.done == []


def test_another_locust_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(orphans.PATCH, "applied", False)
    environment = Environment()
    environment.runner = Worker()
    orphans.watch(environment)  # returns
