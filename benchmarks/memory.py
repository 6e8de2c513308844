"""How much memory does a user take that has a connection and waits? Its own locustfile; Linux only.

python benchmarks/memory.py
"""

import gc
import os
import platform
import sys
import tempfile
from pathlib import Path
from typing import Any

import psutil

sys.path.insert(0, str(Path(__file__).parents[1]))
from locust import constant, events, task

from locust_tcp import TcpUser
from tests import kit

USERS = 10_000


def resident() -> int:
    """Return the bytes that this process has in memory, without what is only to be collected."""
    gc.collect()
    return int(psutil.Process().memory_info().rss)


class WaitingUser(TcpUser):
    """A user that has made one request, and waits."""

    wait_time = constant(1000)
    before = 0

    @task
    def word(self) -> None:
        self.client.request("hello", name="word", expect="HELLO")
        requests = self.environment.stats.get("word", "TCP").num_requests
        if requests == USERS:
            print(f"told: {(resident() - WaitingUser.before) / 1024 / USERS:.1f}", flush=True)


@events.test_start.add_listener
def begin(**_: Any) -> None:
    """Take note of what there is without users."""
    WaitingUser.before = resident()


def main() -> None:
    """Measure, and print a sentence."""
    with tempfile.TemporaryDirectory() as name, kit.server(output=Path(name) / "server") as server:
        swarm = ("-f", __file__, "--headless", "--host", server.host, "-u", str(USERS), "-r", str(USERS))
        with kit.program(kit.LOCUST, *swarm, output=Path(name) / "locust") as locust:
            each = locust.says("^told: (.*)$")[1]
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}: ", end="")
    print(f"{each} KB for each of {USERS} users in one process")


if __name__ == "__main__":
    main()
