"""transport/connection.py over TLS: endings between exchanges and in the middle of one."""

import socket
import ssl
import struct
import threading
from collections.abc import Callable

import pytest

from tests import kit, peers
from tests.certificates import Certificates
from tests.tls_end import End, by_hand, inside, service
from tests.transport.exchanges import SHORT, TIMEOUT, await_bytes, exchange, fails, talking_to


def _say_more(tls: ssl.SSLSocket) -> None:
    tls.sendall(b"more\n")
    peers.mute(tls)


def _say_goodbye(tls: ssl.SSLSocket) -> None:
    tls.unwrap()  # waits for the other's, which never comes


def _end_without_a_word(tls: ssl.SSLSocket) -> None:
    socket.socket.shutdown(tls, socket.SHUT_WR)
    peers.mute(tls)


def _reset(tls: ssl.SSLSocket) -> None:
    tls.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@pytest.mark.parametrize(
    ("act", "failure"),
    [
        (_say_more, "reply: more than was asked for"),
        (_say_goodbye, "send: closed"),
        (_end_without_a_word, "send: closed"),
        (_reset, "send: reset"),
    ],
)
def test_what_happens_between_two_exchanges_is_noticed(
    files: Certificates, act: Callable[[ssl.SSLSocket], None], failure: str
) -> None:
    def behave(tls: ssl.SSLSocket) -> None:
        tls.recv(1)
        tls.sendall(b"HELLO\n")
        assert go_on.wait(kit.PATIENCE)
        act(tls)

    go_on = threading.Event()
    with talking_to(inside(service(files.good, tickets=False), behave), files) as connection:
        assert exchange(connection) == b"HELLO\n"
        go_on.set()
        await_bytes(connection)
        with fails(failure):
            connection.send(b"?", TIMEOUT)


@pytest.mark.parametrize("together", [True, False], ids=["one segment", "two"])
@pytest.mark.parametrize(("reply", "failure"), [(b"HEL", "closed halfway"), (b"", "closed")])
def test_a_service_that_says_goodbye_in_the_middle_has_closed(
    files: Certificates, reply: bytes, failure: str, together: bool
) -> None:
    def behave(end: End) -> None:
        end.recv(1)
        for piece in (
            (end.encrypt(reply) + end.close_notify(),) if together else (end.encrypt(reply), end.close_notify())
        ):
            end.sock.sendall(piece)
        peers.mute(end.sock)  # it waits for the other's goodbye, as ssl.SSLSocket.unwrap does

    with talking_to(by_hand(service(files.good), behave), files) as connection, fails(f"reply: {failure}"):
        exchange(connection, timeout=1)


def test_a_goodbye_with_the_reply_leaves_the_reply_and_ends_the_next(files: Certificates) -> None:
    def behave(end: End) -> None:
        end.recv(1)
        end.sock.sendall(end.encrypt(b"HELLO\n") + end.close_notify())
        peers.mute(end.sock)

    with talking_to(by_hand(service(files.good), behave), files) as connection:
        assert exchange(connection) == b"HELLO\n"
        with fails("send: closed"):
            exchange(connection, timeout=1)


@pytest.mark.parametrize("reply", [b"HEL", b""])
def test_a_service_that_ends_without_a_word_has_closed(files: Certificates, reply: bytes) -> None:
    def behave(tls: ssl.SSLSocket) -> None:
        tls.recv(1)
        tls.sendall(reply)
        _end_without_a_word(tls)

    with (
        talking_to(inside(service(files.good), behave), files) as connection,
        fails(f"reply: {'closed halfway' if reply else 'closed'}"),
    ):
        exchange(connection)


@pytest.mark.parametrize(("behave", "failure"), [(peers.resetting, "reset"), (peers.mute, "timed out")])
def test_faults_inside_tls_are_named_as_without(files: Certificates, behave: peers.Behaviour, failure: str) -> None:
    with talking_to(inside(service(files.good), behave), files) as connection, fails(f"reply: {failure}"):
        exchange(connection, timeout=SHORT)
