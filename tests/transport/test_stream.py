"""transport/stream.py: connecting, waiting and deadlines, over real sockets."""

import contextlib
import socket
import threading
import time

import gevent
import gevent.socket
import pytest

from locust_tcp.transport.connection import Connection
from locust_tcp.transport.endpoint import Endpoint
from tests import kit, peers
from tests.transport.exchanges import MAX_REPLY, TIMEOUT, fails, pair


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
            patch.setattr("locust_tcp.transport.stream.socket.socket", bound)
            with fails("connect: refused"):
                Connection.open(Endpoint("127.0.0.1", port), TIMEOUT, MAX_REPLY)


def test_the_deadline_holds_under_load_and_never_fires_early() -> None:
    # A native thread keeps the interpreter busy meanwhile.
    idle = threading.Event()
    thread = threading.Thread(target=lambda: all(sum(range(1000)) for _ in iter(idle.is_set, True)))
    thread.start()
    try:
        for timeout in (0.05, 0.2):
            with pair() as (connection, _, _):
                connection.send(b"", timeout)
                begun = time.monotonic()
                with fails("reply: timed out"):
                    connection.read_until()
                assert timeout - 0.01 <= time.monotonic() - begun < TIMEOUT
    finally:
        idle.set()
        thread.join()


def test_a_greenlet_killed_while_it_waits_is_not_held_up() -> None:
    with pair() as (connection, _, _):
        reader = gevent.spawn(connection.read_until)
        gevent.sleep(0)
        reader.kill(timeout=TIMEOUT)
        assert isinstance(reader.value, gevent.GreenletExit)
