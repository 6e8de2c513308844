"""examples/length_prefixed.py on dnsmasq: both sides' accounts agree, also when it closes connections."""

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

from tests import kit
from tests.examples.installed import installed
from tests.examples.swarms import CLOSED, USERS, swarm

OPTIONS = (
    *("--keep-in-foreground", "--pid-file=", "--conf-file=/dev/null", "--no-hosts", "--no-resolv"),
    *("--listen-address=127.0.0.1", "--bind-interfaces", "--log-queries", "--log-facility=-"),
    "--address=/locust.example/192.0.2.1",
)


class Dnsmasq(kit.Program):
    """A DNS server, which has a process for each TCP connection. Its log has each query and each answer."""

    def answered(self) -> int:
        """Return how many queries it has answered."""
        return self.output.count(" config locust.example is 192.0.2.1")

    def connections(self) -> int:
        """Return how many connections have had a query."""
        return len({line.split()[0] for line in self.output.splitlines() if " query[A] " in line})

    def cut(self) -> int:
        """Kill the process of each connection; return how many there were."""
        number = self.process.pid
        children = Path(f"/proc/{number}/task/{number}/children").read_text().split()
        for child in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(child), signal.SIGKILL)
        return len(children)


@contextlib.contextmanager
def dnsmasq(port: int, folder: Path) -> Iterator[Dnsmasq]:
    """Run a DNS server for the length of a with-block."""
    server = Dnsmasq(installed("dnsmasq"), *OPTIONS, f"--port={port}", output=folder / "dnsmasq")
    try:
        server.says("started")
        yield server
    finally:
        server.cut()  # they outlive it
        server.process.kill()
        server.process.wait()


def test_each_answer_is_one_event_and_a_cut_connection_one_failure(tmp_path: Path) -> None:
    port = kit.free_port()
    with dnsmasq(port, tmp_path) as server:
        with swarm("length_prefixed.py", port=port, folder=tmp_path) as locust:
            kit.eventually(lambda: server.connections() >= 2 * USERS)  # each user's first one has reached its limit
            cut = server.cut()
            kit.eventually(lambda: server.connections() >= 3 * USERS + cut)  # and another one too
            locust.stop()
        answered = server.answered()
    requests, failed = locust.requests(), locust.failed()
    assert locust.exceptions() == []
    assert set(requests) == {"connect", "A", "Aggregated"}
    assert locust.texts() <= CLOSED
    assert 0 < failed["A"] == failed.total() <= cut
    assert requests["connect"] >= 3 * USERS + failed["A"]
    assert answered - failed["A"] <= requests["A"] - failed["A"] <= answered
