"""locust_tcp/patches/master.py. tests/swarm/test_distributed.py has real workers."""

from types import SimpleNamespace
from typing import Any

import gevent
import pytest
from locust.runners import MasterRunner

from locust_tcp.patches import master
from tests.patches import upstream

THEIRS = upstream.unpatched("locust.runners").MasterRunner.quit


def quitting(quit_function: Any, workers: int, leave_after: float) -> tuple[list[Any], float]:
    """Return what quitting does to a master, in order, and how many workers are left when it ends."""
    done: list[Any] = []
    clients = [SimpleNamespace(id=f"worker {number}") for number in range(workers)]
    attributes = {
        "stop": lambda **options: done.append(("stop", options)),
        "clients": SimpleNamespace(all=clients),
        "get_worker_index": lambda _: 0,
        "server": SimpleNamespace(send_to_client=lambda message: done.append((message.type, message.node_id))),
        "environment": SimpleNamespace(stop_timeout=None),
        "greenlet": SimpleNamespace(kill=lambda **options: done.append(("kill", options))),
        "worker_count": workers,
    }
    stub: Any = type("Stub", (), attributes)  # a set can have it
    leaving = gevent.spawn_later(leave_after, setattr, stub, "worker_count", 0)
    quit_function(stub)
    left = stub.worker_count
    leaving.kill()
    master._quitting.discard(stub)
    return done, left


def test_a_master_quits_as_locusts_does() -> None:
    ours, theirs = (quitting(each, 2, 0.05) for each in (MasterRunner.quit, THEIRS))
    assert ours == theirs


def test_a_master_waits_for_workers_longer_than_locusts_does() -> None:
    assert quitting(THEIRS, 1, 0.7)[1] == 1
    assert quitting(MasterRunner.quit, 1, 0.7)[1] == 0


def test_a_master_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(master, "LAST_REPORTS", 0.05)
    done, left = quitting(MasterRunner.quit, 1, 60)
    assert (done[-1], left) == (("kill", {"block": True}), 1)
