"""transport/connection.py on real sockets: framing, limits, bytes that belong to no reply."""

import socket
import threading
import time
from typing import Any

import gevent
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from locust_tcp.transport.connection import Connection
from tests import kit, peers, wire
from tests.transport.conftest import Talking
from tests.transport.exchanges import (
    MAX_REPLY,
    SHORT,
    TIMEOUT,
    await_arrival_times,
    await_bytes,
    deliver,
    exchange,
    fails,
    needs_linux,
    pair,
    talking_to,
)

CLOSE_WAIT = 8  # the state in which the peer's end has arrived (linux/tcp.h)


def _state(connection: Connection) -> int:
    return int(connection._stream._sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0])


# Separators that overlap with themselves and with what stands before them are the hard ones.
separators = st.sampled_from([b"\n", b"\r\n", b"\n.\n", b"aab", b"abab"])


@settings(deadline=None)
@given(separators, st.text("ab\r\n.", max_size=99), st.lists(st.integers(0, 99), max_size=9))
def test_read_until_finds_every_separator_however_the_bytes_come(
    separator: bytes, text: str, places: list[int]
) -> None:
    data = text.encode() + separator
    lines = [line + separator for line in data.split(separator)[:-1]]
    data = b"".join(lines)  # ababab has one abab: what is left over would wait for ever to be read
    with pair() as (connection, theirs, ours):
        delivery = deliver(ours, theirs, wire.cut(data, places))
        assert [connection.read_until(separator) for _ in lines] == lines
        delivery.get()


@settings(deadline=None)
@given(st.lists(st.integers(0, 50), max_size=9), st.lists(st.integers(0, 99), max_size=9))
def test_read_exactly_returns_what_was_asked_for(counts: list[int], places: list[int]) -> None:
    data = bytes(number % 251 for number in range(sum(counts)))
    with pair() as (connection, theirs, ours):
        delivery = deliver(ours, theirs, wire.cut(data, places))
        assert b"".join(connection.read_exactly(count) for count in counts) == data
        delivery.get()
        connection.end()
        assert connection.received == len(data)


def test_unasked_bytes_are_never_taken_for_a_reply() -> None:
    with pair() as (connection, theirs, _):
        theirs.sendall(b"one\n")
        assert connection.read_until() == b"one\n"
        connection.end()
        theirs.sendall(b"two\n")  # between two requests
        gevent.sleep(0.01)
        with fails("reply: more than was asked for"):
            connection.send(b"?", TIMEOUT)


@needs_linux
def test_unasked_bytes_are_known_by_their_arrival_time_too() -> None:
    has_read = threading.Event()

    def twice(sock: socket.socket) -> None:
        while request := sock.recv(100):
            sock.sendall(b"one\n")
            if request == b"!":
                has_read.wait(TIMEOUT)
                sock.sendall(b"two\n")

    with talking_to(twice) as connection:
        await_arrival_times(connection)
        connection.send(b"!", TIMEOUT)
        assert connection.read_until() == b"one\n"
        connection.end()
        has_read.set()
        await_bytes(connection)  # which the event loop does not see arrive
        with fails("reply: more than was asked for"):
            connection.send(b"?", TIMEOUT)
            connection.read_until()
            connection.end()  # where it was read together with the reply


@needs_linux
def test_a_goodbye_before_the_end_is_the_end(talking: Talking) -> None:
    def behave(sock: Any) -> None:
        sock.recv(1)
        sock.sendall(b"one\n")
        go_on.wait(TIMEOUT)
        sock.sendall(b"421 goodbye\n")

    go_on = threading.Event()
    with talking(behave) as connection:
        assert exchange(connection) == b"one\n"
        go_on.set()
        kit.eventually(lambda: _state(connection) == CLOSE_WAIT)
        gevent.sleep(0.01)
        with fails("send: closed"):
            connection.send(b"?", TIMEOUT)


def test_what_is_said_before_the_first_request_is_not_its_reply(talking: Talking) -> None:
    def behave(sock: Any) -> None:
        sock.sendall(b"welcome\n")
        peers.mute(sock)

    with talking(behave) as connection:
        await_bytes(connection)
        with fails("reply: wrong"):
            connection.send(b"?", TIMEOUT)


@pytest.mark.parametrize("size", [MAX_REPLY, MAX_REPLY + 1, 10 * MAX_REPLY])
def test_a_reply_may_be_as_long_as_the_limit(talking: Talking, size: int) -> None:
    with talking(peers.answering(b"x" * (size - 1) + b"\n")) as connection:
        if size <= MAX_REPLY:
            assert len(exchange(connection)) == size
        else:
            with fails("reply: too long"):
                exchange(connection)


def test_a_request_that_the_peer_does_not_read_is_given_up_at_the_deadline(talking: Talking) -> None:
    def behave(_: socket.socket) -> None:
        done.wait(kit.PATIENCE)

    done = threading.Event()
    with talking(behave) as connection:
        begun = time.monotonic()
        with fails("send: timed out"):
            connection.send(b"x" * 30_000_000, SHORT)
        assert SHORT - 0.01 <= time.monotonic() - begun < kit.PATIENCE
        done.set()
