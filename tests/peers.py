"""Servers that misbehave, each in one way."""

import contextlib
import itertools
import socket
import struct
import threading
from collections.abc import Callable, Iterator

Behaviour = Callable[[socket.socket], object]

DRIP = 0.05  # seconds between two bytes of a dripping server


@contextlib.contextmanager
def peer(behave: Behaviour, port: int = 0) -> Iterator[int]:
    """Run a server that behaves in one way on each connection; yields its port."""
    with socket.create_server(("127.0.0.1", port), backlog=64) as listener:
        threading.Thread(target=_accept, args=(listener, behave), daemon=True).start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)  # ends the accept that waits for it


def _accept(listener: socket.socket, behave: Behaviour) -> None:
    with contextlib.suppress(OSError):
        while True:
            sock, _ = listener.accept()
            threading.Thread(target=_serve, args=(sock, behave), daemon=True).start()


def _serve(sock: socket.socket, behave: Behaviour) -> None:
    with contextlib.suppress(OSError), sock:
        behave(sock)


def answering(*pieces: bytes) -> Behaviour:
    """Answer each request with `pieces`, a segment each."""

    def behave(sock: socket.socket) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while sock.recv(65536):
            for piece in pieces:
                sock.sendall(piece)

    return behave


def answering_once(reply: bytes) -> Behaviour:
    """Answer the first request, then close."""

    def behave(sock: socket.socket) -> None:
        sock.recv(65536)
        sock.sendall(reply)

    return behave


def capitalizing(sock: socket.socket) -> None:
    """Answer each line in capitals."""
    with sock.makefile("rb") as lines:
        for line in lines:
            sock.sendall(line.decode().upper().encode())


def mute(sock: socket.socket) -> None:
    """Read, and never answer."""
    while sock.recv(65536):
        pass


def dripping(sock: socket.socket) -> None:
    """Answer a byte at a time, without end."""
    sock.recv(65536)
    pause = threading.Event()
    while not pause.wait(DRIP):
        sock.sendall(b"x")


def endless(sock: socket.socket) -> None:
    """Answer at full speed, without end."""
    sock.recv(65536)
    while True:
        sock.sendall(b"x" * 65536)


def resetting(sock: socket.socket) -> None:
    """Reset the connection when a request comes."""
    sock.recv(65536)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def late(sock: socket.socket) -> None:
    """Answer each connection's first request a second too late, and number the answers."""
    number = next(_numbers)
    sock.recv(65536)
    threading.Event().wait(1)
    sock.sendall(b"late %d\n" % number)


_numbers = itertools.count()


@contextlib.contextmanager
def full() -> Iterator[int]:
    """A server whose backlog is full: the kernel answers no more connects. Yields its port."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        address = listener.getsockname()
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(address)
        yield address[1]
