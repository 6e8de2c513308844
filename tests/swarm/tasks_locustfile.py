"""The ways to give a user its tasks."""

from typing import Any

import gevent
from locust import TaskSet, constant, events, tag, task
from locust.env import Environment

from locust_tcp import TcpUser

REQUESTS = 2000  # after which the run ends


@events.test_start.add_listener
def end_after_enough(environment: Environment, **_: Any) -> None:
    """End the run after a number of requests."""

    def wait() -> None:
        while environment.stats.total.num_requests < REQUESTS:
            gevent.sleep(0.01)
        assert environment.runner
        environment.runner.quit()

    gevent.spawn(wait)


class Methods(TcpUser):
    """Methods with weights and tags."""

    wait_time = constant(0)

    @task(3)
    def often(self) -> None:
        self.client.request("often", name="often")

    @tag("rare")
    @task
    def seldom(self) -> None:
        self.client.request("seldom", name="seldom")


def first(user: TcpUser) -> None:
    """Request a line."""
    user.client.request("first", name="first")


def second(user: TcpUser) -> None:
    """Request another line."""
    user.client.request("second", name="second")


class Weights(TcpUser):
    """Functions with weights."""

    wait_time = constant(0)
    tasks: Any = {first: 3, second: 1}  # noqa: RUF012 - as in Locust's documentation


class Inner(TaskSet):
    """Some lines, until the user leaves the set."""

    @task(3)
    def inside(self) -> None:
        self.client.request("inside", name="inside")

    @task
    def leave(self) -> None:
        self.client.request("leave", name="leave")
        self.interrupt()


class Nested(TcpUser):
    """A set of tasks beside a method."""

    wait_time = constant(0)
    tasks = [Inner]  # noqa: RUF012 - as in Locust's documentation

    @tag("rare")
    @task
    def outside(self) -> None:
        self.client.request("outside", name="outside")
