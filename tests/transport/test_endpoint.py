"""transport/endpoint.py: where a service listens, written and looked up."""

import re
import socket
import ssl
from typing import Any

import gevent
import gevent.socket
import pytest

from locust_tcp.transport.connection import Connection
from locust_tcp.transport.endpoint import Endpoint
from tests import kit, peers
from tests.certificates import Certificates
from tests.transport.exchanges import MAX_REPLY, SHORT, TIMEOUT, fails


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
        ("tls://localhost:59898/", "localhost", 59898),
        ("tls://[::1]:443", "::1", 443),
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
        ("tcp://10.0..1:80", "bad name"),
        ("tcp://.example:80", "bad name"),
        (f"tcp://{'x' * 64}.example:80", "bad name"),
        ("tls://localhost", "has no port"),
        ("tls://:1", "no plain name"),
        ("tls://localhost:0", "has no port"),
        ("tls://localhost:1/path", "no plain name"),
    ],
)
def test_a_bad_host_is_refused_with_a_sentence_that_says_what_to_write(host: str | None, says: str) -> None:
    with pytest.raises(ValueError, match=says) as caught:
        Endpoint.parse(host)
    assert "tcp://name:port" in str(caught.value)


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


def test_a_look_up_that_fails_is_made_once_for_all_who_wait_for_it() -> None:
    looked_up = []

    def failing(name: str, *_: Any, **__: Any) -> Any:
        looked_up.append(name)
        gevent.sleep(SHORT)
        raise socket.gaierror(socket.EAI_NONAME, "unknown")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("locust_tcp.transport.endpoint.socket.getaddrinfo", failing)
        endpoint = Endpoint("nobody.invalid", 1)
        opening = [gevent.spawn(Connection.open, endpoint, TIMEOUT, MAX_REPLY) for _ in range(50)]
        assert len(gevent.wait(opening, timeout=kit.PATIENCE)) == 50
        assert {str(greenlet.exception) for greenlet in opening} == {"connect: unknown host"}
        assert len(looked_up) == 1
        with fails("connect: unknown host"):
            Connection.open(endpoint, TIMEOUT, MAX_REPLY)
        assert len(looked_up) == 2


def test_a_connection_that_gives_up_leaves_the_look_up_to_the_others() -> None:
    def slow(*_: Any, **__: Any) -> Any:
        gevent.sleep(2 * SHORT)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    with peers.peer(peers.mute) as port, pytest.MonkeyPatch.context() as patch:
        patch.setattr("locust_tcp.transport.endpoint.socket.getaddrinfo", slow)
        endpoint = Endpoint("localhost", port)
        with fails("connect: timed out"):
            Connection.open(endpoint, SHORT, MAX_REPLY)
        Connection.open(endpoint, TIMEOUT, MAX_REPLY).close()


def test_a_host_with_tls_has_to_prove_its_name() -> None:
    context = Endpoint.parse("tls://localhost:59898").tls
    assert context is not None
    assert context.check_hostname
    assert context.verify_mode == ssl.CERT_REQUIRED


def test_a_host_is_without_tls_unless_it_says_so(files: Certificates) -> None:
    assert Endpoint.parse("localhost:59898").tls is None
    assert Endpoint.parse("tcp://localhost:59898", str(files.ca)).tls is None


@pytest.mark.parametrize("scheme", ["http", "https", "ssl", "TLS", "tls+tcp", ""])
def test_other_schemes_are_refused_with_what_to_write(scheme: str) -> None:
    with pytest.raises(ValueError, match="tls://name:port"):
        Endpoint.parse(f"{scheme}://localhost:59898")


@pytest.mark.parametrize("name", ["missing.pem", "noise.pem", "empty.pem", "key.pem", "."])
def test_a_bad_ca_file_is_refused_with_its_name(files: Certificates, name: str) -> None:
    (files.folder / "noise.pem").write_bytes(bytes(range(256)))
    (files.folder / "empty.pem").touch()
    file = str(files.folder / name)
    with pytest.raises(ValueError, match=re.escape(repr(file))):
        _ = Endpoint.parse("tls://localhost:59898", file).tls
