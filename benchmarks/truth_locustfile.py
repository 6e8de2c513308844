"""What is measured: the kit's user, and the plain one that most people would write."""

import os
import socket
import time
from typing import Any

from locust import User, constant, events, task
from locust.env import Environment

from locust_tcp import Connection, TcpUser, generator

LINE = b"hello world\n"
NAME = "word"

if os.environ.get("NO_ARRIVAL_TIMES"):  # cost.py's other half
    Connection.kernel_times = False


class KitUser(TcpUser):
    """The kit's user, with everything on."""

    wait_time = constant(0)

    @task
    def word(self) -> None:
        self.client.request(LINE, name=NAME, expect="HELLO WORLD")


class PlainUser(User):
    """A socket, and a stopwatch around it."""

    wait_time = constant(0)

    def on_start(self) -> None:
        name, port = str(self.host).removeprefix("tcp://").split(":")
        self.socket = socket.create_connection((name, int(port)))

    @task
    def word(self) -> None:
        begun = time.perf_counter()
        self.socket.sendall(LINE)
        reply = self.socket.recv(4096)
        self.environment.events.request.fire(
            request_type="TCP",
            name=NAME,
            response_time=(time.perf_counter() - begun) * 1000,
            response_length=len(reply),
            exception=None,
            context={},
        )


@events.test_stop.add_listener
def tell_fallbacks(environment: Environment, **_: Any) -> None:
    """Print how many exchanges the kernel gave no arrival time for."""
    accounts = generator.accounts(environment).values()
    print(f"fallbacks: {sum(each.fallbacks for each in accounts)} of {sum(each.exchanges for each in accounts)}")


class Speed:
    """CPU time and requests of this process, since all users were there."""

    seconds = cpu = requests = 0.0

    @classmethod
    def begin(cls, **_: Any) -> None:
        cls.seconds, cls.cpu = time.perf_counter(), time.process_time()
        cls.requests = cls.environment.stats.total.num_requests

    @classmethod
    def tell(cls, **_: Any) -> None:
        """Print both, as speed.py reads them."""
        requests = cls.environment.stats.total.num_requests - cls.requests
        seconds, cpu = time.perf_counter() - cls.seconds, time.process_time() - cls.cpu
        print(f"speed: {requests / seconds:.0f} requests/s, {1e6 * cpu / max(1, requests):.2f} us each")

    environment: Environment


@events.init.add_listener
def measure_speed(environment: Environment, **_: Any) -> None:
    """Measure from when all users are there until the test stops."""
    Speed.environment = environment
    environment.events.spawning_complete.add_listener(Speed.begin)
    environment.events.test_stopping.add_listener(Speed.tell)
