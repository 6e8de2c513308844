"""A Redis server of a test's own."""

import contextlib
import re
import socket
from collections.abc import Iterator
from pathlib import Path

from tests import kit
from tests.examples.installed import installed


class Redis:
    """A running server, with one connection to it for what the test asks.

    Attributes:
        port: Its port.
    """

    def __init__(self, port: int, connection: socket.socket) -> None:
        self.port = port
        self._connection = connection
        self._replies = connection.makefile("rb")

    def ask(self, command: str) -> str:
        """Send a command; return its reply, which is a line or a string."""
        self._connection.sendall(f"{command}\r\n".encode())
        line = self._replies.readline().decode().rstrip()
        assert line[0] in "+:$", f"{command}: {line}"
        return self._replies.read(int(line[1:]) + 2).decode().rstrip() if line[0] == "$" else line[1:]

    def calls(self, command: str) -> int:
        """Return how many commands of a kind the server has executed."""
        match = re.search(rf"cmdstat_{command}:calls=(\d+)", self.ask("INFO commandstats"))
        return int(match[1]) if match else 0

    def clients(self, kind: str) -> int:
        """Return how many other clients there are of a kind: `normal` or `pubsub`."""
        return len(self.ask(f"CLIENT LIST TYPE {kind}").splitlines()) - (kind == "normal")

    def kill(self, kind: str) -> int:
        """Close the connections of all other clients of a kind; return how many there were."""
        return int(self.ask(f"CLIENT KILL TYPE {kind}"))


@contextlib.contextmanager
def redis(folder: Path, password: str = "") -> Iterator[Redis]:
    """Run a server for the length of a with-block. It writes nothing to disk."""
    port = kit.free_port()
    where = ("--bind", "127.0.0.1", "--port", str(port), "--dir", folder)
    options = ("--requirepass", password, "--save", "", "--appendonly", "no")
    with kit.program(installed("redis-server"), *where, *options, output=folder / "redis") as server:
        server.says("Ready to accept connections")
        with socket.create_connection(("127.0.0.1", port), kit.PATIENCE) as connection:
            admin = Redis(port, connection)
            if password:
                admin.ask(f"AUTH {password}")
            yield admin
