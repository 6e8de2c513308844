"""TLS in the tests' hands: the end of a connection, and peers that speak it."""

import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests import peers


class End:
    """One end of a TLS connection, whose test chooses each byte that it sends.

    It is strict: an end of file without a close_notify is an error.

    Attributes:
        sock: The socket, for bytes that are encrypted already.
        tls: The standard library's TLS, which sees no socket.
    """

    def __init__(self, sock: Any, context: ssl.SSLContext, name: str | None = None) -> None:
        """Agree on TLS: as a client that asks for `name`, or without one as the server."""
        self.sock = sock
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._incoming, self._outgoing, server_side=name is None, server_hostname=name)
        while not self._does(self.tls.do_handshake):
            sock.sendall(self.unsent())
            self._take()
        if name:
            sock.sendall(self.unsent())  # what a server sends last are tickets, which can wait

    def _does(self, act: Callable[[], object]) -> bool:
        try:
            act()
        except ssl.SSLWantReadError:
            return False
        except ssl.SSLError:
            self.sock.sendall(self.unsent())  # the reason, for the other end
            raise
        return True

    def _take(self) -> None:
        if received := self.sock.recv(65536):
            self._incoming.write(received)
        else:
            self._incoming.write_eof()

    def unsent(self) -> bytes:
        """Return what is for the network."""
        return self._outgoing.read()

    def encrypt(self, *records: bytes) -> bytes:
        """Return, for the network, some data, each piece in a record of its own."""
        for record in records:
            self.tls.write(record)
        return self.unsent()

    def close_notify(self) -> bytes:
        """Return, for the network, that this end sends no more."""
        self._does(self.tls.unwrap)
        return self.unsent()

    def sendall(self, data: bytes) -> None:
        """Send some data."""
        self.sock.sendall(self.encrypt(data))

    def recv(self, count: int) -> bytes:
        """Read at most `count` bytes: none where the other end has said that it sends no more."""
        while True:
            try:
                return self.tls.read(count)
            except ssl.SSLWantReadError:
                self._take()
            except ssl.SSLZeroReturnError:
                return b""


def service(cert: Path, *, tickets: bool = True) -> ssl.SSLContext:
    """Return how a service with a certificate speaks TLS.

    Args:
        cert: The file of the certificate and its key.
        tickets: Whether the service sends session tickets. Without them, all that it sends is data.
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(cert)
    if not tickets:
        context.num_tickets = 0
    return context


def inside(context: ssl.SSLContext, behave: Callable[[Any], object]) -> peers.Behaviour:
    """Return a behaviour that agrees on TLS, and then behaves inside it."""

    def tls(sock: socket.socket) -> None:
        with context.wrap_socket(sock, server_side=True) as wrapped:
            behave(wrapped)

    return tls


def by_hand(context: ssl.SSLContext, behave: Callable[[End], object]) -> peers.Behaviour:
    """Return a behaviour that agrees on TLS, and then chooses each byte that it sends."""
    return lambda sock: behave(End(sock, context))
