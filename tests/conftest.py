"""Settings for all tests."""

import os

# Importing Locust turns this process's sockets and threads into gevent's, which Playwright and the
# tests' own servers could not live with. Only here: the processes that the tests start are themselves.
os.environ["LOCUST_SKIP_MONKEY_PATCH"] = "1"
import locust_tcp  # noqa: F401

del os.environ["LOCUST_SKIP_MONKEY_PATCH"]
