"""A skeleton for a service of your own. It needs Locust, and can do without the rest of this kit.

Run `locust -f locustfile-sample.py`: it works as it is, and every request fails, because the two
places marked FILL IN are still empty. Fill in the first and the failures of `connect` go away, fill
in the second and you have a load test.

Is your service plain TCP, with lines or length-prefixed messages? Then copy locustfile.py instead:
its TcpUser already does what is hard about that. This file is for everything else that Python can
talk to: UDP, a database, a message queue, a client library.
"""

import contextlib
import time
from collections.abc import Callable
from typing import Any

from locust import User, constant, task

with contextlib.suppress(ImportError):  # where this kit is at hand: its digits, its promises, its Load generator tab
    import locust_tcp  # noqa: F401

HOST = "tcp://localhost:12345"  # of your service; the Host field and --host say otherwise


class NotFilledIn(Exception):
    """A placeholder is still in its place."""


def connect(host: str) -> Any:
    """Connect to the service and return what a request is sent with."""
    # FILL IN (1 of 2), instead of the next two lines. For example:
    #     return socket.create_connection(("localhost", 12345), timeout=5)
    print(f"locustfile-sample.py: this is where a user connects to {host}")
    raise NotFilledIn("FILL IN (1 of 2): connect")


def exchange(connection: Any) -> bytes:
    """Send one realistic request, wait for its reply, and return that. Raise where it is not right."""
    # FILL IN (2 of 2), instead of the next two lines. For example:
    #     connection.sendall(b"hello\n")
    #     reply = connection.makefile("rb").readline()
    #     if reply != b"HELLO\n":
    #         raise ValueError("wrong reply")
    #     return reply
    print("locustfile-sample.py: this is where a user sends a request and reads the reply")
    raise NotFilledIn("FILL IN (2 of 2): exchange")


class SampleUser(User):
    """One simulated user: connects once, then makes a request every second. Nothing to fill in here."""

    host = HOST
    wait_time = constant(1)
    connection: Any = None

    @task
    def request(self) -> None:
        if self.connection is None:
            self.connection = self.timed("connect", lambda: connect(self.host or HOST))
        if self.connection is not None:
            self.timed("request", lambda: exchange(self.connection))

    def timed(self, name: str, action: Callable[[], Any]) -> Any:
        """Do `action`, tell Locust how long it took and how it ended, and return its result.

        A failure drops the connection: what is left in it belongs to a request that is over.
        """
        result = failure = None
        begun = time.perf_counter()
        try:
            result = action()
        except Exception as error:  # a user that is stopped is no Exception: it fires nothing
            failure = error
            self.connection = None
        self.environment.events.request.fire(
            request_type="SAMPLE",
            name=name,
            response_time=(time.perf_counter() - begun) * 1000,  # milliseconds
            response_length=len(result) if isinstance(result, bytes) else 0,
            exception=failure,
            context=self.context(),
        )
        return result
