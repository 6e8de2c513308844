"""locust_tcp/patches/master.py. tests/swarm/test_distributed.py has real workers."""

import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import gevent
import pytest
from locust.env import Environment
from locust.runners import STATE_MISSING, MasterRunner, WorkerNode, WorkerNodes

from locust_tcp.patches import master
from tests.patches import upstream

THEIRS = upstream.unpatched("locust.runners").MasterRunner.quit


def quitting(quit_function: Any, later: Callable[[Environment, WorkerNodes], None], seconds: float) -> list[Any]:
    """Return what a master with two workers does, in order, while something happens after some seconds."""
    done: list[Any] = []
    environment, clients = Environment(), WorkerNodes()
    for name in ("one", "two", "missing"):
        clients[name] = WorkerNode(name)
    clients["missing"].state = STATE_MISSING
    attributes = {
        "stop": lambda **options: done.append(("stop", options)),
        "clients": clients,
        "get_worker_index": lambda _: 0,
        "server": SimpleNamespace(send_to_client=lambda message: done.append((message.type, message.node_id))),
        "environment": environment,
        "greenlet": SimpleNamespace(kill=lambda **options: done.append(("kill", options))),
    }
    stub: Any = type("Stub", (), attributes)  # a set can have it

    def happen() -> None:
        later(environment, clients)
        done.append("happened")

    happening = gevent.spawn_later(seconds, happen)
    quit_function(stub)
    happening.kill()
    master._quitting.discard(stub)
    return done


def report(users: int) -> Callable[[Environment, WorkerNodes], None]:
    """Return a function that reports as both workers do while they have so many users."""

    def fire(environment: Environment, _: WorkerNodes) -> None:
        for name in ("one", "two"):
            environment.events.worker_report.fire(client_id=name, data={"user_count": users})

    return fire


def leave(_: Environment, clients: WorkerNodes) -> None:
    """Remove both workers."""
    del clients["one"], clients["two"]


@pytest.mark.parametrize("later", [report(users=0), leave], ids=["report", "leave"])
def test_a_master_quits_as_locusts_does_when_the_last_reports_are_in(later: Any) -> None:
    ours, theirs = (quitting(each, later, 0.05) for each in (MasterRunner.quit, THEIRS))
    assert ours == theirs
    assert ours[-2:] == ["happened", ("kill", {"block": True})]


def test_a_master_waits_longer_than_locusts_does() -> None:
    assert "happened" not in quitting(THEIRS, report(users=0), 0.7)
    assert "happened" in quitting(MasterRunner.quit, report(users=0), 0.7)


def test_a_report_with_users_is_not_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(master, "LAST_REPORTS", 0.2)
    begun = time.monotonic()
    assert quitting(MasterRunner.quit, report(users=1), 0.0)[-1] == ("kill", {"block": True})
    assert time.monotonic() - begun >= 0.2


def test_a_master_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(master, "LAST_REPORTS", 0.05)
    assert quitting(MasterRunner.quit, leave, 60)[-1] == ("kill", {"block": True})
