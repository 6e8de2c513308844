"""Requests that the kernel does not take at once: what arrives before they are sent whole."""

import socket
import threading
import time
from typing import Any

import pytest

from locust_tcp.transport.connection import Connection
from locust_tcp.transport.tls import Tls
from tests import kit, peers
from tests.certificates import Certificates
from tests.tls_end import inside, service
from tests.transport.conftest import Talking
from tests.transport.exchanges import SHORT, TIMEOUT, await_bytes, exchange, fails, needs_linux, talking_to

LARGE = b"x" * 12_000_000 + b"\n"  # more than the kernel keeps for both ends of a connection
PIECE = 65536  # bytes


def echo(sock: Any) -> None:
    """Send each piece back before the next one is read."""
    while piece := sock.recv(PIECE):
        sock.sendall(piece)


def read_all(sock: Any) -> None:
    """Read a large request to its end."""
    while not sock.recv(PIECE).endswith(b"\n"):
        pass


def await_lags(connection: Connection) -> None:
    """Echo lines until the kernel gives arrival times."""

    def has_lag() -> bool:
        connection.send(b"?\n", TIMEOUT)
        connection.read_until()
        return connection.times()[1] is not None

    kit.eventually(has_lag)


@pytest.mark.parametrize(("size", "buffer"), [(len(LARGE), None), (2_000_000, PIECE)], ids=["usual", "small buffers"])
def test_a_service_may_answer_while_it_reads(talking: Talking, size: int, buffer: int | None) -> None:
    def behave(sock: Any) -> None:
        if buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        echo(sock)

    with talking(behave, max_reply=size) as connection:
        if buffer:
            connection._stream._sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer)
            connection._stream._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        payload = LARGE[-size:]
        for _ in range(2):
            connection.send(payload, kit.PATIENCE)
            assert connection.read_exactly(size) == payload
            assert connection.end()


@needs_linux
def test_the_last_bytes_of_an_echo_have_their_arrival_time(talking: Talking) -> None:
    with talking(echo, max_reply=len(LARGE)) as connection:
        await_lags(connection)
        connection.send(LARGE, kit.PATIENCE)
        assert connection.read_until() == LARGE
        seconds, lag = connection.times()
        assert lag is not None
        assert seconds + lag <= time.perf_counter() - connection.begun


@needs_linux
def test_a_reply_that_comes_before_the_request_is_whole_has_its_own_time_and_no_lag(talking: Talking) -> None:
    def behave(sock: Any) -> None:
        while sock.recv(PIECE) == b"?\n":
            sock.sendall(b"?\n")
        sock.sendall(b"early\n")
        threading.Event().wait(SHORT)
        read_all(sock)

    with talking(behave) as connection:
        await_lags(connection)
        connection.send(LARGE, kit.PATIENCE)
        taken = time.perf_counter() - connection.begun
        assert connection.read_until() == b"early\n"
        seconds, lag = connection.times()
        assert lag == 0
        assert seconds < taken - SHORT + 0.01


@needs_linux
def test_what_came_before_a_large_request_is_not_its_reply(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("locust_tcp.transport.connection.CLOCK_STEP", kit.PATIENCE)  # no busy machine looks like one

    def behave(sock: socket.socket) -> None:
        while (line := sock.recv(PIECE)) in (b"?\n", b"!\n"):
            sock.sendall(line)
            if line == b"!\n":
                sock.sendall(b"unasked\n")
        read_all(sock)
        sock.sendall(b"reply\n")

    with talking_to(behave) as connection:
        await_lags(connection)
        connection.send(b"!\n", TIMEOUT)
        assert connection.read_until() == b"!\n"
        connection._buffer.clear()  # where it came together with the reply
        if not connection._stream._early:
            await_bytes(connection)
        with fails("reply: more than was asked for"):
            connection.send(LARGE, kit.PATIENCE)
            connection.read_until()


def test_an_end_that_comes_before_the_request_is_whole_does_not_hide_the_reply() -> None:
    def behave(sock: socket.socket) -> None:
        sock.recv(PIECE)
        sock.sendall(b"bye\n")
        sock.shutdown(socket.SHUT_WR)
        read_all(sock)

    with talking_to(behave) as connection:
        connection.send(LARGE, kit.PATIENCE)
        assert connection.read_to_end() == b"bye\n"
        with fails("send: closed"):
            exchange(connection)


def test_more_than_a_reply_may_have_is_left_in_the_kernel(talking: Talking) -> None:
    with talking(peers.endless) as connection, fails("reply: too long"):
        connection.send(LARGE, SHORT)


@needs_linux
def test_encrypting_is_no_step_of_the_clock(files: Certificates, monkeypatch: pytest.MonkeyPatch) -> None:
    encrypt = Tls.encrypt

    def slow(self: Tls, data: bytes) -> bytes:
        time.sleep(0.01)  # as for some megabytes
        return encrypt(self, data)

    monkeypatch.setattr(Tls, "encrypt", slow)
    with talking_to(inside(service(files.good, tickets=False), echo), files) as connection:
        await_lags(connection)
