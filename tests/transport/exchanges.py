"""Connections for the tests of this folder: to peers, and to an end that the test itself holds."""

import contextlib
import re
import select
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gevent
import gevent.socket
import pytest

from locust_tcp.transport import timestamps
from locust_tcp.transport.connection import Connection
from locust_tcp.transport.endpoint import Endpoint
from locust_tcp.transport.errors import TcpError
from locust_tcp.transport.stream import Connected, Stream
from locust_tcp.transport.tls import Tls, tls_context
from tests import kit, peers, wire
from tests.certificates import Certificates
from tests.tls_end import End, service

MAX_REPLY = 1000
TIMEOUT = 5.0
SHORT = 0.3  # seconds; the timeout of what is to time out

needs_linux = pytest.mark.skipif(not timestamps.SUPPORTED, reason="the kernel's arrival times are Linux's")


def opened(
    host: str, ca: Path | None = None, verify: bool = True, timeout: float = TIMEOUT, max_reply: int = MAX_REPLY
) -> Connection:
    """Connect to a service."""
    return Connection.open(Endpoint.parse(host, str(ca) if ca else None, verify), timeout, max_reply)


@contextlib.contextmanager
def talking_to(
    behave: peers.Behaviour, files: Certificates | None = None, max_reply: int = MAX_REPLY
) -> Iterator[Connection]:
    """A Connection to a peer: a trusted one that speaks TLS, where there are certificates."""
    with peers.peer(behave) as port:
        host = f"tls://localhost:{port}" if files else f"tcp://127.0.0.1:{port}"
        connection = opened(host, files.ca if files else None, max_reply=max_reply)
        yield connection
        connection.close()


@contextlib.contextmanager
def pair(files: Certificates | None = None) -> Iterator[tuple[Connection, Any, gevent.socket.socket]]:
    """A Connection after a request was sent and read, its other end, and its own socket."""
    ours, theirs = gevent.socket.socketpair()
    end: Any = theirs
    stream = Stream(ours)
    with theirs:
        if files:
            other = gevent.spawn(End, theirs, service(files.good))
            stream.start_tls(Tls(tls_context(str(files.ca), verify=True), "localhost"), time.perf_counter() + TIMEOUT)
            end = other.get()
        connection = Connection(Connected(stream, 0.0, time.time(), by_kernel=False), MAX_REPLY)
        connection.send(b"?", TIMEOUT)
        assert end.recv(1) == b"?"
        connection.end()
        yield connection, end, ours
        connection.close()


def deliver(
    ours: gevent.socket.socket, theirs: gevent.socket.socket, pieces: list[bytes]
) -> "gevent.Greenlet[..., None]":
    """Send the pieces one by one, each when the one before has been read."""

    def run() -> None:
        for piece in pieces:
            theirs.sendall(piece)
            while wire.unread(ours):
                gevent.sleep(0)

    return gevent.spawn(run)


def exchange(connection: Connection, timeout: float = TIMEOUT) -> bytes:
    """Ask, and return the reply: one line, and nothing else."""
    connection.send(b"?", timeout)
    reply = connection.read_until()
    connection.end()
    return reply


def await_arrival_times(connection: Connection) -> None:
    """Make exchanges until the kernel gives arrival times."""

    def has_lag() -> bool:
        exchange(connection)
        return connection.times()[1] is not None

    kit.eventually(has_lag)


def await_bytes(connection: Connection) -> None:
    """Wait, without a turn for the event loop, until something has arrived that is not read yet."""
    assert select.select([connection._stream._sock.fileno()], [], [], kit.PATIENCE)[0]


def fails(text: str) -> Any:
    """Expect a failure with exactly this text, as the Failures page shows it."""
    return pytest.raises(TcpError, match=f"^{re.escape(text)}$")
