"""What is measured: the kit's user, and the plain one that most people would write."""

import os
from typing import Any

from locust import constant, events, task
from locust.env import Environment

from benchmarks.plain_locustfile import LINE, NAME, PlainUser
from locust_tcp import Connection, TcpUser
from locust_tcp.metrics.generator import LoadGenerator

__all__ = ["EventUser", "GreetedUser", "KitUser", "PlainUser"]

GREETING = "greeting"

if os.environ.get("NO_ARRIVAL_TIMES"):  # cost.py's other half
    Connection.kernel_times = False


class KitUser(TcpUser):
    """The kit's user, with everything on."""

    wait_time = constant(0)

    @task
    def word(self) -> None:
        self.client.request(LINE, name=NAME, expect="HELLO WORLD")


class EventUser(KitUser):
    """The kit's user without the shortcut to Locust's statistics."""

    direct_statistics = False


class GreetedUser(TcpUser):
    """A user of a service that speaks first, with a connection for each request."""

    connection = "per-request"
    wait_time = constant(0.05)  # each connection takes a local port for a minute

    def on_connect(self) -> None:
        self.client.receive(name=GREETING, expect="220 welcome")

    @task
    def word(self) -> None:
        self.client.request(LINE, name=NAME, expect="HELLO WORLD")


@events.test_stop.add_listener
def tell_fallbacks(environment: Environment, **_: Any) -> None:
    """Print how many exchanges the kernel gave no arrival time for."""
    processes = LoadGenerator.of(environment).processes().values()
    print(f"fallbacks: {sum(each.fallbacks for each in processes)} of {sum(each.exchanges for each in processes)}")
