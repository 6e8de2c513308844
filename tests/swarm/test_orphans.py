"""Workers whose master is gone, or only slow."""

import contextlib
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests import kit

USERS = 4
BUSY = 5.0  # seconds for which a master may be silent
GONE = 10.0  # seconds after which its workers' users have stopped
TIMEOUT = 14  # seconds after which Locust ends a worker; Locust has a minute
SHORTER = f"from locust import runners\nrunners.MASTER_HEARTBEAT_TIMEOUT = {TIMEOUT}\n"
SILENT = "No heartbeat from the master for 8 s"


class Swarm:
    """A server, a master and a worker, with users that run."""

    def __init__(self, stack: contextlib.ExitStack, folder: Path) -> None:
        self.server = stack.enter_context(kit.server(output=folder / "server"))
        swarm = ("--headless", "--expect-workers", "1", "--users", str(USERS), "--spawn-rate", "100", "--wait", "0.1")
        port = str(kit.free_port())
        master = ("--master", "--master-bind-port", port, "--host", self.server.host)
        self.master = stack.enter_context(kit.program(kit.LOCUST, *swarm, *master, output=folder / "master"))
        (folder / "shorter.py").write_text(SHORTER)
        worker = ("-f", f"locustfile.py,{folder}/shorter.py", "--worker", "--master-port", port)
        self.worker = stack.enter_context(kit.program(kit.LOCUST, *worker, output=folder / "worker"))
        kit.eventually(lambda: self.connections() == USERS)

    def connections(self) -> int:
        """Return how many users have a connection to the server."""
        found = psutil.Process(self.worker.process.pid).net_connections("tcp")
        return sum(each.raddr and each.raddr.port == self.server.port for each in found)


@pytest.fixture
def swarm(tmp_path: Path) -> Iterator[Swarm]:
    with contextlib.ExitStack() as stack:
        made = Swarm(stack, tmp_path)
        yield made
        assert "Traceback" not in made.worker.output


def test_the_users_of_a_killed_master_stop_and_the_worker_ends_as_locusts_does(swarm: Swarm) -> None:
    swarm.master.process.kill()
    kit.eventually(lambda: swarm.connections() == 0, GONE)
    swarm.worker.says(f"{SILENT}: it has ended")
    assert swarm.worker.process.poll() is None
    swarm.worker.says(f"Didn't get heartbeat from master in over {TIMEOUT}s")
    assert swarm.worker.ends() == 0


def test_a_slow_master_keeps_its_workers_and_a_silent_one_gets_them_back(swarm: Swarm) -> None:
    swarm.master.process.send_signal(signal.SIGSTOP)
    time.sleep(BUSY)  # the length of the silence, not a wait for something
    swarm.master.process.send_signal(signal.SIGCONT)
    time.sleep(GONE - BUSY)  # nothing happens, as much later as it could
    assert SILENT not in swarm.worker.output
    assert swarm.connections() == USERS

    swarm.master.process.send_signal(signal.SIGSTOP)
    kit.eventually(lambda: swarm.connections() == 0, GONE)
    swarm.worker.says(SILENT)
    swarm.master.process.send_signal(signal.SIGCONT)
    swarm.worker.says("The master is back")
    kit.eventually(lambda: swarm.connections() == USERS)
    assert swarm.master.stop() == 0
    assert swarm.worker.ends() == 0
