"""transport/timestamps.py and Connection.times on real sockets: response time and lag."""

import socket
import threading
import time
from typing import Any

import pytest

from locust_tcp.transport.connection import Connection
from tests import peers
from tests.transport.conftest import Talking
from tests.transport.exchanges import TIMEOUT, await_arrival_times, exchange, needs_linux, talking_to


@needs_linux
def test_the_time_that_a_reply_waits_for_its_user_is_lag(talking: Talking) -> None:
    with talking(peers.answering(b"HELLO\n")) as connection:
        await_arrival_times(connection)
        connection.send(b"?", TIMEOUT)
        time.sleep(0.3)  # all of Locust is busy with another user
        connection.read_until()
        response_time, lag = connection.times()
    assert lag is not None
    assert 0 < response_time < 0.2
    assert lag > 0.1
    assert 0.3 <= response_time + lag < TIMEOUT


@needs_linux
def test_a_reply_has_arrived_when_its_last_byte_has(talking: Talking) -> None:
    def in_two(sock: socket.socket) -> None:
        while sock.recv(100):
            sock.sendall(b"HEL")
            threading.Event().wait(0.2)
            sock.sendall(b"LO\n")

    with talking(in_two) as connection:
        await_arrival_times(connection)
        exchange(connection)
        response_time, lag = connection.times()
    assert response_time >= 0.2
    assert lag is not None
    assert lag < 0.2


@needs_linux
@pytest.mark.parametrize("step", [-3600, -0.1, 0.1, 3600], ids=str)
def test_a_stepped_clock_is_noticed(step: float) -> None:
    with talking_to(peers.answering(b"HELLO\n")) as connection, pytest.MonkeyPatch.context() as patch:
        await_arrival_times(connection)
        clock = time.time
        patch.setattr("time.time", lambda: clock() - step)
        connection.send(b"?", TIMEOUT)
        patch.undo()
        connection.read_until()
        response_time, lag = connection.times()
    assert lag is None
    assert 0 < response_time < TIMEOUT


@needs_linux
@pytest.mark.parametrize("ancillary", [[], [(1, 37, bytes(48))]], ids=["none", "zero"])
def test_without_an_arrival_time_the_users_own_is_taken(ancillary: list[Any]) -> None:
    with talking_to(peers.answering(b"HELLO\n")) as connection, pytest.MonkeyPatch.context() as patch:
        await_arrival_times(connection)
        original = socket.socket.recvmsg

        class Untimed(socket.socket):
            def recvmsg(self, *arguments: Any) -> Any:
                return original(self, *arguments)[0], ancillary, 0, None

        stream = connection._stream
        patch.setattr(stream, "_sock", Untimed(fileno=socket.dup(stream._sock.fileno())))
        connection.send(b"?", TIMEOUT)
        connection.read_until()
        response_time, lag = connection.times()
    assert lag is None
    assert 0 < response_time < TIMEOUT


def test_arrival_times_can_be_switched_off() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Connection, "kernel_times", False)
        with talking_to(peers.answering(b"HELLO\n")) as connection:
            for _ in range(20):
                assert exchange(connection) == b"HELLO\n"
                assert connection.times()[1] is None


@needs_linux
def test_the_kernel_knows_the_path_of_a_connection() -> None:
    with talking_to(peers.answering(b"HELLO\n")) as connection:
        new = connection.path()
        assert new
        assert new[:3] == (0, 0, False)
        for _ in range(3):
            assert exchange(connection) == b"HELLO\n"
        path = connection.path()
        assert path
        assert path[:3] == (3, 0, True)
        assert 0 < path.shortest < TIMEOUT
        assert 0 < path.round_trip < TIMEOUT
        paths: list[Any] = []
        connection.on_close = lambda closed: paths.append(closed.path())
        connection.close()
        assert [path[:3] for path in paths] == [(3, 0, True)], "its last figures"
        assert connection.path() is None


def test_without_the_kernels_times_nothing_is_known_about_the_path() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Connection, "kernel_times", False)
        with talking_to(peers.answering(b"HELLO\n")) as connection:
            exchange(connection)
            assert connection.path() is None
