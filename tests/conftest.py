"""Settings for all tests."""

import contextlib
import os
import socket
from collections.abc import Iterator

import pytest

from capserver import PORT

# Importing Locust turns this process's sockets and threads into gevent's, which Playwright and the
# tests' own servers could not live with. Only here: the processes that the tests start are themselves.
os.environ["LOCUST_SKIP_MONKEY_PATCH"] = "1"
import locust_tcp  # noqa: F401

del os.environ["LOCUST_SKIP_MONKEY_PATCH"]


@pytest.fixture(scope="session", autouse=True)
def reserve_the_bundled_servers_port() -> Iterator[None]:
    """Keep the kernel from giving the bundled server's port to one of the tests' many connections.

    It gives no port that is bound. A server can still bind this one and listen, as the socket here does not.
    """
    with socket.socket() as reserved:
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with contextlib.suppress(OSError):  # a server listens there: test_bundled_server.py says so
            reserved.bind(("127.0.0.1", PORT))
        yield
