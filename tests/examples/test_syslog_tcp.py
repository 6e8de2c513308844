"""examples/syslog_tcp.py on rsyslog: both sides' accounts agree, also when the server is started again."""

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
from tests.examples.times import has_times

CONFIGURATION = """
module(load="imtcp")
input(type="imtcp" address="127.0.0.1" port="{port}" ruleset="received")
ruleset(name="received") {{ action(type="omfile" file="{file}") }}
"""
LINE = re.compile(r"\S+ localhost (locust|test) visitor \d{1,3}")


class Rsyslog(kit.Program):
    """A syslog server, which writes what it receives to a file.

    Attributes:
        port: Its port.
        received: The file.
    """

    port: int
    received: Path

    def lines(self) -> int:
        """Return how many messages of Locust have arrived."""
        lines = self.received.read_text().splitlines() if self.received.exists() else []
        assert all(LINE.fullmatch(line) for line in lines[:-1])  # the last one may be written now
        return sum(" locust " in line for line in lines)

    def take_all(self) -> None:
        """Wait until all that was sent before is in the file.

        The server reads its connections in turn, and so all of them between two messages of the test.
        """
        self._take("visitor 1")
        self._take("visitor 2")

    def _take(self, text: str) -> None:
        with socket.create_connection(("127.0.0.1", self.port), kit.PATIENCE) as sock:
            sock.sendall(f"<134>1 2026-01-01T00:00:00Z localhost test - - - {text}\n".encode())
        kit.eventually(lambda: f" test {text}\n" in self.received.read_text())


@contextlib.contextmanager
def rsyslog(port: int, folder: Path) -> Iterator[Rsyslog]:
    """Run a syslog server for the length of a with-block. At its end the server is killed."""
    folder.mkdir()
    configuration, received = folder / "rsyslog.conf", folder / "received"
    configuration.write_text(CONFIGURATION.format(port=port, file=received))
    server = Rsyslog(installed("rsyslogd"), "-n", "-i", "NONE", "-f", configuration, output=folder / "rsyslog")
    server.port, server.received = port, received
    try:
        kit.eventually(lambda: kit.listens(port))
        yield server
    finally:
        server.process.kill()
        server.process.wait()


def test_each_line_is_one_event_without_a_response_time(tmp_path: Path) -> None:
    port = kit.free_port()
    with (
        rsyslog(port, tmp_path / "server") as server,
        swarm("syslog_tcp.py", port=port, folder=tmp_path) as locust,
    ):
        kit.eventually(lambda: server.lines() > 10 * USERS)
        locust.stop()
        server.take_all()
        received = server.lines()
    assert locust.exceptions() == []
    assert locust.requests() == {"connect": USERS, "log": received, "Aggregated": USERS + received}
    assert locust.failed() == {}
    assert not has_times(locust.rows()["log"])


def test_a_server_that_dies_is_a_failure_of_each_connection(tmp_path: Path) -> None:
    port = kit.free_port()
    with swarm("syslog_tcp.py", port=port, folder=tmp_path) as locust:
        with rsyslog(port, tmp_path / "first") as first:
            kit.eventually(lambda: locust.counted("connect") == USERS)
            locust.process.send_signal(signal.SIGSTOP)
            kit.eventually(lambda: psutil.Process(locust.process.pid).status() == psutil.STATUS_STOPPED)
            first.take_all()
        with rsyslog(port, tmp_path / "second") as second:
            locust.process.send_signal(signal.SIGCONT)
            kit.eventually(lambda: second.lines() > 10 * USERS)
            locust.stop()
            second.take_all()
        received = first.lines() + second.lines()
    requests, failed = locust.requests(), locust.failed()
    assert locust.exceptions() == []
    assert locust.texts() <= CLOSED
    assert requests["connect"] == 2 * USERS
    assert failed == {"log": USERS}
    assert requests["log"] - USERS == received
