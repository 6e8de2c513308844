"""Settings and fixtures for all tests."""

import os

import pytest

from tests import certificates

# Importing Locust turns this process's sockets and threads into gevent's, which Playwright and the
# tests' own servers could not live with. Only here: the processes that the tests start are themselves.
os.environ["LOCUST_SKIP_MONKEY_PATCH"] = "1"
import locust_tcp  # noqa: F401

del os.environ["LOCUST_SKIP_MONKEY_PATCH"]


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> certificates.Certificates:
    """The certificates of the tests' services."""
    return certificates.make(tmp_path_factory.mktemp("certificates"))
