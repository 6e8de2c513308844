"""TLS: what the server serves, what a Connection makes of it, over real sockets."""

import contextlib
import fcntl
import functools
import itertools
import re
import select
import signal
import socket
import ssl
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gevent
import gevent.socket
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capserver.connection import CHUNK
from capserver.lines import MAX_LINE
from locust_tcp.transport.connection import Connection
from locust_tcp.transport.endpoint import Endpoint
from locust_tcp.transport.errors import TcpError
from locust_tcp.transport.tls import RECORD, Tls, tls_context
from tests import certificates, kit, peers

MAX_REPLY = 1000
TIMEOUT = 5.0
SHORT = 0.3  # seconds; the timeout of what is to time out

Files = certificates.Certificates


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """The certificates of this module's services."""
    return certificates.make(tmp_path_factory.mktemp("certificates"))


class End:
    """One end of a TLS connection, by the standard library over a socket, byte by byte in our hands.

    It is strict: an end of file that nobody has announced is an error.
    """

    def __init__(self, sock: Any, context: ssl.SSLContext, name: str | None = None) -> None:
        """Agree on TLS; without a `name` to ask for, as the server."""
        self.sock = sock
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._incoming, self._outgoing, server_side=name is None, server_hostname=name)
        while not self._does(self.tls.do_handshake):
            sock.sendall(self.unsent())
            self._take()
        if name:
            sock.sendall(self.unsent())  # a server's last words are tickets, which can wait

    def _does(self, act: Callable[[], object]) -> bool:
        try:
            act()
        except ssl.SSLWantReadError:
            return False
        except ssl.SSLError:
            self.sock.sendall(self.unsent())  # why, for the other end
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
        """Return records for the network."""
        for record in records:
            self.tls.write(record)
        return self.unsent()

    def close_notify(self) -> bytes:
        """Return for the network that we send no more."""
        self._does(self.tls.unwrap)
        return self.unsent()

    def sendall(self, data: bytes) -> None:
        """Send some data."""
        self.sock.sendall(self.encrypt(data))

    def recv(self, count: int) -> bytes:
        """Read up to so many bytes: nothing where the other end has said that there is no more."""
        while True:
            try:
                return self.tls.read(count)
            except ssl.SSLWantReadError:
                self._take()
            except ssl.SSLZeroReturnError:
                return b""

    def read(self, count: int = sys.maxsize) -> bytes:
        """Read so many bytes, or all that come until the other end says that there is no more."""
        data = b""
        while len(data) < count and (piece := self.recv(min(count - len(data), RECORD))):
            data += piece
        return data


# The server

WITH = r" with TLS; Ctrl-C stops it$"
CHANGED = (
    "import sys, capserver.connection, capserver.server, capserver.__main__ as main; {changes}; sys.exit(main.main())"
)


@contextlib.contextmanager
def tls_server(files: Files, folder: Path, *options: str) -> Iterator[kit.Server]:
    """A server with the good certificate."""
    with kit.server("--tls-cert", str(files.good), *options, output=folder / "server") as running:
        yield running


@contextlib.contextmanager
def changed_server(files: Files, folder: Path, *changes: str) -> Iterator[kit.Server]:
    """The same with other values for its constants."""
    code = CHANGED.format(changes="; ".join(f"capserver.{change}" for change in changes))
    options = ("--port", "0", "--tls-cert", files.good)
    server = kit.Server(sys.executable, "-c", code, *options, output=folder / "server")
    try:
        assert server.port
        yield server
    finally:
        if server.process.poll() is None:
            server.process.kill()
        server.process.wait()


@pytest.fixture(scope="module")
def server(files: Files, tmp_path_factory: pytest.TempPathFactory) -> Iterator[kit.Server]:
    """One server for the tests that leave it as they found it."""
    with tls_server(files, tmp_path_factory.mktemp("server")) as running:
        yield running


@contextlib.contextmanager
def tcp(server: kit.Server) -> Iterator[socket.socket]:
    """A connection to a server, without TLS."""
    with socket.create_connection(("127.0.0.1", server.port), kit.PATIENCE) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield sock


@contextlib.contextmanager
def client(server: kit.Server, files: Files) -> Iterator[End]:
    """A client who trusts the server."""
    with tcp(server) as sock:
        yield End(sock, tls_context(str(files.ca), verify=True), "localhost")


def ask(end: End, line: bytes) -> bytes:
    """Send one line; return what has come when a reply is complete."""
    end.sendall(line)
    reply = b""
    while not reply.endswith(b"\n"):
        piece = end.recv(RECORD)
        assert piece, f"the connection ended after {reply!r}"
        reply += piece
    return reply


@pytest.mark.parametrize(
    "line",
    [
        "hello\n",
        "\n",
        "one\r\n",
        "straße ﬁsch \u0149 \U00010428 🙂 日本\n",
        "x" * 60_000 + "\n",
        "x" * MAX_LINE + "\n",
        *("x" * (CHUNK + more) + "\n" for more in (-2, -1, 0, 1)),
    ],
    ids=["word", "empty", "CR LF", "Unicode", "60 KB", "the limit", "under a record", "a record", "more", "still more"],
)
def test_lines_come_back_in_upper_case_over_tls(server: kit.Server, files: Files, line: str) -> None:
    with client(server, files) as end:
        assert ask(end, line.encode()).decode() == line.upper()
        assert ask(end, b"hello\n") == b"HELLO\n"


@pytest.mark.parametrize("sent", [b"hello", b"one\nhello", b"", b"one\n", b"x" * MAX_LINE])
def test_a_line_without_its_end_is_answered_at_close_notify(server: kit.Server, files: Files, sent: bytes) -> None:
    with client(server, files) as end:
        end.sock.sendall(end.encrypt(sent) + end.close_notify())  # together, and apart:
        assert end.read() == sent.upper()  # until it says, too, that it sends no more
    with client(server, files) as end:
        assert ask(end, b"two\n" + sent) == b"TWO\n" + (b"ONE\n" if b"\n" in sent else b"")
        assert not select.select([end.sock], [], [], 0.1)[0]
        end.sock.sendall(end.close_notify())
        assert end.read() == sent.upper().removeprefix(b"ONE\n")


def test_five_thousand_lines_in_one_go_are_answered_in_order(tmp_path: Path, files: Files) -> None:
    lines = b"".join(b"line %d\n" % number for number in range(5000))
    with tls_server(files, tmp_path) as server:
        with client(server, files) as end:
            end.sendall(lines)
            assert end.read(len(lines)) == lines.upper()
        assert server.totals() == (5000, 1, 0)


def test_a_line_that_comes_byte_by_byte_in_tls_and_tcp_is_one_line(server: kit.Server, files: Files) -> None:
    with client(server, files) as end:
        for byte in end.encrypt(*(bytes([byte]) for byte in "groß\n".encode())):
            end.sock.sendall(bytes([byte]))
        assert end.read(len(b"GROSS\n")) == b"GROSS\n"


def test_a_client_that_reads_slowly_gets_it_all(server: kit.Server, files: Files) -> None:
    lines = (b"x" * 60_000 + b"\n") * 500  # 30 MB are more than the kernel keeps in all four buffers
    with client(server, files) as end:
        # It does not read before all is written, which takes a reader: the server, whose replies wait meanwhile.
        writer = threading.Thread(target=end.sock.sendall, args=(end.encrypt(lines) + end.close_notify(),))
        writer.start()
        kit.eventually(lambda: _is_stuck(end.sock))
        assert end.read() == lines.upper()
        writer.join(kit.PATIENCE)


def _is_stuck(sock: socket.socket) -> bool:
    """Say whether what has come is not read and what is to go does not go."""
    unread = _unread(sock)
    return unread > 0 and not select.select([], [sock], [], 0.1)[1] and _unread(sock) == unread


def _unread(sock: Any) -> int:
    """Return how many bytes wait in a socket to be read."""
    (count,) = struct.unpack("i", fcntl.ioctl(sock.fileno(), termios.FIONREAD, bytes(4)))
    return int(count)


def test_a_plain_client_on_the_tls_port_costs_its_connection_only(tmp_path: Path, files: Files) -> None:
    with tls_server(files, tmp_path, "--verbose") as server, client(server, files) as neighbour:
        for noise in (b"hello\n", b"GET / HTTP/1.1\r\n\r\n", bytes(100), b"\x16\x03\x01\xff\xff" + b"x" * 70_000):
            with tcp(server) as sock, contextlib.suppress(OSError):
                sock.sendall(noise)
                while received := sock.recv(100):
                    assert b"HELLO" not in received
            assert ask(neighbour, b"hello\n") == b"HELLO\n"
        with client(server, files) as another:
            assert ask(another, b"hello\n") == b"HELLO\n"
        assert server.totals() == (5, 6, 0)
    assert len(re.findall(r"lost \(.*\), 0 lines answered$", server.output, re.MULTILINE)) == 4
    assert "Traceback" not in server.output
    assert "dropped" not in server.output


def test_a_silent_client_is_let_go_before_it_has_agreed_on_tls(tmp_path: Path, files: Files) -> None:
    with changed_server(files, tmp_path, "connection.HANDSHAKE = 0.1") as server:
        with client(server, files) as neighbour:
            with tcp(server) as sock:
                assert sock.recv(100) == b""
            assert ask(neighbour, b"hello\n") == b"HELLO\n"  # whose time was for the handshake alone
        assert server.totals() == (1, 2, 0)
        assert server.output.endswith(", 1 idle\n")


def test_a_silent_client_before_the_handshake_does_not_hold_up_the_end(tmp_path: Path, files: Files) -> None:
    for_ever = ("connection.HANDSHAKE = 3600", "server.DRAIN = 3600")
    with changed_server(files, tmp_path, *for_ever) as server, tcp(server):
        with client(server, files) as end:  # when this one is served the silent one is, too
            assert ask(end, b"hello\n") == b"HELLO\n"
        assert server.totals() == (1, 2, 0)


def test_a_full_server_says_so_inside_tls(tmp_path: Path, files: Files) -> None:
    with tls_server(files, tmp_path, "--max-connections", "1") as server:
        with client(server, files) as first:
            assert ask(first, b"hello\n") == b"HELLO\n"
            with client(server, files) as second:
                assert second.read() == b"error: server full: 1 connections are open\n"
            assert ask(first, b"hello\n") == b"HELLO\n"
        assert server.totals() == (2, 2, 1)


def test_an_idle_client_is_let_go(tmp_path: Path, files: Files) -> None:
    with tls_server(files, tmp_path, "--idle-timeout", "0.2") as server:
        with client(server, files) as end:
            assert ask(end, b"hello\n") == b"HELLO\n"
            with contextlib.suppress(ssl.SSLEOFError):
                assert end.read() == b""
        assert server.totals() == (1, 1, 0)
        assert server.output.endswith(", 1 idle\n")


@pytest.mark.parametrize(("fault", "reply"), [("truncate", b"HEL"), ("close", b""), ("garble", b"?HELLO\n")])
def test_faults_strike_inside_tls(tmp_path: Path, files: Files, fault: str, reply: bytes) -> None:
    with tls_server(files, tmp_path, "--fault", f"{fault}=1") as server:
        with client(server, files) as end:
            end.sendall(b"hello\n")
            assert end.read(len(reply) if fault == "garble" else sys.maxsize) == reply
        assert server.totals() == (0, 1, 0)
        assert server.output.endswith(f", 1 {fault}\n")


def test_a_reset_and_a_refusal_are_resets(tmp_path: Path, files: Files) -> None:
    with tls_server(files, tmp_path, "--fault", "reset=1") as server:
        with client(server, files) as end:
            end.sendall(b"hello\n")
            with pytest.raises(ConnectionResetError):
                end.read()
        assert server.totals() == (0, 1, 0)
    with tls_server(files, tmp_path, "--fault", "refuse=1") as server:
        with pytest.raises((ConnectionResetError, BrokenPipeError)), client(server, files):
            pass
        assert server.totals() == (0, 1, 0)


def test_the_error_reaches_a_client_that_goes_on_sending_over_tls(server: kit.Server, files: Files) -> None:
    # As without TLS: closing at once would reset the connection, and the reset can overtake the error.
    with client(server, files) as end:
        end.sendall(b"x" * (MAX_LINE + 1) + b"more\n" * 1_000_000)
        replies = end.read()
        assert replies.startswith(b"error: line longer")
        assert replies.index(b"\n") == len(replies) - 1


def test_lines_sent_before_a_signal_are_answered_over_tls(tmp_path: Path, files: Files) -> None:
    lines = b"".join(b"line %d\n" % number for number in range(5000))
    with tls_server(files, tmp_path) as server, client(server, files) as end:
        end.sendall(lines)
        replies = end.read(1)  # the first answer has come: the server has them all
        assert server.stop(signal.SIGTERM) == 0
        assert replies + end.read() == lines.upper()
        assert server.output.splitlines()[-1] == "capserver: answered 5000 lines on 1 connections, 0 errors"


def test_lines_that_wait_in_the_kernel_at_the_signal_are_answered_over_tls(tmp_path: Path, files: Files) -> None:
    with tls_server(files, tmp_path) as server, client(server, files) as end:
        assert ask(end, b"hello\n") == b"HELLO\n"
        server.process.send_signal(signal.SIGSTOP)  # the signal to stop comes before it has read any of them
        end.sock.sendall(end.encrypt(*[b"one\n"] * 5000))  # a record each: one is read at a time
        server.process.send_signal(signal.SIGTERM)
        server.process.send_signal(signal.SIGCONT)
        assert end.read() == b"ONE\n" * 5000
        assert server.ends() == 0
        assert server.output.splitlines()[-1] == "capserver: answered 5001 lines on 1 connections, 0 errors"


def test_it_says_that_it_listens_with_tls(tmp_path: Path, files: Files) -> None:
    apart = ("--tls-cert", str(files.cert), "--tls-key", str(files.key))
    with kit.server(*apart, output=tmp_path / "server") as server, client(server, files) as end:
        server.says(r"\Acapserver: listening on 127\.0\.0\.1:\d+" + WITH)
        assert ask(end, b"hello\n") == b"HELLO\n"


@pytest.mark.parametrize(
    ("cert", "key", "says"),
    [
        ("missing.pem", None, "No such file or directory"),
        ("cert.pem", "missing.pem", "No such file or directory"),
        (".", None, "not a certificate and its private key, in PEM|Is a directory"),
        ("noise.pem", None, "not a certificate and its private key, in PEM"),
        ("empty.pem", None, "not a certificate and its private key, in PEM"),
        ("cert.pem", None, "not a certificate and its private key, in PEM"),
        ("key.pem", None, "not a certificate and its private key, in PEM"),
        ("cert.pem", "noise.pem", "not a certificate and its private key, in PEM"),
        ("cert.pem", "other-key.pem", "the key belongs to another certificate"),
        ("cert.pem", "locked-key.pem", "the key has a password; write it to the file without one"),
    ],
)
def test_bad_files_are_one_line_that_names_them(files: Files, cert: str, key: str | None, says: str) -> None:
    (files.folder / "noise.pem").write_bytes(bytes(range(256)))
    (files.folder / "empty.pem").touch()
    names = [files.folder / name for name in (cert, key) if name]
    options = [part for pair in zip(("--tls-cert", "--tls-key"), names, strict=False) for part in pair]
    ended = _run(*map(str, options))
    assert (ended.returncode, ended.stdout) == (2, "")
    shown = " and ".join(re.escape(str(name)) for name in names)
    assert re.fullmatch(rf"capserver: can't use {shown} for TLS: ({says})\n", ended.stderr)


def test_a_key_without_a_certificate_is_one_clear_line_and_the_usage(files: Files) -> None:
    ended = _run("--tls-key", str(files.key))
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith("usage: capserver ")
    assert ended.stderr.splitlines()[-1] == "capserver: error: --tls-key goes with --tls-cert"


def _run(*options: str) -> "subprocess.CompletedProcess[str]":
    """Run the server's command to its end, which should come at once."""
    return subprocess.run(
        [sys.executable, "-m", "capserver", "--port", "0", *options],
        cwd=kit.KIT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=kit.PATIENCE,
    )


# The client: agreeing on TLS


def service(cert: Path, *, tickets: bool = True) -> ssl.SSLContext:
    """Return how a service with a certificate talks TLS."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(cert)
    if not tickets:
        context.num_tickets = 0  # so that all that comes is what the service says
    return context


def inside(context: ssl.SSLContext, behave: Callable[[Any], object]) -> peers.Behaviour:
    """Have a peer behave as it does, inside TLS."""

    def tls(sock: socket.socket) -> None:
        with context.wrap_socket(sock, server_side=True) as wrapped:
            behave(wrapped)

    return tls


def by_hand(context: ssl.SSLContext, behave: Callable[[End], object]) -> peers.Behaviour:
    """Have a peer agree on TLS, and then choose each byte that it sends."""
    return lambda sock: behave(End(sock, context))


def opened(host: str, ca: Path | None = None, verify: bool = True, timeout: float = TIMEOUT) -> Connection:
    return Connection.open(Endpoint.parse(host, str(ca) if ca else None, verify), timeout, MAX_REPLY)


@contextlib.contextmanager
def talking_to(files: Files, behave: peers.Behaviour) -> Iterator[Connection]:
    """A Connection to a peer, who is trusted."""
    with peers.peer(behave) as port:
        connection = opened(f"tls://localhost:{port}", files.ca)
        yield connection
        connection.close()


def exchange(connection: Connection, timeout: float = TIMEOUT) -> bytes:
    """Ask, and return the reply: one line, and nothing else."""
    connection.send(b"?", timeout)
    reply = connection.read_until()
    connection.end()
    return reply


def wait_for_news(connection: Connection) -> None:
    """Wait until something has arrived that nobody has read yet."""
    assert select.select([connection._sock.fileno()], [], [], kit.PATIENCE)[0]


def fails(text: str) -> Any:
    """Expect a failure with this text, which is all that the Failures page shows."""
    return pytest.raises(TcpError, match=f"^{re.escape(text)}$")


CERTIFICATES = [
    ("good", "localhost", None),
    ("good", "127.0.0.1", None),
    ("dns_only", "localhost", None),
    ("dns_only", "127.0.0.1", "connect: certificate for another name"),
    ("other_name", "localhost", "connect: certificate for another name"),
    ("other_name", "127.0.0.1", "connect: certificate for another name"),
    ("expired", "localhost", "connect: certificate not trusted"),
    ("foreign", "localhost", "connect: certificate not trusted"),
]


@pytest.mark.parametrize(("cert", "name", "failure"), CERTIFICATES)
def test_a_service_has_to_prove_who_it_is(files: Files, cert: str, name: str, failure: str | None) -> None:
    context = service(getattr(files, cert))
    with peers.peer(inside(context, peers.answering(b"HELLO\n"))) as port:
        if failure is None:
            connection = opened(f"tls://{name}:{port}", files.ca)
            assert exchange(connection) == b"HELLO\n"
            assert connection.connect_time > 0
            connection.close()
        else:
            with fails(f"{failure}"):
                opened(f"tls://{name}:{port}", files.ca)


@pytest.mark.parametrize(("cert", "name"), [(cert, name) for cert, name, _ in CERTIFICATES])
def test_without_verification_any_certificate_will_do(files: Files, cert: str, name: str) -> None:
    with peers.peer(inside(service(getattr(files, cert)), peers.answering(b"HELLO\n"))) as port:
        connection = opened(f"tls://{name}:{port}", verify=False)
        assert exchange(connection) == b"HELLO\n"
        connection.close()


def test_without_a_ca_file_only_those_are_trusted_whom_the_system_trusts(files: Files) -> None:
    with peers.peer(inside(service(files.good), peers.mute)) as port, fails("connect: certificate not trusted"):
        opened(f"tls://localhost:{port}")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_the_last_two_versions_of_tls_are_spoken(files: Files, version: ssl.TLSVersion) -> None:
    context = service(files.good)
    context.minimum_version = context.maximum_version = version
    with talking_to(files, inside(context, peers.answering(b"HELLO\n"))) as connection:
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
def test_a_handshake_that_fails_is_a_failed_connect(files: Files, behave: peers.Behaviour, failure: str) -> None:
    with peers.peer(behave) as port, fails(f"connect: {failure}"):
        opened(f"tls://localhost:{port}", files.ca)


def _left_alone(closed: threading.Event, first: bytes, sock: socket.socket) -> None:
    sock.sendall(first)
    peers.mute(sock)  # until the other end is closed
    closed.set()


@pytest.mark.parametrize("first", [b"", b"\x16\x03\x03"], ids=["nothing", "three bytes"])
def test_a_handshake_that_is_never_answered_times_out_and_is_closed(files: Files, first: bytes) -> None:
    closed = threading.Event()
    with peers.peer(functools.partial(_left_alone, closed, first)) as port:
        begun = time.monotonic()
        with fails("connect: timed out"):
            opened(f"tls://localhost:{port}", files.ca, timeout=SHORT)
        assert SHORT - 0.01 <= time.monotonic() - begun < kit.PATIENCE / 2
        assert closed.wait(kit.PATIENCE)


def test_a_greenlet_killed_in_the_handshake_closes_its_connection(files: Files) -> None:
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


def demanding(files: Files, version: ssl.TLSVersion) -> ssl.SSLContext:
    """Return how a service talks TLS that demands a certificate of its clients."""
    context = service(files.good)
    context.minimum_version = context.maximum_version = version
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(files.ca)
    return context


def test_a_service_that_demands_a_certificate_fails_the_connect_with_tls_1_2(files: Files) -> None:
    behave = inside(demanding(files, ssl.TLSVersion.TLSv1_2), peers.mute)
    with peers.peer(behave) as port, fails("connect: TLS handshake failed"):
        opened(f"tls://localhost:{port}", files.ca)


@pytest.mark.parametrize("verdict", ["before the request", "after it"])
def test_a_service_that_demands_a_certificate_fails_the_reply_with_tls_1_3(files: Files, verdict: str) -> None:
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
    with talking_to(files, behave) as connection, fails("reply: TLS failed"):
        if verdict == "before the request":
            go_on.set()
            wait_for_news(connection)
        connection.send(b"?", TIMEOUT)
        go_on.set()
        connection.read_until()


# The client: reading


@contextlib.contextmanager
def pair(files: Files) -> Iterator[tuple[Connection, End, gevent.socket.socket]]:
    """A Connection, the other end, after a request was sent and taken, and the socket that the Connection reads."""
    ours, theirs = gevent.socket.socketpair()
    connection = Connection(ours, MAX_REPLY, Tls(tls_context(str(files.ca), verify=True), "localhost"))
    with theirs:
        other = gevent.spawn(End, theirs, service(files.good))
        connection._shake_hands()
        end: End = other.get()
        connection.send(b"?", TIMEOUT)
        assert end.recv(1) == b"?"
        yield connection, end, ours
        connection.close()


def cut(data: bytes, places: list[int]) -> list[bytes]:
    """Cut `data` at some places."""
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[begin:end] for begin, end in itertools.pairwise(edges)]


def deliver(
    ours: gevent.socket.socket, end: End, records: list[bytes], places: list[int]
) -> "gevent.Greenlet[..., None]":
    """Send records behind the tickets of the handshake, cut somewhere; each piece when the one before has been read."""

    def run() -> None:
        for piece in cut(end.encrypt(*filter(None, records)), places):
            end.sock.sendall(piece)
            while _unread(ours):
                gevent.sleep(0)

    return gevent.spawn(run)


# A record is about 22 bytes longer than what it holds, and the tickets are some 500 bytes: the cuts fall everywhere.
in_records = st.lists(st.integers(0, 99), max_size=9)
in_segments = st.lists(st.integers(0, 1000), max_size=20)
separators = st.sampled_from([b"\n", b"\r\n", b"aab", b"abab"])


@settings(max_examples=60, deadline=None)
@given(separators, st.text("ab\r\n", max_size=99), in_records, in_segments)
def test_read_until_finds_every_separator_however_the_records_come(
    files: Files, separator: bytes, text: str, records: list[int], places: list[int]
) -> None:
    data = text.encode() + separator
    lines = [line + separator for line in data.split(separator)[:-1]]
    data = b"".join(lines)  # ababab has one abab: what is left over would wait for ever to be read
    with pair(files) as (connection, end, ours):
        delivery = deliver(ours, end, cut(data, records), places)
        assert [connection.read_until(separator) for _ in lines] == lines
        delivery.get(timeout=TIMEOUT)
        connection.end()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 50), max_size=9), in_records, in_segments)
def test_read_exactly_returns_what_was_asked_for_over_tls(
    files: Files, counts: list[int], records: list[int], places: list[int]
) -> None:
    data = bytes(number % 251 for number in range(sum(counts)))
    with pair(files) as (connection, end, ours):
        delivery = deliver(ours, end, cut(data, records), places)
        assert b"".join(connection.read_exactly(count) for count in counts) == data
        delivery.kill()  # where nothing was to be read, nobody has read the tickets
        connection.end()
        assert connection.received == len(data)


@pytest.mark.parametrize("when", ["before the request", "before the reply", "with the reply"])
def test_tickets_for_the_next_session_are_not_the_reply(files: Files, when: str) -> None:
    def behave(end: End) -> None:
        tickets = end.unsent()
        assert tickets
        if when == "before the request":
            end.sock.sendall(tickets)
        assert end.recv(1) == b"?"
        if when == "before the reply":
            end.sock.sendall(tickets)
            sent.set()
            assert go_on.wait(kit.PATIENCE)
        end.sock.sendall((tickets if when == "with the reply" else b"") + end.encrypt(b"HELLO\n"))
        assert end.recv(1) == b"?"
        end.sendall(b"AGAIN\n")
        peers.mute(end.sock)

    sent, go_on = threading.Event(), threading.Event()
    with talking_to(files, by_hand(service(files.good), behave)) as connection:
        if when == "before the request":
            wait_for_news(connection)
        connection.send(b"?", TIMEOUT)
        reading = gevent.spawn(connection.read_until)
        if when == "before the reply":
            while not (sent.is_set() and _unread(connection._sock) == 0):
                gevent.sleep(0.01)
            assert not reading.dead
            go_on.set()
        assert reading.get(timeout=TIMEOUT) == b"HELLO\n"
        assert connection.received == len(b"HELLO\n")
        connection.end()
        assert exchange(connection) == b"AGAIN\n"


@pytest.mark.parametrize("encrypted", [False, True], ids=["TCP", "TLS"])
def test_what_is_said_before_the_first_request_is_not_its_reply(files: Files, encrypted: bool) -> None:
    def behave(sock: Any) -> None:
        sock.sendall(b"welcome\n")
        peers.mute(sock)

    context = service(files.good, tickets=False)
    with peers.peer(inside(context, behave) if encrypted else behave) as port:
        connection = opened(f"{'tls' if encrypted else 'tcp'}://localhost:{port}", files.ca)
        wait_for_news(connection)
        with fails("reply: wrong"):
            connection.send(b"?", TIMEOUT)
        connection.close()


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
        (_say_more, "more than was asked for"),
        (_say_goodbye, "closed"),
        (_end_without_a_word, "closed"),
        (_reset, "reset"),
    ],
)
def test_what_happens_between_two_exchanges_is_noticed(
    files: Files, act: Callable[[ssl.SSLSocket], None], failure: str
) -> None:
    def behave(tls: ssl.SSLSocket) -> None:
        tls.recv(1)
        tls.sendall(b"HELLO\n")
        assert go_on.wait(kit.PATIENCE)
        act(tls)

    go_on = threading.Event()
    with talking_to(files, inside(service(files.good, tickets=False), behave)) as connection:
        assert exchange(connection) == b"HELLO\n"
        go_on.set()
        wait_for_news(connection)
        with fails(f"reply: {failure}"):
            connection.send(b"?", TIMEOUT)


@pytest.mark.parametrize("together", [True, False], ids=["one segment", "two"])
@pytest.mark.parametrize(("reply", "failure"), [(b"HEL", "closed halfway"), (b"", "closed")])
def test_a_service_that_says_goodbye_in_the_middle_has_closed(
    files: Files, reply: bytes, failure: str, together: bool
) -> None:
    def behave(end: End) -> None:
        end.recv(1)
        for piece in (
            (end.encrypt(reply) + end.close_notify(),) if together else (end.encrypt(reply), end.close_notify())
        ):
            end.sock.sendall(piece)
        peers.mute(end.sock)  # it waits for the other's goodbye, as ssl.SSLSocket.unwrap does

    with talking_to(files, by_hand(service(files.good), behave)) as connection, fails(f"reply: {failure}"):
        exchange(connection, timeout=1)


def test_a_goodbye_with_the_reply_leaves_the_reply_and_ends_the_next(files: Files) -> None:
    def behave(end: End) -> None:
        end.recv(1)
        end.sock.sendall(end.encrypt(b"HELLO\n") + end.close_notify())
        peers.mute(end.sock)

    with talking_to(files, by_hand(service(files.good), behave)) as connection:
        assert exchange(connection) == b"HELLO\n"
        with fails("reply: closed"):
            exchange(connection, timeout=1)


@pytest.mark.parametrize("reply", [b"HEL", b""])
def test_a_service_that_ends_without_a_word_has_closed(files: Files, reply: bytes) -> None:
    def behave(tls: ssl.SSLSocket) -> None:
        tls.recv(1)
        tls.sendall(reply)
        _end_without_a_word(tls)

    with (
        talking_to(files, inside(service(files.good), behave)) as connection,
        fails(f"reply: {'closed halfway' if reply else 'closed'}"),
    ):
        exchange(connection)


@pytest.mark.parametrize(("behave", "failure"), [(peers.resetting, "reset"), (peers.mute, "timed out")])
def test_faults_inside_tls_are_named_as_without(files: Files, behave: peers.Behaviour, failure: str) -> None:
    with talking_to(files, inside(service(files.good), behave)) as connection, fails(f"reply: {failure}"):
        exchange(connection, timeout=SHORT)


def test_a_record_that_was_tampered_with_is_a_failure_of_tls(files: Files) -> None:
    def behave(end: End) -> None:
        end.recv(1)
        record = bytearray(end.encrypt(b"HELLO\n"))
        record[-1] ^= 1
        end.sock.sendall(record)
        peers.mute(end.sock)

    with talking_to(files, by_hand(service(files.good), behave)) as connection, fails("reply: TLS failed"):
        exchange(connection)


def test_an_endless_reply_is_given_up_and_not_kept(files: Files) -> None:
    with talking_to(files, inside(service(files.good), peers.endless)) as connection, fails("reply: too long"):
        exchange(connection)
        assert connection.received <= MAX_REPLY + RECORD


@pytest.mark.parametrize("size", [MAX_REPLY, MAX_REPLY + 1, 10 * MAX_REPLY])
def test_a_reply_may_be_as_long_as_the_limit_over_tls(files: Files, size: int) -> None:
    with talking_to(files, inside(service(files.good), peers.answering(b"x" * (size - 1) + b"\n"))) as connection:
        if size <= MAX_REPLY:
            assert len(exchange(connection)) == size
        else:
            with fails("reply: too long"):
                exchange(connection)


def _drip_a_record(end: End) -> None:
    end.recv(1)
    pause = threading.Event()
    for byte in end.encrypt(b"x" * MAX_REPLY):
        end.sock.sendall(bytes([byte]))
        pause.wait(peers.DRIP)


@pytest.mark.parametrize("what", ["records", "bytes of a record"])
def test_a_reply_that_drips_is_given_up_at_the_deadline(files: Files, what: str) -> None:
    context = service(files.good)
    behave = inside(context, peers.dripping) if what == "records" else by_hand(context, _drip_a_record)
    with talking_to(files, behave) as connection:
        begun = time.monotonic()
        with fails("reply: timed out"):
            exchange(connection, timeout=SHORT)
        assert SHORT - 0.01 <= time.monotonic() - begun < TIMEOUT


def test_a_request_that_nobody_takes_is_given_up_at_the_deadline_over_tls(files: Files) -> None:
    def behave(_: ssl.SSLSocket) -> None:
        done.wait(kit.PATIENCE)

    done = threading.Event()
    with talking_to(files, inside(service(files.good), behave)) as connection:
        begun = time.monotonic()
        with fails("reply: timed out"):
            connection.send(b"x" * 30_000_000, SHORT)
        assert SHORT - 0.01 <= time.monotonic() - begun < kit.PATIENCE
        done.set()


def test_a_long_line_goes_to_the_server_and_back(server: kit.Server, files: Files) -> None:
    endpoint = Endpoint.parse(f"tls://localhost:{server.port}", str(files.ca))
    connection = Connection.open(endpoint, TIMEOUT, 2 * MAX_LINE)
    for size in (1, 60_000, MAX_LINE):
        connection.send(b"x" * size + b"\n", TIMEOUT)
        assert connection.read_until() == b"X" * size + b"\n"
        connection.end()
    connection.close()


# The client: times

needs_linux = pytest.mark.skipif(not Connection.kernel_times, reason="the kernel's arrival times are Linux's")


@contextlib.contextmanager
def timed(files: Files, behave: Callable[[Any], object]) -> Iterator[Connection]:
    """A Connection to a peer inside TLS, where the kernel has begun to give arrival times."""
    with talking_to(files, inside(service(files.good), behave)) as connection:

        def has_lag() -> bool:
            exchange(connection)
            return connection.times()[1] is not None

        kit.eventually(has_lag)
        yield connection


@needs_linux
def test_the_time_that_a_reply_waits_for_its_user_is_lag_over_tls_too(files: Files) -> None:
    with timed(files, peers.answering(b"HELLO\n")) as connection:
        connection.send(b"?", TIMEOUT)
        time.sleep(0.3)  # all of Locust is busy with somebody else
        connection.read_until()
        response_time, lag = connection.times()
    assert lag is not None
    assert 0 < response_time < 0.2
    assert lag > 0.1
    assert 0.3 <= response_time + lag < TIMEOUT


@needs_linux
def test_a_reply_in_two_records_has_arrived_when_the_last_has(files: Files) -> None:
    def in_two(tls: ssl.SSLSocket) -> None:
        while tls.recv(100):
            tls.sendall(b"HEL")
            threading.Event().wait(0.2)
            tls.sendall(b"LO\n")

    with timed(files, in_two) as connection:
        exchange(connection)
        response_time, lag = connection.times()
    assert response_time >= 0.2
    assert lag is not None
    assert lag < 0.2


# The client: where to


@pytest.mark.parametrize(
    ("host", "name", "port"),
    [
        ("tls://localhost:59898", "localhost", 59898),
        ("tls://localhost:59898/", "localhost", 59898),
        ("tls://[::1]:443", "::1", 443),
        ("tls://127.0.0.1:1", "127.0.0.1", 1),
    ],
)
def test_a_host_may_be_one_with_tls(host: str, name: str, port: int) -> None:
    endpoint = Endpoint.parse(host)
    assert (endpoint.name, endpoint.port) == (name, port)
    assert endpoint.tls is not None
    assert endpoint.tls.check_hostname
    assert endpoint.tls.verify_mode == ssl.CERT_REQUIRED


def test_a_host_is_without_tls_unless_it_says_so(files: Files) -> None:
    assert Endpoint.parse("localhost:59898").tls is None
    assert Endpoint.parse("tcp://localhost:59898", str(files.ca)).tls is None


@pytest.mark.parametrize("scheme", ["http", "https", "ssl", "TLS", "tls+tcp", ""])
def test_other_schemes_are_refused_with_what_to_write(scheme: str) -> None:
    with pytest.raises(ValueError, match="tls://name:port"):
        Endpoint.parse(f"{scheme}://localhost:59898")


@pytest.mark.parametrize("host", ["tls://localhost", "tls://:1", "tls://localhost:0", "tls://localhost:1/path"])
def test_a_bad_host_with_tls_is_refused(host: str) -> None:
    with pytest.raises(ValueError, match="write it as"):
        Endpoint.parse(host)


@pytest.mark.parametrize("name", ["missing.pem", "noise.pem", "empty.pem", "key.pem", "."])
def test_a_bad_ca_file_is_refused_with_its_name(files: Files, name: str) -> None:
    (files.folder / "noise.pem").write_bytes(bytes(range(256)))
    (files.folder / "empty.pem").touch()
    file = str(files.folder / name)
    with pytest.raises(ValueError, match=re.escape(repr(file))):
        _ = Endpoint.parse("tls://localhost:59898", file).tls
