"""Users that never pause. At the end it prints how many requests each has made, and the failures with their times."""

import json
from typing import Any

from locust import constant, events, task

from locust_tcp import TcpUser

made: list[int] = []
failures: list[tuple[str, float]] = []


class BusyUser(TcpUser):
    """A user that counts its requests."""

    timeout = 1.0
    wait_time = constant(0)
    requests = 0

    @task
    def word(self) -> None:
        self.requests += 1
        self.client.request("hello", name="word", expect="HELLO")

    def on_stop(self) -> None:
        made.append(self.requests)


@events.request.add_listener
def remember(exception: Exception | None, response_time: float, **_: Any) -> None:
    """Keep the failures."""
    if exception:
        failures.append((str(exception), response_time))


@events.quitting.add_listener
def tell(**_: Any) -> None:
    """Print what has been counted."""
    print(f"told: {json.dumps({'made': made, 'failures': failures})}")
