"""A skeleton for a service of your own. It needs Locust, and works without the rest of this kit.

Run `locust -f locustfile-sample.py`: it runs as it is, and every request fails, because the two
places marked FILL IN are still empty. Fill in the first, and `connect` no longer fails. Fill in the
second, and you have a load test.

Is your service plain TCP, with lines or length-prefixed messages? Then copy locustfile.py instead:
its TcpUser already does the hard part. This file is for everything else that Python can use: UDP, a
database, a message queue, a client library.
"""

import contextlib
import time
from collections.abc import Callable
from typing import Any

from locust import User, constant, task

with contextlib.suppress(ImportError):  # optional: adds digits, thresholds and the Load generator tab
    import locust_tcp  # noqa: F401

HOST = "tcp://localhost:12345"  # your service, unless the Host field or --host names another


class NotFilledIn(Exception):
    """A place marked FILL IN is still empty."""


def connect(host: str) -> Any:
    """Connect to the service and return what `exchange` needs to send a request."""
    # FILL IN (1 of 2), instead of the next two lines. For example:
    #     import socket
    #     name, _, port = host.removeprefix("tcp://").rpartition(":")
    #     return socket.create_connection((name, port), timeout=5)
    print(f"locustfile-sample.py: this is where a user connects to {host}")
    raise NotFilledIn("FILL IN (1 of 2): connect")


def exchange(connection: Any) -> bytes:
    """Send one realistic request and return its reply. Raise an exception if the reply is wrong."""
    # FILL IN (2 of 2), instead of the next two lines. For example:
    #     connection.sendall(b"hello\n")
    #     reply = connection.makefile("rb").readline()
    #     if reply != b"HELLO\n":
    #         raise ValueError("wrong reply")
    #     return reply
    print("locustfile-sample.py: this is where a user sends a request and reads the reply")
    raise NotFilledIn("FILL IN (2 of 2): exchange")


class SampleUser(User):
    """One simulated user. It connects once and then sends a request every second."""

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
        """Run `action`, report its time and outcome to Locust, and return its result.

        A failure drops the connection: what is left in it belongs to an earlier request.
        """
        result = failure = None
        begun = time.perf_counter()
        try:
            result = action()
        except Exception as error:  # stopping a user raises no Exception: it reports nothing
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
