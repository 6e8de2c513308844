"""Users that receive what comes unasked, that send without an answer, and that make requests."""

from locust import constant, task

from benchmarks.plain_locustfile import LINE
from benchmarks.truth_locustfile import tell_fallbacks
from locust_tcp import TcpUser

__all__ = ["Requester", "Sender", "Subscriber", "tell_fallbacks"]


class Subscriber(TcpUser):
    """Receives pushes, each of which carries the time when it was sent."""

    wait_time = constant(0)
    pushes = True

    @task
    def receive(self) -> None:
        self.client.receive(name="push", since=float, required=False)


class Sender(TcpUser):
    """Sends lines, and reads no answer."""

    wait_time = constant(0)

    def on_start(self) -> None:
        self.client.send("first", name="first")

    @task
    def send(self) -> None:
        self.client.send(LINE, name="line")


class Requester(TcpUser):
    """Sends lines, and waits for each answer."""

    wait_time = constant(0)

    @task
    def request(self) -> None:
        self.client.request(LINE, name="line", expect="HELLO WORLD")
