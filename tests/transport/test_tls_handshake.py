"""transport/stream.py: the TLS handshake, how it fails, and that it ends."""

import contextlib
import functools
import itertools
import socket
import ssl
import threading
import time
from types import SimpleNamespace

import gevent
import pytest

from tests import kit, peers
from tests.certificates import Certificates
from tests.tls_end import End, inside, service
from tests.transport.exchanges import SHORT, TIMEOUT, await_bytes, exchange, fails, opened, talking_to


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_the_last_two_versions_of_tls_are_spoken(files: Certificates, version: ssl.TLSVersion) -> None:
    context = service(files.good)
    context.minimum_version = context.maximum_version = version
    with talking_to(inside(context, peers.answering(b"HELLO\n")), files) as connection:
        assert [exchange(connection) for _ in range(3)] == [b"HELLO\n"] * 3


def _garbage(sock: socket.socket) -> None:
    sock.recv(65536)
    sock.sendall(b"error: what is this?\n")
    peers.mute(sock)


def _half_a_hello(sock: socket.socket) -> None:
    sock.recv(65536)
    sock.sendall(b"\x16\x03\x03\x00\x7a\x02\x00")


@pytest.mark.parametrize(
    ("behave", "failure"),
    [
        (_garbage, "TLS handshake failed"),
        (_half_a_hello, "TLS handshake failed"),
        (peers.answering_once(b""), "TLS handshake failed"),  # it closes
        (peers.resetting, "reset"),
    ],
    ids=["garbage", "half a hello", "closes", "resets"],
)
def test_a_handshake_that_fails_is_a_failed_connect(files: Certificates, behave: peers.Behaviour, failure: str) -> None:
    with peers.peer(behave) as port, fails(f"connect: {failure}"):
        opened(f"tls://localhost:{port}", files.ca)


def _left_alone(closed: threading.Event, first: bytes, sock: socket.socket) -> None:
    sock.sendall(first)
    peers.mute(sock)  # until the other end is closed
    closed.set()


@pytest.mark.parametrize("first", [b"", b"\x16\x03\x03"], ids=["nothing", "three bytes"])
def test_a_handshake_that_is_never_answered_times_out_and_is_closed(files: Certificates, first: bytes) -> None:
    closed = threading.Event()
    with peers.peer(functools.partial(_left_alone, closed, first)) as port:
        begun = time.monotonic()
        with fails("connect: timed out"):
            opened(f"tls://localhost:{port}", files.ca, timeout=SHORT)
        assert SHORT - 0.01 <= time.monotonic() - begun < kit.PATIENCE / 2
        assert closed.wait(kit.PATIENCE)


def test_a_greenlet_killed_in_the_handshake_closes_its_connection(files: Certificates) -> None:
    come, closed = threading.Event(), threading.Event()

    def behave(sock: socket.socket) -> None:
        sock.recv(1)
        come.set()
        _left_alone(closed, b"", sock)

    with peers.peer(behave) as port:
        opening = gevent.spawn(opened, f"tls://localhost:{port}", files.ca, timeout=kit.PATIENCE)
        while not come.is_set():
            gevent.sleep(0.01)
        opening.kill(timeout=TIMEOUT)
        assert isinstance(opening.value, gevent.GreenletExit)
        assert closed.wait(kit.PATIENCE)


def demanding(files: Certificates, version: ssl.TLSVersion) -> ssl.SSLContext:
    """Return how a service talks TLS that demands a certificate of its clients."""
    context = service(files.good)
    context.minimum_version = context.maximum_version = version
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(files.ca)
    return context


def test_a_service_that_demands_a_certificate_fails_the_connect_with_tls_1_2(files: Certificates) -> None:
    behave = inside(demanding(files, ssl.TLSVersion.TLSv1_2), peers.mute)
    with peers.peer(behave) as port, fails("connect: TLS handshake failed"):
        opened(f"tls://localhost:{port}", files.ca)


@pytest.mark.parametrize(("verdict", "what"), [("before the request", "send"), ("after it", "reply")])
def test_a_service_that_demands_a_certificate_refuses_its_lack_with_tls_1_3(
    files: Certificates, verdict: str, what: str
) -> None:
    # With 1.3 a client is connected before the service has seen what it has to show (RFC 8446, 2).
    def behave(sock: socket.socket) -> None:
        def recv(count: int) -> bytes:
            if next(pieces):  # the first is the client's hello, the second what it has to show
                assert go_on.wait(kit.PATIENCE)
            return sock.recv(count)

        pieces = itertools.count()
        with contextlib.suppress(ssl.SSLError):
            End(SimpleNamespace(recv=recv, sendall=sock.sendall), demanding(files, ssl.TLSVersion.TLSv1_3))
        peers.mute(sock)

    go_on = threading.Event()
    with talking_to(behave, files) as connection, fails(f"{what}: client certificate refused"):
        if verdict == "before the request":
            go_on.set()
            await_bytes(connection)
        connection.send(b"?", TIMEOUT)
        go_on.set()
        connection.read_until()
