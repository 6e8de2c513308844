"""The users that speed.py and truth.py measure the kit's beside.

Nothing here imports the kit: its patches give all users of the process finer histograms.
"""

import socket
import time

from locust import FastHttpUser, User, constant, task

LINE = b"hello world\n"
NAME = "word"


class PlainUser(User):
    """A socket, and a stopwatch around it: what most people would write."""

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


class WebUser(FastHttpUser):
    """Locust's faster user for HTTP."""

    wait_time = constant(0)

    @task
    def word(self) -> None:
        self.client.get("/", name=NAME)
