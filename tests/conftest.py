"""Settings and fixtures for all tests."""

import contextlib
import os
import socket
from collections.abc import Iterator

import hypothesis
import pytest

from capserver import PORT
from tests import certificates

# Importing Locust would replace this process's sockets and threads with gevent's, with which
# Playwright and the tests' own servers do not work. Processes that the tests start are normal.
os.environ["LOCUST_SKIP_MONKEY_PATCH"] = "1"
import locust_tcp  # noqa: F401

del os.environ["LOCUST_SKIP_MONKEY_PATCH"]

# A busy machine makes an example slow, not wrong.
hypothesis.settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("any machine")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the swarms: they take longest, so that no process runs one at the end alone."""
    items.sort(key=lambda item: "swarm" not in item.path.parts)


@pytest.fixture(scope="session", autouse=True)
def reserve_the_bundled_servers_port() -> Iterator[None]:
    """Keep the kernel from giving the bundled server's port to one of the tests' many connections.

    The kernel gives no port that is bound. A server can still bind it: this socket does not listen.
    """
    with socket.socket() as reserved:
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with contextlib.suppress(OSError):  # a server listens there: test_bundled_server.py says so
            reserved.bind(("127.0.0.1", PORT))
        yield


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> certificates.Certificates:
    """The certificates of the tests' services."""
    return certificates.make(tmp_path_factory.mktemp("certificates"))
