"""locust_tcp/transport/connection.py: framing, deadlines and addresses, over real sockets."""

import contextlib
import itertools
import select
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import gevent
import gevent.socket
import pytest
from hypothesis import given
from hypothesis import strategies as st

from locust_tcp.transport.connection import Connection
from locust_tcp.transport.endpoint import Endpoint
from locust_tcp.transport.errors import TcpError
from tests import kit, peers

MAX_REPLY = 1000
TIMEOUT = 5.0


@contextlib.contextmanager
def pair(max_reply: int = MAX_REPLY) -> Iterator[tuple[Connection, gevent.socket.socket]]:
    """A Connection and the socket at its other end, after a request was sent and taken."""
    ours, theirs = gevent.socket.socketpair()
    connection = Connection(ours, max_reply)
    with theirs:
        connection.send(b"?", TIMEOUT)
        assert theirs.recv(1) == b"?"
        yield connection, theirs
        connection.close()


def cut(data: bytes, places: list[int]) -> list[bytes]:
    """Cut `data` at some places."""
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[begin:end] for begin, end in itertools.pairwise(edges)]


def deliver(connection: Connection, theirs: gevent.socket.socket, pieces: list[bytes]) -> "gevent.Greenlet[..., None]":
    """Send the pieces one by one, each when the one before has been read."""

    def run() -> None:
        sent = 0
        for piece in pieces:
            theirs.sendall(piece)
            sent += len(piece)
            while connection.received < sent:
                gevent.sleep(0)

    return gevent.spawn(run)


# Separators that overlap with themselves and with what stands before them are the hard ones.
separators = st.sampled_from([b"\n", b"\r\n", b"\n.\n", b"aab", b"abab"])


@given(separators, st.text("ab\r\n.", max_size=99), st.lists(st.integers(0, 99), max_size=9))
def test_read_until_finds_every_separator_however_the_bytes_come(
    separator: bytes, text: str, places: list[int]
) -> None:
    data = text.encode() + separator
    lines = [line + separator for line in data.split(separator)[:-1]]
    data = b"".join(lines)  # ababab has one abab: what is left over would wait for ever to be read
    with pair() as (connection, theirs):
        delivery = deliver(connection, theirs, cut(data, places))
        assert [connection.read_until(separator) for _ in lines] == lines
        delivery.get()


@given(st.lists(st.integers(0, 50), max_size=9), st.lists(st.integers(0, 99), max_size=9))
def test_read_exactly_returns_what_was_asked_for(counts: list[int], places: list[int]) -> None:
    data = bytes(number % 251 for number in range(sum(counts)))
    with pair() as (connection, theirs):
        delivery = deliver(connection, theirs, cut(data, places))
        assert b"".join(connection.read_exactly(count) for count in counts) == data
        delivery.get()
        connection.end()
        assert connection.received == len(data)


@pytest.mark.parametrize("size", [MAX_REPLY, MAX_REPLY + 1])
def test_a_reply_may_be_as_long_as_the_limit(size: int) -> None:
    with pair() as (connection, theirs):
        theirs.sendall(b"x" * (size - 1) + b"\n")
        if size <= MAX_REPLY:
            assert len(connection.read_until()) == size
        else:
            with pytest.raises(TcpError, match="reply: too long"):
                connection.read_until()


def test_bytes_that_nobody_asked_for_are_never_taken_for_a_reply() -> None:
    with pair() as (connection, theirs):
        theirs.sendall(b"one\n")
        assert connection.read_until() == b"one\n"
        connection.end()
        theirs.sendall(b"two\n")  # between two requests
        gevent.sleep(0.01)
        with pytest.raises(TcpError, match="reply: more than was asked for"):
            connection.send(b"?", TIMEOUT)


@pytest.mark.skipif(not Connection.kernel_times, reason="the kernel's arrival times are Linux's")
def test_bytes_that_nobody_asked_for_are_known_by_their_arrival_time_too() -> None:
    has_read = threading.Event()

    def twice(sock: socket.socket) -> None:
        while request := sock.recv(100):
            sock.sendall(b"one\n")
            if request == b"!":
                has_read.wait(TIMEOUT)
                sock.sendall(b"two\n")

    with over_tcp(twice) as connection:
        connection.send(b"!", TIMEOUT)
        assert connection.read_until() == b"one\n"
        has_read.set()
        # Without a turn for the event loop, so that it does not see it come.
        assert select.select([connection._sock.fileno()], [], [], TIMEOUT)[0]
        with pytest.raises(TcpError, match="reply: more than was asked for"):
            connection.send(b"?", TIMEOUT)
            connection.read_until()
            connection.end()  # where it was read together with the reply


def test_a_request_that_nobody_takes_is_given_up_at_the_deadline() -> None:
    ours, theirs = gevent.socket.socketpair()
    with theirs:
        begun = time.monotonic()
        with pytest.raises(TcpError, match="reply: timed out"):
            Connection(ours, MAX_REPLY).send(b"x" * 100_000_000, 0.2)
        assert 0.2 <= time.monotonic() - begun < TIMEOUT


def test_a_greenlet_killed_while_it_waits_is_not_held_up() -> None:
    with pair() as (connection, _):
        reader = gevent.spawn(connection.read_until)
        gevent.sleep(0)
        reader.kill(timeout=TIMEOUT)
        assert isinstance(reader.value, gevent.GreenletExit)


@pytest.mark.parametrize(
    ("host", "name", "port"),
    [
        ("localhost:59898", "localhost", 59898),
        ("tcp://localhost:59898", "localhost", 59898),
        ("tcp://localhost:59898/", "localhost", 59898),
        ("tcp://service.example:1", "service.example", 1),
        ("[::1]:59898", "::1", 59898),
        ("tcp://[::1]:65535", "::1", 65535),
        ("127.0.0.1:80", "127.0.0.1", 80),
    ],
)
def test_a_host_is_a_name_and_a_port(host: str, name: str, port: int) -> None:
    endpoint = Endpoint.parse(host)
    assert (endpoint.name, endpoint.port) == (name, port)


@pytest.mark.parametrize(
    ("host", "says"),
    [
        (None, "no host"),
        ("", "no host"),
        ("localhost", "has no port"),
        ("tcp://localhost", "has no port"),
        ("tcp://localhost:", "has no port"),
        ("localhost:0", "has no port"),
        ("localhost:http", "bad port"),
        ("localhost:65536", "bad port"),
        ("localhost:-1", "bad port"),
        ("[::1", "bad port"),
        ("::1:59898", "bad port"),
        (":59898", "no plain name"),
        ("tcp://localhost:59898/path", "no plain name"),
        ("http://localhost:59898", "not a TCP service"),
    ],
)
def test_a_bad_host_is_refused_with_a_sentence_that_says_what_to_write(host: str | None, says: str) -> None:
    with pytest.raises(ValueError, match=says) as caught:
        Endpoint.parse(host)
    assert "tcp://name:port" in str(caught.value)


def test_a_service_on_the_second_address_of_a_name_is_found_and_remembered() -> None:
    # As with localhost, which is ::1 before it is 127.0.0.1.
    with peers.peer(peers.mute) as port, pytest.MonkeyPatch.context() as patch:
        found = [
            gevent.socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)[0] for name in ("127.0.0.2", "127.0.0.1")
        ]
        patch.setattr("locust_tcp.transport.endpoint.socket.getaddrinfo", lambda *_, **__: found)
        endpoint = Endpoint("localhost", port)
        for _ in range(2):
            # Several at once, which all find that the second one works.
            opening = [gevent.spawn(Connection.open, endpoint, TIMEOUT, MAX_REPLY) for _ in range(4)]
            for greenlet in gevent.wait(opening, timeout=kit.PATIENCE):
                greenlet.get().close()
            assert [address for _, address in endpoint.addresses()] == [("127.0.0.1", port), ("127.0.0.2", port)]


def test_a_connection_to_itself_is_refused() -> None:
    # With one port to choose from, the kernel gives our own end the very port that we connect to.
    port = kit.free_port()
    with contextlib.ExitStack() as stack:

        def bound(address_family: int, kind: int) -> gevent.socket.socket:
            sock = stack.enter_context(original(address_family, kind))
            sock.bind(("127.0.0.1", port))
            return sock

        original = gevent.socket.socket
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("locust_tcp.transport.connection.socket.socket", bound)
            with pytest.raises(TcpError, match="connect: refused"):
                Connection.open(Endpoint("127.0.0.1", port), TIMEOUT, MAX_REPLY)


def test_the_look_up_is_made_once_for_all_who_wait_for_it() -> None:
    looked_up = []
    original = gevent.socket.getaddrinfo

    def counting(name: str, *rest: Any, **options: Any) -> Any:
        looked_up.append(name)
        return original(name, *rest, **options)

    with peers.peer(peers.mute) as port, pytest.MonkeyPatch.context() as patch:
        patch.setattr("locust_tcp.transport.endpoint.socket.getaddrinfo", counting)
        endpoint = Endpoint("localhost", port)
        opening = [gevent.spawn(Connection.open, endpoint, TIMEOUT, MAX_REPLY) for _ in range(50)]
        for greenlet in gevent.wait(opening, timeout=kit.PATIENCE):
            greenlet.get().close()
    assert looked_up == ["localhost"]


def test_the_deadline_holds_under_load_and_never_fires_early() -> None:
    # A native thread keeps the interpreter busy meanwhile.
    idle = threading.Event()
    thread = threading.Thread(target=lambda: all(sum(range(1000)) for _ in iter(idle.is_set, True)))
    thread.start()
    try:
        for timeout in (0.05, 0.2):
            with pair() as (connection, _):
                connection.send(b"", timeout)
                begun = time.monotonic()
                with pytest.raises(TcpError, match="reply: timed out"):
                    connection.read_until()
                assert timeout - 0.01 <= time.monotonic() - begun < TIMEOUT
    finally:
        idle.set()
        thread.join()


needs_linux = pytest.mark.skipif(not Connection.kernel_times, reason="the kernel's arrival times are Linux's")


@contextlib.contextmanager
def over_tcp(behave: peers.Behaviour) -> Iterator[Connection]:
    """A Connection to a peer, over TCP, where the kernel has begun to give arrival times."""
    with peers.peer(behave) as port:
        connection = Connection.open(Endpoint("127.0.0.1", port), TIMEOUT, MAX_REPLY)

        def timed() -> bool:
            connection.send(b"?", TIMEOUT)
            connection.read_until()
            return connection.times()[1] is not None

        kit.eventually(timed)
        yield connection
        connection.close()


@needs_linux
def test_the_time_that_a_reply_waits_for_its_user_is_lag() -> None:
    with over_tcp(peers.answering(b"HELLO\n")) as connection:
        connection.send(b"?", TIMEOUT)
        time.sleep(0.3)  # all of Locust is busy with somebody else
        connection.read_until()
        response_time, lag = connection.times()
    assert lag is not None
    assert 0 < response_time < 0.2
    assert lag > 0.1
    assert 0.3 <= response_time + lag < TIMEOUT


@needs_linux
def test_a_reply_has_arrived_when_its_last_byte_has() -> None:
    def in_two(sock: socket.socket) -> None:
        while sock.recv(100):
            sock.sendall(b"HEL")
            threading.Event().wait(0.2)
            sock.sendall(b"LO\n")

    with over_tcp(in_two) as connection:
        connection.send(b"?", TIMEOUT)
        connection.read_until()
        response_time, lag = connection.times()
    assert response_time >= 0.2
    assert lag is not None
    assert lag < 0.2


@needs_linux
@pytest.mark.parametrize("step", [-3600, -0.1, 0.1, 3600], ids=str)
def test_a_stepped_clock_is_noticed(step: float) -> None:
    with over_tcp(peers.answering(b"HELLO\n")) as connection, pytest.MonkeyPatch.context() as patch:
        clock = time.time
        patch.setattr("time.time", lambda: clock() - step)
        connection.send(b"?", TIMEOUT)
        patch.undo()
        connection.read_until()
        response_time, lag = connection.times()
    assert lag is None
    assert 0 < response_time < TIMEOUT


@needs_linux
@pytest.mark.parametrize(
    "ancillary",
    [[], [(1, 37, bytes(48))]],
    ids=["none", "zero"],
)
def test_without_an_arrival_time_the_users_own_is_taken(ancillary: list[Any]) -> None:
    with over_tcp(peers.answering(b"HELLO\n")) as connection, pytest.MonkeyPatch.context() as patch:
        original = socket.socket.recvmsg

        class Untimed(socket.socket):
            def recvmsg(self, *arguments: Any) -> Any:
                return original(self, *arguments)[0], ancillary, 0, None

        patch.setattr(connection, "_sock", Untimed(fileno=socket.dup(connection._sock.fileno())))
        connection.send(b"?", TIMEOUT)
        connection.read_until()
        response_time, lag = connection.times()
    assert lag is None
    assert 0 < response_time < TIMEOUT


def test_arrival_times_can_be_switched_off() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Connection, "kernel_times", False)
        with pair() as (connection, theirs):
            theirs.sendall(b"HELLO\n")
            connection.read_until()
            assert connection.times()[1] is None
