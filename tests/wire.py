"""Bytes on sockets: a client of the capitalization server, and tools for any connection."""

import fcntl
import itertools
import select
import socket
import struct
import sys
import termios
from collections.abc import Iterable
from typing import Any, Protocol

from tests import kit

SILENCE = 0.3  # seconds without a reply after which the server counts as waiting


class Wire(Protocol):
    """One end of a connection: a socket, or a tests.tls_end.End."""

    def sendall(self, data: bytes, /) -> object: ...
    def recv(self, count: int, /) -> bytes: ...


def connect(server: kit.Server, host: str = "127.0.0.1") -> socket.socket:
    """Connect a socket. It sends each segment at once, and waits kit.PATIENCE at most."""
    sock = socket.create_connection((host, server.port), kit.PATIENCE)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def read(sock: Wire, count: int = sys.maxsize) -> bytes:
    """Read `count` bytes, or all that arrive until the peer closes its side."""
    data = b""
    while len(data) < count and (piece := sock.recv(min(count - len(data), 65536))):
        data += piece
    return data


def ask(sock: Wire, line: bytes) -> bytes:
    """Send one line; return what has arrived when a reply is complete."""
    sock.sendall(line)
    reply = b""
    while not reply.endswith(b"\n"):
        piece = sock.recv(65536)
        assert piece, f"the connection ended after {reply!r}"
        reply += piece
    return reply


def silent(sock: socket.socket, seconds: float = SILENCE) -> bool:
    """Return whether nothing arrives for a while."""
    return not select.select([sock], [], [], seconds)[0]


def reset(sock: socket.socket) -> None:
    """Reset a connection, as a peer that crashes does."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def unread(sock: Any) -> int:
    """Return how many bytes wait in a socket to be read."""
    (count,) = struct.unpack("i", fcntl.ioctl(sock.fileno(), termios.FIONREAD, bytes(4)))
    return int(count)


def is_readable(sock: Any) -> bool:
    """Return whether bytes of the peer, or its end, wait to be read."""
    return bool(select.select([sock.fileno()], [], [], 0)[0])


def cut(data: bytes, places: Iterable[int]) -> list[bytes]:
    """Cut data at some places, whatever its length. Some pieces may be empty."""
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[begin:end] for begin, end in itertools.pairwise(edges)]


def assert_each_is_answered(clients: list[socket.socket]) -> None:
    """Send a line on each connection, then read each answer."""
    for number, client in enumerate(clients):
        client.sendall(b"client %d\n" % number)
    for number, client in enumerate(clients):
        reply = b"CLIENT %d\n" % number
        assert read(client, len(reply)) == reply
