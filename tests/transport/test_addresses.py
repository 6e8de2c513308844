"""Which of a name's addresses a connection goes to, and from which of our own it starts."""

import contextlib
import socket
from collections import Counter
from collections.abc import Iterator

import pytest

from locust_tcp.transport import endpoint as endpoint_module
from locust_tcp.transport.connection import Connection
from locust_tcp.transport.endpoint import Endpoint
from tests import kit, peers
from tests.transport.exchanges import MAX_REPLY, SHORT, TIMEOUT, fails

needs_linux = pytest.mark.skipif(not hasattr(socket, "SO_BINDTODEVICE"), reason="127.0.0.2 needs no set-up on Linux")


class Name:
    """A name with several addresses, and how often it was looked up."""

    def __init__(self, port: int, *addresses: str) -> None:
        self.endpoint = Endpoint("service.example", port)
        self.lookups = 0
        self.found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]

    def look_up(self, *_: object, **__: object) -> object:
        self.lookups += 1
        return self.found

    def connect(self, timeout: float = TIMEOUT) -> str:
        """Open a connection and close it; return the address that it went to."""
        connection = Connection.open(self.endpoint, timeout, MAX_REPLY)
        address = connection._stream._sock.getpeername()[0]
        connection.close()
        return str(address)


@contextlib.contextmanager
def name(port: int, *addresses: str) -> Iterator[Name]:
    """Give a name some addresses."""
    made = Name(port, *addresses)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("locust_tcp.transport.endpoint.socket.getaddrinfo", made.look_up)
        yield made


@contextlib.contextmanager
def listening(address: str, port: int = 0, backlog: int = 64) -> Iterator[int]:
    """Listen on an address, and accept nothing. Yields the port."""
    with socket.create_server((address, port), backlog=backlog) as listener:
        yield listener.getsockname()[1]


@needs_linux
def test_connections_start_at_each_address_in_turn() -> None:
    with listening("127.0.0.1") as port, listening("127.0.0.2", port), name(port, "127.0.0.1", "127.0.0.2") as two:
        assert Counter(two.connect() for _ in range(10)) == {"127.0.0.1": 5, "127.0.0.2": 5}
        assert two.lookups == 1


@needs_linux
def test_an_address_that_fails_is_left_and_found_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint_module, "TRY_AGAIN", 0.3)
    with listening("127.0.0.1") as port, name(port, "127.0.0.1", "127.0.0.2") as two:
        assert {two.connect() for _ in range(6)} == {"127.0.0.1"}
        with listening("127.0.0.2", port):
            kit.eventually(lambda: two.connect() == "127.0.0.2")
            assert {two.connect() for _ in range(2)} == {"127.0.0.1", "127.0.0.2"}


@needs_linux
def test_an_address_that_never_answers_leaves_time_for_the_others() -> None:
    with contextlib.ExitStack() as stack:
        port = stack.enter_context(listening("127.0.0.2", backlog=0))
        for _ in range(4):  # its backlog is full: the kernel drops SYNs
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.2", port))
        stack.enter_context(listening("127.0.0.1", port))
        two = stack.enter_context(name(port, "127.0.0.1", "127.0.0.2"))
        assert [two.connect(timeout=2 * SHORT) for _ in range(6)] == ["127.0.0.1"] * 6


def test_a_name_is_looked_up_again_when_all_of_its_addresses_have_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint_module, "LOOK_UP_AGAIN", 0.0)
    with peers.peer(peers.mute) as port, name(port, "127.0.0.1") as moved:
        moved.endpoint.port = port
        moved.found = [(*entry[:4], ("127.0.0.1", kit.free_port())) for entry in moved.found]
        with fails("connect: refused"):
            moved.connect()
        moved.found = [(*entry[:4], ("127.0.0.1", port)) for entry in moved.found]
        assert moved.connect() == "127.0.0.1"
        assert moved.lookups == 2


def test_a_swarm_of_failed_connects_does_not_look_up_as_often() -> None:
    with name(kit.free_port(), "127.0.0.1") as gone:
        for _ in range(50):
            with fails("connect: refused"):
                gone.connect()
        assert gone.lookups <= 2


@needs_linux
def test_connections_start_from_each_source_address_in_turn() -> None:
    sources: list[str] = []

    def behave(sock: socket.socket) -> None:
        sources.append(sock.getpeername()[0])

    with peers.peer(behave) as port:
        endpoint = Endpoint.parse(f"tcp://127.0.0.1:{port}", None, True, None, None, ("127.0.0.5", "127.0.0.6", "::1"))
        for _ in range(4):
            Connection.open(endpoint, TIMEOUT, MAX_REPLY).close()
        kit.eventually(lambda: Counter(sources) == {"127.0.0.5": 2, "127.0.0.6": 2})


@needs_linux
def test_two_destinations_may_share_a_source_port() -> None:
    # Without IP_BIND_ADDRESS_NO_PORT, bind() would choose a port that no other connection has.
    with peers.peer(peers.mute) as port:
        endpoint = Endpoint.parse(f"tcp://127.0.0.1:{port}", None, True, None, None, ("127.0.0.5",))
        connection = Connection.open(endpoint, TIMEOUT, MAX_REPLY)
        assert connection._stream._sock.getsockopt(socket.IPPROTO_IP, 24) == 1
        connection.close()


@pytest.mark.skipif(not hasattr(socket, "SO_BINDTODEVICE"), reason="Windows has another error")
def test_a_source_address_of_another_machine_is_named_as_such() -> None:
    endpoint = Endpoint.parse("tcp://127.0.0.1:1", None, True, None, None, ("192.0.2.1",))
    with fails("connect: Locust has no such source address"):
        Connection.open(endpoint, TIMEOUT, MAX_REPLY)


def test_a_source_address_that_is_none_is_refused_with_a_sentence() -> None:
    with pytest.raises(ValueError, match="'eth0' in source_addresses is not an IP address"):
        Endpoint.parse("tcp://127.0.0.1:1", None, True, None, None, ("eth0",))
