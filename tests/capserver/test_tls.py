"""python -m capserver with TLS: what it serves, what it refuses, how it ends."""

import contextlib
import re
import select
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from capserver.connection import CHUNK
from capserver.lines import MAX_LINE
from locust_tcp.transport.tls import tls_context
from tests import kit, wire
from tests.certificates import Certificates
from tests.tls_end import End

WITH = r" with TLS; Ctrl-C stops it$"
CHANGED = (
    "import sys, capserver.connection, capserver.server, capserver.__main__ as main; {changes}; sys.exit(main.main())"
)


@contextlib.contextmanager
def tls_server(files: Certificates, folder: Path, *options: str) -> Iterator[kit.Server]:
    """A server with the good certificate."""
    with kit.server("--tls-cert", str(files.good), *options, output=folder / "server") as running:
        yield running


@contextlib.contextmanager
def changed_server(files: Certificates, folder: Path, *changes: str) -> Iterator[kit.Server]:
    """The same with other values for its constants."""
    code = CHANGED.format(changes="; ".join(f"capserver.{change}" for change in changes))
    with kit.server("--tls-cert", str(files.good), code=("-c", code), output=folder / "server") as running:
        yield running


@pytest.fixture(scope="module")
def server(files: Certificates, tmp_path_factory: pytest.TempPathFactory) -> Iterator[kit.Server]:
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
def client(server: kit.Server, files: Certificates) -> Iterator[End]:
    """A client who trusts the server."""
    with tcp(server) as sock:
        yield End(sock, tls_context(str(files.ca), verify=True), "localhost")


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
def test_lines_come_back_in_upper_case_over_tls(server: kit.Server, files: Certificates, line: str) -> None:
    with client(server, files) as end:
        assert wire.ask(end, line.encode()).decode() == line.upper()
        assert wire.ask(end, b"hello\n") == b"HELLO\n"


@pytest.mark.parametrize("sent", [b"hello", b"one\nhello", b"", b"one\n", b"x" * MAX_LINE])
def test_a_line_without_its_end_is_answered_at_close_notify(
    server: kit.Server, files: Certificates, sent: bytes
) -> None:
    with client(server, files) as end:
        end.sock.sendall(end.encrypt(sent) + end.close_notify())  # together, and apart:
        assert wire.read(end) == sent.upper()  # until it says, too, that it sends no more
    with client(server, files) as end:
        assert wire.ask(end, b"two\n" + sent) == b"TWO\n" + (b"ONE\n" if b"\n" in sent else b"")
        assert not select.select([end.sock], [], [], 0.1)[0]
        end.sock.sendall(end.close_notify())
        assert wire.read(end) == sent.upper().removeprefix(b"ONE\n")


def test_five_thousand_lines_in_one_go_are_answered_in_order(tmp_path: Path, files: Certificates) -> None:
    lines = b"".join(b"line %d\n" % number for number in range(5000))
    with tls_server(files, tmp_path) as server:
        with client(server, files) as end:
            end.sendall(lines)
            assert wire.read(end, len(lines)) == lines.upper()
        assert server.totals() == (5000, 1, 0)


def test_a_line_that_comes_byte_by_byte_in_tls_and_tcp_is_one_line(server: kit.Server, files: Certificates) -> None:
    with client(server, files) as end:
        for byte in end.encrypt(*(bytes([byte]) for byte in "groß\n".encode())):
            end.sock.sendall(bytes([byte]))
        assert wire.read(end, len(b"GROSS\n")) == b"GROSS\n"


def test_a_client_that_reads_slowly_gets_it_all(server: kit.Server, files: Certificates) -> None:
    lines = (b"x" * 60_000 + b"\n") * 500  # 30 MB are more than the kernel keeps in all four buffers
    with client(server, files) as end:
        # It does not read before all is written, which takes a reader: the server, whose replies wait meanwhile.
        writer = threading.Thread(target=end.sock.sendall, args=(end.encrypt(lines) + end.close_notify(),))
        writer.start()
        kit.eventually(lambda: _is_stuck(end.sock))
        assert wire.read(end) == lines.upper()
        writer.join(kit.PATIENCE)


def _is_stuck(sock: socket.socket) -> bool:
    """Say whether what has come is not read and what is to go does not go."""
    unread = wire.unread(sock)
    return unread > 0 and not select.select([], [sock], [], 0.1)[1] and wire.unread(sock) == unread


def test_a_plain_client_on_the_tls_port_costs_its_connection_only(tmp_path: Path, files: Certificates) -> None:
    with tls_server(files, tmp_path, "--verbose") as server, client(server, files) as neighbour:
        for noise in (b"hello\n", b"GET / HTTP/1.1\r\n\r\n", bytes(100), b"\x16\x03\x01\xff\xff" + b"x" * 70_000):
            with tcp(server) as sock, contextlib.suppress(OSError):
                sock.sendall(noise)
                while received := sock.recv(100):
                    assert b"HELLO" not in received
            assert wire.ask(neighbour, b"hello\n") == b"HELLO\n"
        with client(server, files) as another:
            assert wire.ask(another, b"hello\n") == b"HELLO\n"
        assert server.totals() == (5, 6, 0)
    assert len(re.findall(r"lost \(.*\), 0 lines answered$", server.output, re.MULTILINE)) == 4
    assert "Traceback" not in server.output
    assert "dropped" not in server.output


def test_a_silent_client_is_let_go_before_it_has_agreed_on_tls(tmp_path: Path, files: Certificates) -> None:
    with changed_server(files, tmp_path, "connection.HANDSHAKE = 0.1") as server:
        with client(server, files) as neighbour:
            with tcp(server) as sock:
                assert sock.recv(100) == b""
            assert wire.ask(neighbour, b"hello\n") == b"HELLO\n"  # whose time was for the handshake alone
        assert server.totals() == (1, 2, 0)
        assert server.output.endswith(", 1 idle\n")


def test_a_silent_client_before_the_handshake_does_not_hold_up_the_end(tmp_path: Path, files: Certificates) -> None:
    for_ever = ("connection.HANDSHAKE = 3600", "server.DRAIN = 3600")
    with changed_server(files, tmp_path, *for_ever) as server, tcp(server):
        with client(server, files) as end:  # when this one is served the silent one is, too
            assert wire.ask(end, b"hello\n") == b"HELLO\n"
        assert server.totals() == (1, 2, 0)


def test_a_full_server_says_so_inside_tls(tmp_path: Path, files: Certificates) -> None:
    with tls_server(files, tmp_path, "--max-connections", "1") as server:
        with client(server, files) as first:
            assert wire.ask(first, b"hello\n") == b"HELLO\n"
            with client(server, files) as second:
                assert wire.read(second) == b"error: server full: 1 connections are open\n"
            assert wire.ask(first, b"hello\n") == b"HELLO\n"
        assert server.totals() == (2, 2, 1)


def test_an_idle_client_is_let_go(tmp_path: Path, files: Certificates) -> None:
    with tls_server(files, tmp_path, "--idle-timeout", "0.2") as server:
        with client(server, files) as end:
            assert wire.ask(end, b"hello\n") == b"HELLO\n"
            with contextlib.suppress(ssl.SSLEOFError):
                assert wire.read(end) == b""
        assert server.totals() == (1, 1, 0)
        assert server.output.endswith(", 1 idle\n")


@pytest.mark.parametrize(("fault", "reply"), [("truncate", b"HEL"), ("close", b""), ("garble", b"?HELLO\n")])
def test_faults_strike_inside_tls(tmp_path: Path, files: Certificates, fault: str, reply: bytes) -> None:
    with tls_server(files, tmp_path, "--fault", f"{fault}=1") as server:
        with client(server, files) as end:
            end.sendall(b"hello\n")
            assert wire.read(end, len(reply) if fault == "garble" else sys.maxsize) == reply
        assert server.totals() == (0, 1, 0)
        assert server.output.endswith(f", 1 {fault}\n")


def test_a_reset_and_a_refusal_are_resets(tmp_path: Path, files: Certificates) -> None:
    with tls_server(files, tmp_path, "--fault", "reset=1") as server:
        with client(server, files) as end:
            end.sendall(b"hello\n")
            with pytest.raises(ConnectionResetError):
                wire.read(end)
        assert server.totals() == (0, 1, 0)
    with tls_server(files, tmp_path, "--fault", "refuse=1") as server:
        with pytest.raises((ConnectionResetError, BrokenPipeError)), client(server, files):
            pass
        assert server.totals() == (0, 1, 0)


def test_the_error_reaches_a_client_that_goes_on_sending_over_tls(server: kit.Server, files: Certificates) -> None:
    # As without TLS: closing at once would reset the connection, and the reset can overtake the error.
    with client(server, files) as end:
        end.sendall(b"x" * (MAX_LINE + 1) + b"more\n" * 1_000_000)
        replies = wire.read(end)
        assert replies.startswith(b"error: line longer")
        assert replies.index(b"\n") == len(replies) - 1


def test_lines_sent_before_a_signal_are_answered_over_tls(tmp_path: Path, files: Certificates) -> None:
    lines = b"".join(b"line %d\n" % number for number in range(5000))
    with tls_server(files, tmp_path) as server, client(server, files) as end:
        end.sendall(lines)
        replies = wire.read(end, 1)  # the first answer has come: the server has them all
        assert server.stop(signal.SIGTERM) == 0
        assert replies + wire.read(end) == lines.upper()
        assert server.output.splitlines()[-1] == "capserver: answered 5000 lines on 1 connections, 0 errors"


def test_lines_that_wait_in_the_kernel_at_the_signal_are_answered_over_tls(tmp_path: Path, files: Certificates) -> None:
    with tls_server(files, tmp_path) as server, client(server, files) as end:
        assert wire.ask(end, b"hello\n") == b"HELLO\n"
        server.process.send_signal(signal.SIGSTOP)  # the signal to stop comes before it has read any of them
        end.sock.sendall(end.encrypt(*[b"one\n"] * 5000))  # a record each: one is read at a time
        server.process.send_signal(signal.SIGTERM)
        server.process.send_signal(signal.SIGCONT)
        assert wire.read(end) == b"ONE\n" * 5000
        assert server.ends() == 0
        assert server.output.splitlines()[-1] == "capserver: answered 5001 lines on 1 connections, 0 errors"


def test_it_says_that_it_listens_with_tls(tmp_path: Path, files: Certificates) -> None:
    apart = ("--tls-cert", str(files.cert), "--tls-key", str(files.key))
    with kit.server(*apart, output=tmp_path / "server") as server, client(server, files) as end:
        server.says(r"\Acapserver: listening on 127\.0\.0\.1:\d+" + WITH)
        assert wire.ask(end, b"hello\n") == b"HELLO\n"


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
def test_bad_files_are_one_line_that_names_them(files: Certificates, cert: str, key: str | None, says: str) -> None:
    (files.folder / "noise.pem").write_bytes(bytes(range(256)))
    (files.folder / "empty.pem").touch()
    names = [files.folder / name for name in (cert, key) if name]
    options = [part for pair in zip(("--tls-cert", "--tls-key"), names, strict=False) for part in pair]
    ended = _run(*map(str, options))
    assert (ended.returncode, ended.stdout) == (2, "")
    shown = " and ".join(re.escape(str(name)) for name in names)
    assert re.fullmatch(rf"capserver: can't use {shown} for TLS: ({says})\n", ended.stderr)


def test_a_key_without_a_certificate_is_one_clear_line_and_the_usage(files: Certificates) -> None:
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
