"""capserver/server.py: the wire, the pool and the burst, of a real server over real sockets."""

import contextlib
import itertools
import random
import re
import resource
import selectors
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capserver.lines import MAX_LINE
from tests import kit
from tests.wire import ask, assert_each_is_answered, connect, read, reset, silent

CROWD = 1000  # clients that connect at the same moment
POOL = 20
SOMAXCONN = Path("/proc/sys/net/core/somaxconn")  # the longest backlog that the kernel grants


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[kit.Server]:
    """One server for the tests that leave it as they found it."""
    with kit.server(output=tmp_path_factory.mktemp("server") / "server.log") as running:
        yield running


@pytest.fixture
def many_files() -> Iterator[None]:
    """Let this process, and those that it starts, open a crowd's sockets: some systems allow 256 files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2 * CROWD), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


# The wire


@pytest.mark.parametrize(
    ("sent", "replies"),
    [
        pytest.param("hello\n", "HELLO\n", id="word"),
        pytest.param("HELLO, 42!\n", "HELLO, 42!\n", id="nothing to capitalize"),
        pytest.param("hello\r\n", "HELLO\r\n", id="CR LF stays"),
        pytest.param("a\rb\n", "A\rB\n", id="CR ends no line"),
        pytest.param("\n", "\n", id="empty"),
        pytest.param("\r\n", "\r\n", id="empty with CR LF"),
        pytest.param("straße\n", "STRASSE\n", id="as many bytes, more letters"),
        pytest.param("ﬁsch \u0149 \u0390\n", "FISCH \u02bcN \u0399\u0308\u0301\n", id="more letters, more bytes"),
        pytest.param("ὀδύσσεια ὁδός\n", "ὈΔΎΣΣΕΙΑ ὉΔΌΣ\n", id="Greek"),
        pytest.param("\U00010428 🙂 日本\n", "\U00010400 🙂 日本\n", id="four bytes a letter"),
        pytest.param("one\ntwo\n\nthree\r\nfour\n", "ONE\nTWO\n\nTHREE\r\nFOUR\n", id="lines in one segment"),
        pytest.param("a\0b\n\0\n", "A\0B\n\0\n", id="NUL"),
        pytest.param("a\x01\x07\x1b[1m\x7fb\n", "A\x01\x07\x1b[1M\x7fB\n", id="control bytes"),
        # what str.splitlines takes for the end of a line, and this protocol does not
        pytest.param(
            "a\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029b\n",
            "A\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029B\n",
            id="Unicode line ends",
        ),
        pytest.param("\ufeffhello\n", "\ufeffHELLO\n", id="byte order mark"),
        pytest.param("x" * MAX_LINE + "\n", "X" * MAX_LINE + "\n", id="as long as the limit"),
        pytest.param("x" * (MAX_LINE - 1) + "\r\n", "X" * (MAX_LINE - 1) + "\r\n", id="limit with CR LF"),
    ],
)
def test_lines_come_back_in_upper_case(server: kit.Server, sent: str, replies: str) -> None:
    with connect(server) as sock:
        sock.sendall(sent.encode())
        # The answers come while the connection is open ...
        assert read(sock, len(replies.encode())).decode() == replies
        sock.shutdown(socket.SHUT_WR)
        assert read(sock) == b""  # ... and nothing comes after them.


def test_a_line_sent_byte_by_byte_is_one_line(server: kit.Server) -> None:
    with connect(server) as sock:
        for byte in "groß\r\n".encode():  # between the two bytes of ß as well
            assert silent(sock, 0.01)
            sock.sendall(bytes([byte]))
        assert read(sock, len(b"GROSS\r\n")) == b"GROSS\r\n"


def test_a_connection_is_answered_line_by_line(server: kit.Server) -> None:
    with connect(server) as sock:
        for number in range(100):
            assert ask(sock, b"line %d\n" % number) == b"LINE %d\n" % number


@pytest.mark.parametrize(
    ("sent", "replies"),
    [
        ("hello", "HELLO"),
        ("hello\r", "HELLO\r"),
        ("one\nzwölf ß", "ONE\nZWÖLF SS"),
        ("hello\n", "HELLO\n"),
        ("", ""),
        ("x" * MAX_LINE, "X" * MAX_LINE),
    ],
    ids=["word", "CR", "last of two", "ended by LF", "nothing", "as long as the limit"],
)
def test_a_line_without_its_end_is_answered_at_half_close(server: kit.Server, sent: str, replies: str) -> None:
    with connect(server) as sock:
        sock.sendall(sent.encode())
        sock.shutdown(socket.SHUT_WR)
        assert read(sock).decode() == replies


def test_a_line_without_its_end_is_not_answered_before_half_close(server: kit.Server) -> None:
    with connect(server) as sock:
        sock.sendall(b"hel")
        assert silent(sock)
        assert ask(sock, b"lo\n") == b"HELLO\n"


@pytest.mark.parametrize(
    "noise",
    [b"\xff\xfe", b"stra\xc3", b"\xc0\x80", b"\xed\xa0\x80", b"\xf5\x80\x80\x80", b"caf\xe9\r"],
    ids=["never in UTF-8", "half a letter", "overlong NUL", "surrogate", "beyond Unicode", "Latin-1"],
)
def test_a_line_that_is_not_utf8_costs_that_line_only(server: kit.Server, noise: bytes) -> None:
    with connect(server) as sock:
        assert ask(sock, noise + b"\n").startswith(b"error: ")
        assert ask(sock, b"hello\n") == b"HELLO\n"
        sock.sendall(b"one\n" + noise + b"\ntwo\n")
        sock.shutdown(socket.SHUT_WR)
        one, error, two = read(sock).splitlines()
        assert (one, error[:7], two) == (b"ONE", b"error: ", b"TWO")


@pytest.mark.parametrize("ending", [b"\n", b""], ids=["ended", "not ended"])
def test_a_line_longer_than_the_limit_is_an_error_and_the_end(server: kit.Server, ending: bytes) -> None:
    with connect(server) as sock:
        assert ask(sock, b"hello\n") == b"HELLO\n"
        sock.sendall(b"x" * (MAX_LINE + 1) + ending)
        replies = read(sock)  # until the end of file: the connection is closed
        assert replies.startswith(b"error: ")
        assert replies.index(b"\n") == len(replies) - 1


def test_the_limit_counts_bytes_not_letters(tmp_path: Path) -> None:
    with kit.server("--max-line", "5", output=tmp_path / "server.log") as server:
        with connect(server) as sock:
            assert ask(sock, b"hello\n") == b"HELLO\n"
            assert ask(sock, "ééa\n".encode()) == "ÉÉA\n".encode()
            assert ask(sock, "ééé\n".encode()).startswith(b"error: ")
        assert server.totals() == (2, 1, 1)


def test_the_error_reaches_a_peer_that_goes_on_sending(server: kit.Server) -> None:
    # A server that closed at once would reset the connection, and a reset can overtake the error:
    # the peer must be able to send a lot more, and only then look for an answer.
    with connect(server) as sock:
        sock.sendall(b"x" * (MAX_LINE + 1) + b"more\n" * 1_000_000)
        replies = read(sock)
        assert replies.startswith(b"error: ")
        assert replies.index(b"\n") == len(replies) - 1  # nothing after the error was answered

        def cut_off() -> bool:
            try:
                sock.sendall(b"more\n")
            except OSError:
                return True
            return False

        kit.eventually(cut_off)  # it isn't read for ever


# Lines of anything, cut anywhere. CR, NUL and what grows are rare among all of Unicode, so that they get lines of
# their own.
texts = st.text(st.characters(codec="utf-8", exclude_characters="\n"), max_size=40) | st.text(
    "a\r\0ßﬁ\u0390", max_size=5
)


@settings(max_examples=150, deadline=None)
@given(
    lines=st.lists(texts, max_size=20),
    last=texts,
    places=st.lists(st.integers(min_value=0, max_value=2000), max_size=12),
)
def test_the_replies_are_the_lines_in_upper_case_however_they_are_cut(
    server: kit.Server, lines: list[str], last: str, places: list[int]
) -> None:
    sent = "".join(f"{line}\n" for line in lines).encode() + last.encode()
    edges = [0, *sorted(place % (len(sent) + 1) for place in places), len(sent)]
    with connect(server) as sock:
        for begin, end in itertools.pairwise(edges):
            sock.sendall(sent[begin:end])
        sock.shutdown(socket.SHUT_WR)
        assert read(sock).decode() == "".join(f"{line.upper()}\n" for line in lines) + last.upper()


# The burst


@contextlib.contextmanager
def crowd(server: kit.Server) -> Iterator[list[socket.socket]]:
    """Clients that all connect at the same moment, when each is connected."""
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(socket.socket()) for _ in range(CROWD)]
        connecting = stack.enter_context(selectors.DefaultSelector())
        for client in clients:
            client.setblocking(False)
            client.connect_ex(("127.0.0.1", server.port))
            connecting.register(client, selectors.EVENT_WRITE)
        while connecting.get_map():
            ready = connecting.select(kit.PATIENCE)
            assert ready, f"{len(connecting.get_map())} of {CROWD} could not connect"
            for key, _ in ready:
                connecting.unregister(key.fileobj)
        failures = [code for client in clients if (code := client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))]
        assert not failures
        for client in clients:
            client.settimeout(kit.PATIENCE)
        yield clients


@pytest.mark.usefixtures("many_files")
def test_of_a_thousand_that_connect_at_once_each_is_answered(tmp_path: Path) -> None:
    with kit.server(output=tmp_path / "server.log") as server:
        with crowd(server) as clients:
            assert_each_is_answered(clients)
        assert server.totals() == (CROWD, CROWD, 0)


@pytest.mark.skipif(
    not SOMAXCONN.exists() or int(SOMAXCONN.read_text()) < CROWD,
    reason="this kernel grants no backlog for a thousand connections",
)
@pytest.mark.usefixtures("many_files")
def test_a_thousand_find_room_in_the_backlog_while_the_server_is_busy(tmp_path: Path) -> None:
    with kit.server(output=tmp_path / "server.log") as server:
        server.process.send_signal(signal.SIGSTOP)  # the most busy that it can be: it accepts nobody
        with crowd(server) as clients:
            server.process.send_signal(signal.SIGCONT)
            assert_each_is_answered(clients)


# The pool


@contextlib.contextmanager
def full_pool(output: Path) -> Iterator[tuple[kit.Server, list[socket.socket], socket.socket]]:
    """A server, the clients that fill its pool, and one more that has sent a line and waits."""
    with kit.server("--pool", str(POOL), output=output) as server, contextlib.ExitStack() as stack:
        served = [stack.enter_context(connect(server)) for _ in range(POOL)]
        for sock in served:
            assert ask(sock, b"in\n") == b"IN\n"
        waiting = stack.enter_context(connect(server))
        waiting.sendall(b"waiting\n")
        assert silent(waiting)
        yield server, served, waiting


def test_a_client_beyond_the_pool_is_answered_when_one_leaves(tmp_path: Path) -> None:
    with full_pool(tmp_path / "server.log") as (server, served, waiting):
        assert ask(served[7], b"still in\n") == b"STILL IN\n"
        assert silent(waiting)
        served[7].close()
        assert read(waiting, len(b"WAITING\n")) == b"WAITING\n"
        with connect(server) as another:  # the pool is as full as before
            another.sendall(b"another\n")
            assert silent(another)


def test_a_client_beyond_the_pool_is_closed_unanswered_when_the_server_stops(tmp_path: Path) -> None:
    with full_pool(tmp_path / "server.log") as (server, served, waiting):
        assert server.totals() == (POOL, POOL + 1, 0)
        with pytest.raises(ConnectionResetError):  # by which it learns that its line was not read
            read(waiting)
        assert [read(sock) for sock in served] == [b""] * POOL


def test_a_client_that_resets_gives_its_place_in_the_pool_back(tmp_path: Path) -> None:
    with kit.server("--pool", "1", output=tmp_path / "server.log") as server:
        for _ in range(5):
            with connect(server) as sock:
                assert ask(sock, b"hello\n") == b"HELLO\n"
                reset(sock)


@pytest.mark.skipif(not hasattr(socket, "TCP_INFO"), reason="only Linux tells the peer's end of file from our own")
def test_a_line_ended_by_half_close_before_the_server_stops_is_answered(tmp_path: Path) -> None:
    with (
        kit.server(output=tmp_path / "server.log") as server,
        connect(server) as sock,
    ):
        assert ask(sock, b"in\n") == b"IN\n"
        server.process.send_signal(signal.SIGSTOP)  # so that the stop finds the line still to be read
        sock.sendall(b"last")
        sock.shutdown(socket.SHUT_WR)
        server.process.send_signal(signal.SIGTERM)
        server.process.send_signal(signal.SIGCONT)
        assert read(sock) == b"LAST"
        assert server.ends() == 0
        assert server.output.endswith("answered 2 lines on 1 connections, 0 errors\n")


# Peers that misbehave


def reset_at_once(sock: socket.socket) -> None:
    reset(sock)


def reset_mid_line(sock: socket.socket) -> None:
    assert ask(sock, b"hello\n") == b"HELLO\n"
    sock.sendall(b"hel")
    reset(sock)


def reset_with_answers_unread(sock: socket.socket) -> None:
    sock.sendall(b"hello\n" * 10_000)
    reset(sock)


def vanish_mid_line(sock: socket.socket) -> None:
    assert ask(sock, b"hello\n") == b"HELLO\n"
    sock.sendall(b"hel")
    sock.close()


def send_noise(sock: socket.socket) -> None:
    noise = random.Random(59898).randbytes(300_000) + b"\n"
    sock.sendall(noise)
    sock.shutdown(socket.SHUT_WR)
    assert read(sock).count(b"\n") == noise.count(b"\n")  # an answer for each line, whatever it is


@pytest.mark.parametrize(
    "misbehave", [reset_at_once, reset_mid_line, reset_with_answers_unread, vanish_mid_line, send_noise]
)
def test_a_peer_that_misbehaves_costs_its_connection_only(
    tmp_path: Path, misbehave: Callable[[socket.socket], None]
) -> None:
    with kit.server("--verbose", output=tmp_path / "server.log") as server, connect(server) as neighbour:
        for _ in range(5):
            with connect(server) as sock:
                misbehave(sock)
        # Each has been dealt with when its closing line is there.
        kit.eventually(lambda: len(re.findall(r"(?:closed|lost [^,]*), \d+ lines answered", server.output)) == 5)
        with connect(server) as sock:
            assert ask(sock, b"hello\n") == b"HELLO\n"
        assert ask(neighbour, b"hello\n") == b"HELLO\n"
        server.totals()
        assert "Traceback" not in server.output
        assert "dropped" not in server.output  # the line for what no handler foresaw
