"""python -m capserver: its command line, its console, its signals, its end."""

import contextlib
import os
import re
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from capserver.server import TRAFFIC
from tests import kit
from tests.wire import ask, connect, read, reset, silent

COMMAND = [sys.executable, "-m", "capserver", "--port", "0"]

both_signals = pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])


def has_ipv6() -> bool:
    """Say whether this machine can listen on its own IPv6 address."""
    with contextlib.suppress(OSError), socket.create_server(("::1", 0), family=socket.AF_INET6):
        return True
    return False


def run(*options: str) -> subprocess.CompletedProcess[str]:
    """Run the command to its end, which should come soon, with an input that has ended."""
    return subprocess.run(
        [*COMMAND, *options],
        cwd=kit.KIT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=kit.PATIENCE,
    )


def port_in(line: bytes) -> int:
    """The port in the line that says where the server listens."""
    match = re.search(rb"listening on .*:(\d+)", line)
    assert match, line
    return int(match[1])


@contextlib.contextmanager
def piped_server(*options: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A server with pipes for its input and its console, and the port that it listens on."""
    pipe = subprocess.PIPE
    with subprocess.Popen([*COMMAND, *options], cwd=kit.KIT, stdin=pipe, stdout=pipe, stderr=pipe) as process:
        try:
            assert process.stdout
            yield process, port_in(process.stdout.readline())
        finally:
            process.kill()


def assert_served(port: int) -> None:
    """Connect, send a line, get an answer."""
    with socket.create_connection(("127.0.0.1", port), kit.PATIENCE) as sock:
        assert ask(sock, b"hello\n") == b"HELLO\n"


def assert_ends_well(process: subprocess.Popen[bytes]) -> None:
    """Wait for the end of a process: with exit code 0 and no complaint."""
    assert process.stderr
    assert (process.wait(kit.PATIENCE), process.stderr.read().decode()) == (0, "")


def lines_about(server: kit.Server, port: int) -> list[str]:
    """What the console says of the connection from a port."""
    return re.findall(rf"^capserver: 127\.0\.0\.1:{port} (.*)$", server.output, re.MULTILINE)


# The command line


def test_a_port_in_use_is_one_line_that_names_it(tmp_path: Path) -> None:
    with kit.server(output=tmp_path / "server.log") as first:
        second = run("--port", str(first.port))
        assert (second.returncode, second.stdout) == (2, "")
        assert re.fullmatch(rf"capserver: .*127\.0\.0\.1:{first.port}\b.*\n", second.stderr)
        with connect(first) as sock:
            assert ask(sock, b"hello\n") == b"HELLO\n"


@pytest.mark.parametrize(
    ("host", "shown"),
    [
        ("nobody.invalid", "nobody.invalid:0"),  # RFC 6761: no name ends in .invalid
        ("no such host", "no such host:0"),
        ("nobody..invalid", "nobody..invalid:0"),  # what can't even be asked for
        ("", ":0"),
        ("192.0.2.1", "192.0.2.1:0"),  # RFC 5737 and 3849: addresses for documentation, nobody's
        ("2001:db8::1", "[2001:db8::1]:0"),
    ],
    ids=["unknown", "with spaces", "empty label", "empty", "not ours", "not ours, IPv6"],
)
def test_an_address_it_cannot_listen_on_is_one_line_that_names_it(host: str, shown: str) -> None:
    ended = run("--host", host)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert re.fullmatch(rf"capserver: .*{re.escape(shown)}.*\n", ended.stderr)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--port", "70000"),
        ("--port", "-1"),
        ("--port", "http"),
        ("--pool", "0"),
        ("--pool", "many"),
        ("--max-line", "x"),
        ("--max-line", "0"),
        ("--max-line", "1.5"),
    ],
)
def test_a_bad_option_is_one_clear_line_and_the_usage(option: str, value: str) -> None:
    ended = run(option, value)
    assert (ended.returncode, ended.stdout) == (2, "")
    *usage, error = ended.stderr.splitlines()
    assert usage[0].startswith("usage: capserver ")
    assert all(line.startswith(" ") for line in usage[1:])
    assert error.startswith("capserver: error: ")
    assert option in error
    assert repr(value) in error


def test_faults_in_more_than_all_replies_are_one_clear_line() -> None:
    assert run("--fault", "stall=0.6", "--fault", "close=0.5").stderr.endswith(
        "capserver: error: the rates of the faults add up to more than 1\n"
    )


def test_an_option_that_does_not_exist_is_one_clear_line_and_the_usage() -> None:
    ended = run("--no-such-option")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith("usage: capserver ")
    assert ended.stderr.splitlines()[-1] == "capserver: error: unrecognized arguments: --no-such-option"


# The console


def test_it_says_where_it_listens(tmp_path: Path) -> None:
    with kit.server(output=tmp_path / "server.log") as server:
        port = server.says(r"\Acapserver: listening on 127\.0\.0\.1:(\d+)\b.*\n\Z")[1]
        assert int(port) > 0  # not the 0 that it was started with
        with connect(server) as sock:
            assert sock.getpeername() == ("127.0.0.1", int(port))
            assert ask(sock, b"hello\n") == b"HELLO\n"


def test_it_listens_on_the_port_it_is_given(tmp_path: Path) -> None:
    port = kit.free_port()
    with kit.server("--port", str(port), output=tmp_path / "server.log") as server:
        assert server.port == port
        with connect(server) as sock:
            assert ask(sock, b"hello\n") == b"HELLO\n"


def test_it_can_listen_on_the_port_of_its_last_run_at_once(tmp_path: Path) -> None:
    port = kit.free_port()
    for _ in range(2):
        with kit.server("--port", str(port), output=tmp_path / "server.log") as server, connect(server) as sock:
            assert ask(sock, b"hello\n") == b"HELLO\n"
            # It is the server that closes: its end of the connection lives on for a minute (TIME_WAIT).
            assert server.totals() == (1, 1, 0)
            assert read(sock) == b""


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
def test_an_ipv6_address_is_shown_in_brackets(tmp_path: Path) -> None:
    with kit.server("--host", "::1", "--verbose", output=tmp_path / "server.log") as server:
        server.says(rf"^capserver: listening on \[::1\]:{server.port}\b")
        with connect(server, "::1") as sock:
            assert ask(sock, b"hello\n") == b"HELLO\n"
            server.says(rf"^capserver: \[::1\]:{sock.getsockname()[1]} opened$")


def test_it_says_how_large_its_pool_is(tmp_path: Path) -> None:
    with kit.server("--pool", "20", output=tmp_path / "server.log") as server:
        server.says(r"listening on 127\.0\.0\.1:\d+, 20 connections at a time")


def test_traffic_is_told_while_there_is_some(tmp_path: Path) -> None:
    with kit.server(output=tmp_path / "server.log") as server, connect(server) as sock, connect(server):
        for _ in range(100):
            assert ask(sock, b"hello\n") == b"HELLO\n"
        server.says(r"^capserver: 2 connections open, 100 lines answered, \d+ lines/s$")
        told = server.output
        assert silent(sock, TRAFFIC + 0.5)  # long enough for another traffic line
        assert server.output == told


def test_a_quiet_server_tells_of_no_connection(tmp_path: Path) -> None:
    with kit.server(output=tmp_path / "server.log") as server:
        with connect(server) as sock:
            assert ask(sock, b"hello\n") == b"HELLO\n"
        assert server.totals() == (1, 1, 0)
        assert not re.search("opened|closed|lost", server.output)


def leave(sock: socket.socket) -> None:
    sock.shutdown(socket.SHUT_WR)
    assert read(sock) == b""


def leave_mid_line(sock: socket.socket) -> None:
    sock.sendall(b"hel")
    sock.close()


def send_too_much(sock: socket.socket) -> None:
    sock.sendall(b"x" * 101)
    assert read(sock).startswith(b"error: ")


@pytest.mark.parametrize(
    ("act", "ending"),
    [
        (leave, r"closed, 1 lines answered"),
        (leave_mid_line, r"(closed|lost \(.+\)), 2 lines answered"),
        (reset, r"lost \(Connection reset by peer\), 1 lines answered"),
        # The server has closed this one. The peer, which stays, was not lost.
        (send_too_much, r"closed.*, 1 lines answered"),
    ],
    ids=["leaves", "leaves mid-line", "resets", "sends too much"],
)
def test_verbose_tells_of_each_connection_when_it_opens_and_when_it_closes(
    tmp_path: Path, act: Callable[[socket.socket], None], ending: str
) -> None:
    with (
        kit.server("--verbose", "--max-line", "100", output=tmp_path / "server.log") as server,
        connect(server) as sock,
    ):
        port = sock.getsockname()[1]
        assert ask(sock, b"hello\n") == b"HELLO\n"
        assert lines_about(server, port) == ["opened"]
        act(sock)
        kit.eventually(lambda: len(lines_about(server, port)) > 1)
        server.totals()
        opened, closed = lines_about(server, port)
        assert opened == "opened"
        assert re.fullmatch(ending, closed)


def test_verbose_lines_of_many_connections_do_not_mix(tmp_path: Path) -> None:
    ports: list[int] = []

    def come_and_go() -> None:
        for _ in range(50):
            with connect(server) as sock:
                ports.append(sock.getsockname()[1])
                assert ask(sock, b"hello\n") == b"HELLO\n"

    with kit.server("--verbose", output=tmp_path / "server.log") as server:
        clients = [threading.Thread(target=come_and_go) for _ in range(20)]
        for client in clients:
            client.start()
        for client in clients:
            client.join()
        assert server.totals() == (1000, 1000, 0)
    lines = [line for line in server.output.splitlines()[1:] if "127.0.0.1" in line]
    opened = [f"capserver: 127.0.0.1:{port} opened" for port in ports]
    closed = [f"capserver: 127.0.0.1:{port} closed, 1 lines answered" for port in ports]
    assert sorted(lines) == sorted(opened + closed)


def test_it_serves_on_when_nobody_reads_its_console() -> None:
    with piped_server("--verbose") as (process, port):
        assert process.stdout
        process.stdout.close()  # as `| head -1` does
        for _ in range(3):
            assert_served(port)
        process.terminate()
        assert_ends_well(process)


@contextlib.contextmanager
def full_pipe() -> Iterator[tuple[int, int]]:
    """The two ends of a pipe that takes no more, and that no program reads."""
    reading, writing = os.pipe()
    try:
        os.set_blocking(writing, False)
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(writing, b"x" * 65536)
        os.set_blocking(writing, True)
        yield reading, writing
    finally:
        os.close(reading)
        os.close(writing)


@pytest.mark.parametrize("options", [(), ("--verbose",)])
def test_an_output_that_is_not_read_holds_up_neither_service_nor_stop(options: tuple[str, ...]) -> None:
    port = kit.free_port()
    command = [sys.executable, "-m", "capserver", "--port", str(port), *options]
    with full_pipe() as (_, output), subprocess.Popen(command, cwd=kit.KIT, stdout=output, stderr=output) as process:
        try:
            kit.eventually(lambda: kit.listens(port))
            for _ in range(3):
                assert_served(port)
            process.terminate()
            assert process.wait(kit.PATIENCE) == 0
        finally:
            process.kill()


def test_lines_that_are_dropped_are_counted() -> None:
    port = kit.free_port()
    command = [sys.executable, "-m", "capserver", "--verbose", "--port", str(port)]
    with full_pipe() as (console, output), subprocess.Popen(command, cwd=kit.KIT, stdout=output) as process:
        try:
            kit.eventually(lambda: kit.listens(port))
            assert_served(port)
            with contextlib.suppress(BlockingIOError):
                os.set_blocking(console, False)
                while os.read(console, 65536):
                    pass
            process.terminate()
            assert process.wait(kit.PATIENCE) == 0
            os.set_blocking(console, True)
            printed = os.read(console, 65536).decode()
            assert re.search(r"^capserver: .* \(\d+ lines before this one were dropped\)$", printed, re.MULTILINE)
            assert "capserver: answered 1 lines on " in printed
        finally:
            process.kill()


@pytest.mark.parametrize(
    "arguments", [("--host", "\x1b[31m"), ("--tls-cert", "\x1b]0;.pem"), ("--\x1b[31m",), ("\x9b",)]
)
def test_control_characters_are_never_printed_as_they_are(arguments: tuple[str, ...]) -> None:
    ended = run(*arguments)
    assert (ended.returncode, ended.stdout) == (2, "")
    last = ended.stderr.splitlines()[-1]
    assert re.fullmatch(r"capserver: .*\\x(1b|9b).*", last)
    assert last.isprintable()


# The signals


@both_signals
def test_a_signal_ends_it_with_the_right_totals(tmp_path: Path, how: signal.Signals) -> None:
    with kit.server(output=tmp_path / "server.log") as server, connect(server) as busy, connect(server):
        with connect(server) as gone:
            assert ask(gone, b"hello\n") == b"HELLO\n"
        for _ in range(4):
            assert ask(busy, b"hello\n") == b"HELLO\n"
        assert ask(busy, b"\xff\n").startswith(b"error: ")
        assert server.stop(how) == 0
        assert read(busy) == b""
        assert server.output.endswith("\ncapserver: answered 5 lines on 3 connections, 1 errors\n")
        assert "Traceback" not in server.output


@both_signals
def test_lines_sent_before_a_signal_are_answered(tmp_path: Path, how: signal.Signals) -> None:
    sent = b"".join(b"line %d\n" % number for number in range(1000))
    with kit.server(output=tmp_path / "server.log") as server, connect(server) as sock:
        sock.sendall(sent)
        replies = sock.recv(1)  # the first answer has come: the server has them all
        assert server.stop(how) == 0
        replies += read(sock)
        assert replies == sent.upper()
        assert server.output.splitlines()[-1] == "capserver: answered 1000 lines on 1 connections, 0 errors"


def test_lines_that_wait_in_the_kernel_at_the_signal_are_answered(tmp_path: Path) -> None:
    with kit.server(output=tmp_path / "server.log") as server, connect(server) as accepted:
        assert ask(accepted, b"hello\n") == b"HELLO\n"
        # While the server sleeps, the kernel takes lines and connections in its place; when it wakes up,
        # the signal comes before it has read any of them.
        server.process.send_signal(signal.SIGSTOP)
        with connect(server) as waiting:
            accepted.sendall(b"one\n" * 500)
            waiting.sendall(b"two\n" * 500)
            server.process.send_signal(signal.SIGTERM)
            server.process.send_signal(signal.SIGCONT)
            assert read(accepted) == b"ONE\n" * 500
            assert read(waiting) == b"TWO\n" * 500
        assert server.ends() == 0
        assert server.output.splitlines()[-1] == "capserver: answered 1001 lines on 2 connections, 0 errors"


def test_a_line_that_is_half_sent_at_the_signal_is_not_answered(tmp_path: Path) -> None:
    with kit.server(output=tmp_path / "server.log") as server, connect(server) as sock:
        assert ask(sock, b"whole\nhal") == b"WHOLE\n"
        assert server.totals() == (1, 1, 0)
        assert read(sock) == b""


@contextlib.contextmanager
def stuck_server(output: Path) -> Iterator[kit.Server]:
    """A server whose pool is filled by a peer that does not read: its answer is more than any buffer can hold."""
    size = 32 * 1024 * 1024
    with kit.server("--pool", "1", "--max-line", str(size), output=output) as server, connect(server) as sock:
        sock.sendall(b"x" * size + b"\n")
        assert select.select([sock], [], [], kit.PATIENCE)[0]  # the answer has begun
        yield server


def test_a_peer_that_does_not_read_does_not_hold_up_the_end(tmp_path: Path) -> None:
    with stuck_server(tmp_path / "server.log") as server:
        assert server.totals() == (0, 1, 0)


@both_signals
def test_a_second_signal_ends_it_at_once(tmp_path: Path, how: signal.Signals) -> None:
    with stuck_server(tmp_path / "server.log") as server:
        server.process.send_signal(how)
        kit.eventually(lambda: not kit.listens(server.port))  # it has understood
        assert server.stop(how) == -how
        assert "lines on" not in server.output


# The end of its input


def test_it_ends_with_its_input() -> None:
    with piped_server("--end-with-input") as (process, port):
        assert process.stdin and process.stdout
        assert_served(port)
        process.stdin.write(b"what it reads there means nothing\n")
        process.stdin.flush()
        assert_served(port)
        process.stdin.close()
        assert_ends_well(process)
        assert process.stdout.read() == b"capserver: answered 2 lines on 2 connections, 0 errors\n"


def test_it_ends_at_once_when_its_input_has_ended_before() -> None:
    ended = run("--end-with-input")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.endswith("\ncapserver: answered 0 lines on 0 connections, 0 errors\n")


@pytest.mark.parametrize("closed", ["0<&-", "1>&-", "0<&- 1>&- 2>&-"])
def test_a_closed_standard_stream_is_never_a_socket(tmp_path: Path, closed: str) -> None:
    port = kit.free_port()
    command = f"exec {sys.executable} -m capserver --verbose --port {port} {closed}"
    with kit.program("bash", "-c", command, output=tmp_path / "server") as server:
        kit.eventually(lambda: kit.listens(port))
        assert_served(port)
        assert server.stop() == 0
        assert "Traceback" not in server.output


def test_it_ends_at_once_when_its_input_is_closed(tmp_path: Path) -> None:
    command = f"exec {sys.executable} -m capserver --port 0 --end-with-input 0<&-"
    with kit.program("bash", "-c", command, output=tmp_path / "server") as server:
        assert server.ends() == 0
        assert server.output.endswith("\ncapserver: answered 0 lines on 0 connections, 0 errors\n")


def test_without_that_option_it_does_not_end_with_its_input() -> None:
    with piped_server() as (process, port):
        assert process.stdin
        process.stdin.close()
        assert_served(port)
        process.terminate()
        assert_ends_well(process)


@both_signals
def test_a_signal_ends_it_before_its_input_does(how: signal.Signals) -> None:
    with piped_server("--end-with-input") as (process, port):
        assert_served(port)
        process.send_signal(how)
        assert_ends_well(process)


# A program that starts the server, as a locustfile does: whose end is the end of the server's input.
PARENT = "import subprocess, sys; subprocess.Popen(sys.argv[1:], stdin=subprocess.PIPE).wait()"


def test_it_ends_when_the_program_that_holds_its_input_is_killed() -> None:
    console, its_end = socket.socketpair()
    with console, console.makefile("rb") as lines:
        console.settimeout(kit.PATIENCE)
        with its_end:
            parent = subprocess.Popen(
                [sys.executable, "-c", PARENT, *COMMAND, "--end-with-input"],
                cwd=kit.KIT,
                stdin=subprocess.DEVNULL,
                stdout=its_end.fileno(),
                stderr=its_end.fileno(),
                start_new_session=True,  # a group of its own, to find the server by if this fails
            )
        try:
            assert_served(port_in(lines.readline()))
            parent.kill()
            parent.wait(kit.PATIENCE)
            # The end of file comes when the last process that holds the other end, the server, is gone.
            assert lines.read() == b"capserver: answered 1 lines on 1 connections, 0 errors\n"
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(parent.pid, signal.SIGKILL)
            parent.wait(kit.PATIENCE)
