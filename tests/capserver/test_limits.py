"""The real server with more, worse and stranger peers than it has room for."""

import contextlib
import os
import random
import re
import resource
import selectors
import signal
import socket
import struct
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from fcntl import ioctl
from pathlib import Path

import psutil
import pytest

from tests import kit
from tests.wire import ask, assert_each_is_answered, connect, read, reset, silent

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks at the server's memory as Linux tells it")

CROWD = 10_000  # connections that are open at once
BURST = 5_000  # connections that begin at once: more than the backlog holds
SPARE = 500  # descriptors for all else
PER_CONNECTION = 30 * 1024  # bytes of memory that a connection may cost
BOUND = 20 * 1024 * 1024  # bytes of memory that a peer may cost who sends for ever
STEADY = 3 * 1024 * 1024  # bytes by which the memory of threads may vary: 300 of them take 6 MB
FLOOD = 100 * 1024 * 1024  # bytes that stand for "for ever"
SHORT = "[Oo]ut of memory|MemoryError|no more threads|greedy"
FULL = b"error: server full: 3 connections are open\n"


@pytest.fixture
def many_files() -> Iterator[None]:
    """Let this process open a crowd's sockets. The server does that for itself."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < CROWD + SPARE:
        pytest.skip(f"a process may open no more than {hard} files here")
    if soft != resource.RLIM_INFINITY:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, CROWD + SPARE), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def connecting(server: kit.Server, count: int, stack: contextlib.ExitStack) -> list[socket.socket]:
    """Return sockets that have begun to connect; the stack closes them."""
    clients = [stack.enter_context(socket.socket()) for _ in range(count)]
    for client in clients:
        client.setblocking(False)
        client.connect_ex(("127.0.0.1", server.port))
    return clients


def connected(clients: list[socket.socket]) -> list[socket.socket]:
    """Wait until each is connected, none refused, and have it block from now on."""
    with selectors.DefaultSelector() as selector:
        for client in clients:
            selector.register(client, selectors.EVENT_WRITE)
        while selector.get_map():
            ready = selector.select(kit.PATIENCE)
            assert ready, f"{len(selector.get_map())} of {len(clients)} could not connect"
            for key, _ in ready:
                selector.unregister(key.fileobj)
    assert not [code for client in clients if (code := client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))]
    for client in clients:
        client.settimeout(kit.PATIENCE)
    return clients


def crowd(server: kit.Server, count: int, stack: contextlib.ExitStack) -> list[socket.socket]:
    """Return clients that are connected, and that the stack closes."""
    return connected(connecting(server, count, stack))


def process(server: kit.Program) -> psutil.Process:
    """The server as the system sees it."""
    return psutil.Process(server.process.pid)


def memory(server: kit.Program) -> int:
    """The bytes of memory that the server takes."""
    return int(process(server).memory_info().rss)


def files(server: kit.Program) -> int:
    """The descriptors that the server has open."""
    return int(process(server).num_fds())


def read_to_the_end(sock: socket.socket, size: int = 65536, pause: float = 0.0) -> bytes:
    """Read until the connection ends, by an end of file or by a reset; a slow reader pauses between pieces."""
    pieces = []
    with contextlib.suppress(ConnectionError):
        while piece := sock.recv(size):
            pieces.append(piece)
            time.sleep(pause)
    return b"".join(pieces)


def is_cut_off(sock: socket.socket) -> bool:
    """Say whether a peer can send no more because its connection is gone."""
    try:
        sock.send(b"x", socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return False


# Many


@pytest.mark.usefixtures("many_files")
def test_ten_thousand_connections_leave_room_for_a_hundred_more_and_nothing_behind(tmp_path: Path) -> None:
    with kit.server(output=tmp_path / "server.log") as server:
        with connect(server) as first:
            assert ask(first, b"hello\n") == b"HELLO\n"
            memory_before, threads = memory(server), process(server).num_threads() - 1
            files_before = files(server) - 1
        with contextlib.ExitStack() as stack:
            clients = crowd(server, CROWD, stack)
            kit.eventually(lambda: files(server) >= files_before + CROWD)
            with contextlib.ExitStack() as others:
                assert_each_is_answered([others.enter_context(connect(server)) for _ in range(100)])
            assert_each_is_answered(clients)
            assert (memory(server) - memory_before) / CROWD < PER_CONNECTION
        kit.eventually(
            lambda: (process(server).num_threads(), files(server)) == (threads, files_before), 4 * kit.PATIENCE
        )
        assert server.totals() == (CROWD + 101, CROWD + 101, 0)


@pytest.mark.usefixtures("many_files")
def test_of_more_than_the_backlog_holds_each_is_answered_in_the_end(tmp_path: Path) -> None:
    with kit.server(output=tmp_path / "server.log") as server, contextlib.ExitStack() as stack:
        server.process.send_signal(signal.SIGSTOP)  # so that they do come at once, and none is accepted
        clients = connecting(server, BURST, stack)
        server.process.send_signal(signal.SIGCONT)
        assert_each_is_answered(connected(clients))  # the kernel tries again, after a second, with the overflow
        assert server.totals() == (BURST, BURST, 0)


# A full server


@contextlib.contextmanager
def full_server(output: Path, *options: str) -> Iterator[tuple[kit.Server, list[socket.socket]]]:
    """A server that takes no more than three connections, and these."""
    with kit.server("--max-connections", "3", *options, output=output) as server, contextlib.ExitStack() as stack:
        yield server, [stack.enter_context(connect(server)) for _ in range(3)]


def test_one_too_many_is_told_and_closed_and_the_others_go_on(tmp_path: Path) -> None:
    with full_server(tmp_path / "server.log") as (server, inside):
        assert_each_is_answered(inside)
        with connect(server) as fourth:
            assert read(fourth) == FULL
        assert_each_is_answered(inside)
        assert server.totals() == (6, 4, 1)


def test_one_too_many_is_told_even_when_it_has_sent_lines_before_it_reads(tmp_path: Path) -> None:
    with full_server(tmp_path / "server.log") as (server, inside):
        assert_each_is_answered(inside)
        server.process.send_signal(signal.SIGSTOP)  # so that its lines are there before the refusal is
        with connect(server) as fourth:
            fourth.sendall(b"hello\n" * 1000)
            server.process.send_signal(signal.SIGCONT)
            assert not silent(fourth, kit.PATIENCE)
            fourth.sendall(b"hello\n" * 1000)
            assert read(fourth) == FULL  # and then an end of file: a reset would raise an error here
        assert server.totals() == (3, 4, 1)


def test_when_one_leaves_a_full_server_another_gets_in(tmp_path: Path) -> None:
    with full_server(tmp_path / "server.log", "--verbose") as (server, inside), connect(server) as refused:
        assert_each_is_answered(inside)
        assert read(refused) == FULL  # it stays, for as long as it is let: that must take nobody's place
        leaving = inside.pop()
        port = leaving.getsockname()[1]
        leaving.close()
        server.says(f":{port} closed")
        with connect(server) as another, connect(server) as one_too_many:
            assert ask(another, b"hello\n") == b"HELLO\n"
            assert read(one_too_many) == FULL
            assert_each_is_answered([*inside, another])
        assert server.totals() == (7, 6, 2)


def test_a_flood_that_is_refused_disturbs_nobody_who_is_in(tmp_path: Path) -> None:
    with full_server(tmp_path / "server.log") as (server, inside), contextlib.ExitStack() as stack:
        assert_each_is_answered(inside)
        full = files(server)
        refused = crowd(server, 500, stack)
        for number, client in enumerate(refused):
            if number % 50 == 0:
                assert_each_is_answered(inside)
            assert read(client) == FULL
            client.close()
        kit.eventually(lambda: files(server) == full)
        assert_each_is_answered(inside)
        assert server.totals() == (36, 503, 500)


def test_who_waits_for_the_pool_is_not_refused_but_counts(tmp_path: Path) -> None:
    with full_server(tmp_path / "server.log", "--pool", "2") as (server, inside):
        served, waiting = inside[:2], inside[2]
        assert_each_is_answered(served)
        waiting.sendall(b"hello\n")
        assert silent(waiting)
        with connect(server) as fourth:
            assert read(fourth) == FULL
        assert silent(waiting)  # the refused one had no place in the pool that could be given on
        served[0].close()
        assert read(waiting, 6) == b"HELLO\n"
        with connect(server) as another:
            assert silent(another)  # in, and behind the two that are served
            served[1].close()
            assert ask(another, b"hello\n") == b"HELLO\n"
        assert server.totals() == (4, 5, 1)


# Peers that leave before their turn


def test_a_client_that_leaves_the_queue_frees_its_place_and_is_not_counted(tmp_path: Path) -> None:
    def admitted() -> socket.socket | None:  # of one more client
        sock = connect(server)
        if silent(sock):
            return sock
        assert read(sock) == FULL
        return None

    with full_server(tmp_path / "server.log", "--pool", "1") as (server, (served, leaving, half_closed)):
        assert ask(served, b"hello\n") == b"HELLO\n"
        assert admitted() is None
        leaving.sendall(b"left\n" * 10_000)  # more than is read at a time
        leaving.close()
        late = kit.eventually(admitted)
        assert late
        with late:
            assert admitted() is None
            half_closed.sendall(b"stays\nuntil the end")
            half_closed.shutdown(socket.SHUT_WR)
            late.sendall(b"late\n")
            assert silent(late)
            served.close()
            assert read(half_closed) == b"STAYS\nUNTIL THE END"
            assert read(late, 5) == b"LATE\n"
        assert server.totals()[0] == 4


def test_a_reply_that_is_late_counts_only_where_the_client_is_still_there(tmp_path: Path) -> None:
    with kit.server("--fault", "delay=1:500", output=tmp_path / "server.log") as server:
        with connect(server) as gone, connect(server) as half_closed:
            for sock in (gone, half_closed):
                assert ask(sock, b"hello\n") == b"HELLO\n"  # its thread waits for the next line
            gone.sendall(b"hello\n")
            half_closed.sendall(b"hello\n")
            gone.close()
            half_closed.shutdown(socket.SHUT_WR)
            assert read(half_closed) == b"HELLO\n"
        assert server.totals() == (3, 2, 0)


# Idle peers


def test_a_peer_that_says_nothing_or_never_ends_its_line_is_closed(tmp_path: Path) -> None:
    with kit.server("--idle-timeout", "1", "--verbose", output=tmp_path / "server.log") as server:
        begin = time.monotonic()
        with connect(server) as mute, connect(server) as trickling:
            end = begin + kit.PATIENCE
            while silent(trickling, 0.2):
                assert time.monotonic() < end
                trickling.send(b"x")
            assert read(mute) == b""
            assert time.monotonic() - begin > 0.9  # not sooner than asked for
            ports = [sock.getsockname()[1] for sock in (mute, trickling)]
        for port in ports:
            server.says(rf"^capserver: 127\.0\.0\.1:{port} idle, 0 lines answered$")
        assert server.totals() == (0, 2, 0)
        assert server.output.endswith(", 0 errors, 2 idle\n")


def test_a_peer_that_sends_a_line_now_and_then_stays(tmp_path: Path) -> None:
    with kit.server("--idle-timeout", "2", output=tmp_path / "server.log") as server, connect(server) as sock:
        end = time.monotonic() + 4
        while time.monotonic() < end:
            assert ask(sock, b"hello\n") == b"HELLO\n"
            assert silent(sock)
        assert server.totals()[1:] == (1, 0)
        assert "idle" not in server.output


def test_a_peer_that_waits_for_its_answer_is_not_idle(tmp_path: Path) -> None:
    options = ("--idle-timeout", "1", "--fault", "delay=1:2500")
    with kit.server(*options, output=tmp_path / "server.log") as server, connect(server) as sock:
        assert ask(sock, b"hello\n") == b"HELLO\n"


def test_an_idle_timeout_of_zero_closes_nobody(tmp_path: Path) -> None:
    with kit.server("--idle-timeout", "0", output=tmp_path / "server.log") as server, connect(server) as sock:
        assert silent(sock, 1.5)  # as long as several looks for idle peers are apart
        assert ask(sock, b"hello\n") == b"HELLO\n"


# Peers that send for ever


def flood(server: kit.Server, sock: socket.socket, data: bytes, neighbour: socket.socket) -> int:
    """Send `data` again and again, until nothing is taken any more, or enough; return how the server has grown."""
    before, grown, sent = memory(server), 0, 0
    sock.setblocking(False)
    with selectors.DefaultSelector() as selector, contextlib.suppress(ConnectionError):
        selector.register(sock, selectors.EVENT_WRITE)
        while sent < FLOOD and selector.select(0.5):
            for _ in range(50):
                with contextlib.suppress(BlockingIOError):
                    sent += sock.send(data)
            assert ask(neighbour, b"hello\n") == b"HELLO\n"
            grown = max(grown, memory(server) - before)
    sock.settimeout(kit.PATIENCE)
    return grown


def test_a_peer_that_never_reads_its_answers_costs_little_memory_and_is_idle_in_the_end(tmp_path: Path) -> None:
    with (
        kit.server("--idle-timeout", "1", "--verbose", output=tmp_path / "server.log") as server,
        connect(server) as neighbour,
        connect(server) as greedy,
    ):
        port = greedy.getsockname()[1]
        assert flood(server, greedy, (b"x" * 99 + b"\n") * 655, neighbour) < BOUND

        def closed() -> bool:
            assert ask(neighbour, b"hello\n") == b"HELLO\n"
            return is_cut_off(greedy)

        kit.eventually(closed)
        server.says(rf"^capserver: 127\.0\.0\.1:{port} idle, \d+ lines answered$")


def test_an_endless_line_costs_little_memory_and_is_an_error(tmp_path: Path) -> None:
    with (
        kit.server(output=tmp_path / "server.log") as server,
        connect(server) as neighbour,
        connect(server) as endless,
    ):
        assert flood(server, endless, b"x" * 65536, neighbour) < BOUND
        assert read_to_the_end(endless) == b"error: line longer than 65536 bytes\n"
        kit.eventually(lambda: is_cut_off(endless))
        assert server.totals()[1:] == (2, 1)


# The end, among peers that are busy


def unreceived(sock: socket.socket) -> int:
    """Return how many of the bytes sent the other side's system does not have yet (tcp(7), SIOCOUTQ)."""
    (count,) = struct.unpack("i", ioctl(sock, termios.TIOCOUTQ, bytes(4)))
    return int(count)


def slow_reader(server: kit.Server) -> socket.socket:
    """Connect a socket with so little room that the server has to wait until something has been read."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.settimeout(kit.PATIENCE)
    sock.connect(("127.0.0.1", server.port))
    return sock


def test_lines_received_before_the_signal_are_answered_though_they_are_read_slowly(tmp_path: Path) -> None:
    sent = b"".join(b"line%5d\n" % number for number in range(20_000))
    with kit.server(output=tmp_path / "server.log") as server, slow_reader(server) as sock:
        sock.sendall(sent)
        kit.eventually(lambda: not unreceived(sock))
        server.process.send_signal(signal.SIGTERM)
        replies = read_to_the_end(sock, 2000, 0.005)
        assert replies == sent.upper()
        assert server.ends() == 0
        assert server.output.endswith("answered 20000 lines on 1 connections, 0 errors\n")


def test_lines_that_wait_behind_unread_answers_at_the_signal_are_answered(tmp_path: Path) -> None:
    lines = b"".join(b"line%95d\n" % number for number in range(300_000))  # more than all buffers hold
    with kit.server(output=tmp_path / "server.log") as server, connect(server) as sock:
        sent = 0
        sock.setblocking(False)
        with selectors.DefaultSelector() as selector:
            selector.register(sock, selectors.EVENT_WRITE)
            while selector.select(0.5):
                with contextlib.suppress(BlockingIOError):
                    sent += sock.send(lines[sent : sent + 65536])
        sock.settimeout(kit.PATIENCE)
        assert sent < len(lines)  # the server is stuck
        received = sent - unreceived(sock)
        server.process.send_signal(signal.SIGTERM)
        kit.eventually(lambda: not kit.listens(server.port))  # it has understood
        replies = read_to_the_end(sock)
        assert server.ends() == 0
        assert len(replies) > received - 100
        assert replies == lines[: len(replies)].upper()


def test_lines_received_before_the_signal_are_answered_though_more_are_sent_after_it(tmp_path: Path) -> None:
    sent = b"".join(b"line%5d\n" % number for number in range(1000))  # as much as fits into any buffer
    with kit.server(output=tmp_path / "server.log") as server, connect(server) as sock:
        server.process.send_signal(signal.SIGSTOP)
        sock.sendall(sent)
        kit.eventually(lambda: not unreceived(sock))
        server.process.send_signal(signal.SIGTERM)
        server.process.send_signal(signal.SIGCONT)

        def go_on() -> None:
            with contextlib.suppress(OSError):
                while True:
                    sock.sendall(b"later\n")

        sender = threading.Thread(target=go_on)
        sender.start()
        replies = read_to_the_end(sock)
        assert server.ends() == 0
        sender.join(kit.PATIENCE)
        assert not sender.is_alive()
        assert replies[: len(sent)] == sent.upper()
        later = replies[len(sent) :]
        assert later == (b"LATER\n" * len(later))[: len(later)]


# Without memory


@contextlib.contextmanager
def short_server(output: Path, spare: int) -> Iterator[tuple[kit.Program, Callable[[], socket.socket]]]:
    """A server that has so many KB more than it takes with one client, and what connects to it."""
    environment = dict(os.environ, MALLOC_ARENA_MAX="1")  # an arena for each thread would be 64 MB of nothing
    command = f"exec {sys.executable} -m capserver --port 0 --max-line 100000000"

    def run(limit: str) -> contextlib.AbstractContextManager[kit.Program]:
        return kit.program("bash", "-c", f"ulimit -v {limit}; {command}", output=output, environment=environment)

    def connect_to(server: kit.Program) -> socket.socket:
        port = int(server.says(r"listening on .*:(\d+)")[1])
        return socket.create_connection(("127.0.0.1", port), kit.PATIENCE)

    with run("unlimited") as server, connect_to(server) as sock:
        assert ask(sock, b"hello\n") == b"HELLO\n"
        needs = process(server).memory_info().vms // 1024
    with run(str(needs + spare)) as server:
        yield server, lambda: connect_to(server)
        assert server.stop() == 0
    assert not re.search("Traceback|Exception", server.output)


def test_lines_beyond_the_memory_cost_their_connections_and_the_others_go_on(tmp_path: Path) -> None:
    with short_server(tmp_path / "server", 20_000) as (server, connect), contextlib.ExitStack() as stack:
        early = [stack.enter_context(connect()) for _ in range(5)]
        assert_each_is_answered(early)
        with contextlib.ExitStack() as greedy:
            for _ in range(100):  # lines that have no end yet: more in all than there is memory
                sock = greedy.enter_context(connect())
                with contextlib.suppress(ConnectionError):
                    sock.sendall(b"x" * 4_000_000)
            server.says(SHORT)
            assert_each_is_answered(early)
        assert_each_is_answered([*early, *(stack.enter_context(connect()) for _ in range(5))])


def test_without_memory_the_longest_unfinished_lines_go_first(tmp_path: Path) -> None:
    with short_server(tmp_path / "server", 30_000) as (server, connect):
        with contextlib.ExitStack() as stack, connect() as first:
            assert ask(first, b"hello\n") == b"HELLO\n"
            quiet = files(server) - 1
            early = [stack.enter_context(connect()) for _ in range(5)]
            short = stack.enter_context(connect())
            short.sendall(b"hel")
            for number in range(300):  # unfinished lines that take more than there is
                greedy = stack.enter_context(connect())
                with contextlib.suppress(ConnectionError):
                    greedy.sendall(b"x" * 60_000)
                if number % 5 == 0:
                    assert_each_is_answered(early)
            server.says(SHORT)
            assert ask(short, b"lo\n") == b"HELLO\n"
            kit.eventually(lambda: is_served(connect))  # while greedy ones stay
            assert_idle(server)
        kit.eventually(lambda: files(server) == quiet)  # also those whose thread had no memory to begin with


def is_served(connect: Callable[[], socket.socket]) -> bool:
    """Return whether a new client gets an answer."""
    with connect() as late, contextlib.suppress(ConnectionError):
        late.sendall(b"late\n")
        return late.recv(100) == b"LATE\n"
    return False


def assert_idle(server: kit.Program) -> None:
    """Fail if a server takes much of a core although nothing is asked of it."""
    before = process(server).cpu_times()
    time.sleep(1)
    after = process(server).cpu_times()
    assert after.user + after.system - before.user - before.system < 0.25, "it spins"


def test_without_descriptors_the_longest_unfinished_lines_go_first(tmp_path: Path) -> None:
    command = f"ulimit -n 40; exec {sys.executable} -m capserver --port 0"
    with kit.program("bash", "-c", command, output=tmp_path / "server") as server, contextlib.ExitStack() as stack:
        address = ("127.0.0.1", int(server.says(r"listening on .*:(\d+)")[1]))
        early = [stack.enter_context(socket.create_connection(address, kit.PATIENCE)) for _ in range(5)]
        assert_each_is_answered(early)
        for _ in range(60):
            greedy = stack.enter_context(socket.create_connection(address, kit.PATIENCE))
            with contextlib.suppress(ConnectionError):
                greedy.sendall(b"x" * 60_000)
        server.says("new connections wait until others are closed")
        late = stack.enter_context(socket.create_connection(address, kit.PATIENCE))
        assert_each_is_answered([*early, late])
        assert server.stop() == 0
        assert re.search(r", [1-9]\d* greedy$", server.output)


@pytest.mark.usefixtures("many_files")
def test_a_server_with_more_connections_than_memory_serves_again_when_they_have_left(tmp_path: Path) -> None:
    with short_server(tmp_path / "server", 3000) as (server, connect):
        with contextlib.ExitStack() as many:
            for _ in range(CROWD):  # one after the other, so that memory ends in the midst of anything
                many.enter_context(connect())
                if re.search(SHORT, server.output):
                    break
            server.says(SHORT)

        kit.eventually(lambda: is_served(connect))  # as soon as enough of the threads have ended


# Peers that do anything


def go_wild(server: kit.Server, generator: random.Random, left: contextlib.ExitStack) -> None:
    """Be one peer that does a few things at random; one that is abandoned stays open until `left` closes it."""
    sock = left.enter_context(connect(server))
    with contextlib.suppress(ConnectionError):
        for _ in range(generator.randrange(6)):
            match generator.randrange(6):
                case 0:
                    sock.sendall(generator.randbytes(generator.randrange(1, 5000)))
                case 1:
                    sock.sendall(bytes(generator.choices(b"ab\r\n\xc3\x9f\0", k=generator.randrange(1, 3000))))
                case 2:
                    sock.sendall(b"x" * generator.choice([1, 1000, 70_000]))
                case 3:
                    silent(sock, 0.001)
                    sock.settimeout(0)
                    with contextlib.suppress(BlockingIOError):
                        sock.recv(generator.randrange(1, 5000))
                    sock.settimeout(kit.PATIENCE)
                case 4:
                    sock.shutdown(socket.SHUT_WR)
                    if generator.random() < 0.5:
                        read(sock)
                    break
                case 5:
                    break
        match generator.randrange(3):
            case 0:
                reset(sock)
            case 1:
                sock.close()


def test_three_hundred_wild_peers_leave_nothing_behind(tmp_path: Path) -> None:
    generator = random.Random(59898)
    with kit.server(output=tmp_path / "server.log") as server, connect(server) as neighbour:
        assert ask(neighbour, b"hello\n") == b"HELLO\n"
        quiet = files(server)

        def some_go_wild(count: int) -> None:
            with contextlib.ExitStack() as left:
                for _ in range(count):
                    go_wild(server, generator, left)
                    assert ask(neighbour, b"hello\n") == b"HELLO\n"
            kit.eventually(lambda: files(server) == quiet)

        some_go_wild(300)  # after which all the memory that it ever takes has been taken once
        before = memory(server), process(server).num_threads()
        some_go_wild(300)
        assert memory(server) - before[0] < STEADY
        assert process(server).num_threads() == before[1]
        _, connections, errors = server.totals()
        assert connections == 601
        assert errors > 300
        assert not re.search("Traceback|dropped", server.output)


# Threads and cores


def in_threads(count: int, act: Callable[[int], None]) -> None:
    """Do something in so many threads at once; fail where one of them does."""
    done: list[int] = []

    def run(number: int) -> None:
        act(number)
        done.append(number)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(2 * kit.PATIENCE)
    assert sorted(done) == list(range(count))


def converse(server: kit.Server, number: int, lines: int, lines_per_connection: int) -> None:
    """Send some lines, each when the one before is answered, on one connection after the other."""
    for _ in range(lines // lines_per_connection):
        with connect(server) as sock:
            for line in range(lines_per_connection):
                assert ask(sock, b"%d of %d\n" % (line, number)) == b"%d OF %d\n" % (line, number)
            assert ask(sock, b"\xff\n").startswith(b"error: ")


@pytest.mark.parametrize("cores", ["one", "all"])
def test_the_accounts_of_all_threads_are_exact(tmp_path: Path, cores: str) -> None:
    with kit.server("--cores", cores, output=tmp_path / "server.log") as server:
        in_threads(50, lambda number: converse(server, number, 200, 200 if number % 2 else 20))
        # 25 clients with one connection each, 25 with ten; an error on each of them
        assert server.totals() == (50 * 200, 275, 275)
        assert "Traceback" not in server.output


def test_a_pool_has_no_more_threads_and_serves_everybody_in_the_end(tmp_path: Path) -> None:
    with kit.server("--pool", "2", output=tmp_path / "server.log") as server:
        assert process(server).num_threads() == 3  # one accepts
        in_threads(20, lambda number: converse(server, number, 30, 10))
        assert process(server).num_threads() == 3
        assert server.totals() == (20 * 30, 20 * 3, 60)


def test_a_pool_that_has_no_threads_is_one_line(tmp_path: Path) -> None:
    command = f"ulimit -v 100000; exec {sys.executable} -m capserver --port 0 --pool 100000"
    with kit.program("bash", "-c", command, output=tmp_path / "server.log") as server:
        assert server.ends() == 2
        assert server.output == "capserver: the system has no 100000 threads: choose a smaller --pool\n"


@pytest.mark.skipif(len(os.sched_getaffinity(0)) == 1, reason="this machine has one core")
@pytest.mark.parametrize(("options", "is_one"), [((), True), (("--cores", "one"), True), (("--cores", "all"), False)])
def test_it_holds_itself_to_one_core_unless_all_are_asked_for(
    tmp_path: Path, options: tuple[str, ...], is_one: bool
) -> None:
    with kit.server(*options, output=tmp_path / "server.log") as server:
        cores = process(server).cpu_affinity()
        assert cores == [max(os.sched_getaffinity(0))] if is_one else set(cores) == os.sched_getaffinity(0)


def test_an_idle_peer_with_half_a_line_gets_no_fault(tmp_path: Path) -> None:
    options = ("--idle-timeout", "0.5", "--fault", "garble=1")
    with kit.server(*options, output=tmp_path / "server.log") as server, connect(server) as sock:
        sock.sendall(b"hal")
        assert read(sock) == b""
        assert server.totals() == (0, 1, 0)
        assert server.output.endswith(", 0 errors, 1 idle\n")
