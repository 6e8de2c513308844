"""examples/memcached.py on memcached: both sides' accounts agree, also when the server is started again."""

import contextlib
import re
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import psutil

from tests import kit
from tests.examples.installed import installed
from tests.examples.swarms import CLOSED, USERS, swarm


@contextlib.contextmanager
def memcached(port: int, folder: Path) -> Iterator[kit.Program]:
    """Run a server for the length of a with-block."""
    # One thread, so that it answers the test's question after the requests that came before. Root is not allowed.
    where = ("-l", "127.0.0.1", "-p", str(port), "-t", "1", "-u", "nobody")
    with kit.program(installed("memcached"), *where, output=folder / "memcached") as server:
        kit.eventually(lambda: kit.listens(port))
        yield server


def statistics(port: int) -> dict[str, int]:
    """Return the server's counters."""
    with socket.create_connection(("127.0.0.1", port), kit.PATIENCE) as connection:
        connection.sendall(b"stats\r\nquit\r\n")
        text = connection.makefile().read()
    return {name: int(value) for name, value in re.findall(r"^STAT (\w+) (\d+)$", text, re.MULTILINE)}


def test_users_go_on_with_a_server_that_was_started_again(tmp_path: Path) -> None:
    port = kit.free_port()
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(memcached(port, tmp_path))
        locust = stack.enter_context(swarm("memcached.py", port=port, folder=tmp_path))
        kit.eventually(lambda: statistics(port).get("get_hits", 0) > 100)
        locust.process.send_signal(signal.SIGSTOP)
        kit.eventually(lambda: psutil.Process(locust.process.pid).status() == psutil.STATUS_STOPPED)
        before = statistics(port)
        first.stop(signal.SIGKILL)
        stack.enter_context(memcached(port, tmp_path))
        locust.process.send_signal(signal.SIGCONT)
        kit.eventually(lambda: statistics(port).get("get_hits", 0) > 100)
        locust.stop()
        after = statistics(port)
    requests, failed = locust.requests(), locust.failed()
    assert locust.exceptions() == []
    assert requests["connect"] == 2 * USERS
    # The first server answered all that was sent. So each user fails once, with its next request.
    assert locust.texts() <= CLOSED
    assert failed["set"] + failed["get"] == failed.total() == USERS
    for name in ("set", "get"):
        assert requests[name] - failed[name] == before[f"cmd_{name}"] + after[f"cmd_{name}"]
    assert before["get_misses"] == 0
    assert after["get_misses"] <= USERS  # of values that the first server had
