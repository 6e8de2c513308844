"""Fixtures for the tests of connections."""

from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest

from locust_tcp.transport.connection import Connection
from tests.certificates import Certificates
from tests.tls_end import inside, service
from tests.transport.exchanges import talking_to

Talking = Callable[..., AbstractContextManager[Connection]]


@pytest.fixture(params=["TCP", "TLS"])
def talking(request: pytest.FixtureRequest, files: Certificates) -> Talking:
    """A function: a Connection to a peer with some behaviour, over TCP and inside TLS."""
    if request.param == "TCP":
        return talking_to
    return lambda behave, **options: talking_to(inside(service(files.good, tickets=False), behave), files, **options)
