"""What the tests run: the kit's own processes, and what they ask of them."""

import contextlib
import csv
import functools
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

KIT = Path(__file__).parents[1]
LOCUST = Path(sys.executable).with_name("locust")
PATIENCE = 30.0  # seconds that anything may take on a machine that is busy with something else

T = TypeVar("T")


def eventually(condition: Callable[[], T], patience: float = PATIENCE) -> T:
    """Return the first true value of `condition`, which is asked again and again."""
    end = time.monotonic() + patience
    while not (value := condition()):
        assert time.monotonic() < end, f"{patience} s are over"
        time.sleep(0.02)
    return value


def _ports() -> Iterator[int]:
    """Yield ports at random, each once, of which no other process of a parallel test run has any.

    They are below those that the kernel gives to outgoing connections.
    """
    processes = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    ports = range(20000 + number, 32000, processes)
    yield from random.sample(ports, len(ports))


_unused = _ports()


def free_port() -> int:
    """Return a port that is in use neither now nor later, except by the caller."""
    for port in _unused:
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    raise AssertionError("no port is free")


def listens(port: int) -> bool:
    """Return whether a program listens on a port of 127.0.0.1."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), PATIENCE) as sock:
        return bool(sock.getsockname() != sock.getpeername())
    return False


class Program:
    """A process of the kit. Its output, standard error included, goes to a file."""

    def __init__(
        self,
        *command: str | Path,
        output: Path,
        cwd: Path = KIT,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._output = output
        with output.open("w") as file:
            self.process = subprocess.Popen(
                [str(part) for part in command],
                cwd=cwd,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,  # a process group of its own, as behind a terminal
            )

    @property
    def output(self) -> str:
        """All that the program has printed so far."""
        return self._output.read_text()

    def says(self, pattern: str) -> re.Match[str]:
        """Wait until the output has a match for a regular expression."""

        def found() -> re.Match[str] | None:
            ended = self.process.poll() is not None
            match = re.search(pattern, self.output, re.MULTILINE)
            assert match or not ended, "the program has ended"
            return match

        try:
            match = eventually(found)
        except AssertionError as error:
            raise AssertionError(f"{error} without {pattern!r} in its output:\n{self.output}") from None
        assert match
        return match

    def ends(self) -> int:
        """Wait for the end of the program and return its exit code."""
        return self.process.wait(PATIENCE)

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal, wait for the end of the program and return its exit code."""
        self.process.send_signal(how)
        return self.ends()


@contextlib.contextmanager
def program(
    *command: str | Path, output: Path, cwd: Path = KIT, environment: Mapping[str, str] | None = None
) -> Iterator[Program]:
    """Run a program for the length of a with-block."""
    running = Program(*command, output=output, cwd=cwd, environment=environment)
    try:
        yield running
    finally:
        if running.process.poll() is None:
            running.process.kill()
        running.process.wait()


class Server(Program):
    """`python -m capserver` on a port of its own."""

    @functools.cached_property
    def port(self) -> int:
        """The port that it listens on."""
        return int(self.says(r"listening on .*:(\d+)")[1])

    @property
    def host(self) -> str:
        """The address as Locust's Host field has it."""
        return f"tcp://127.0.0.1:{self.port}"

    def totals(self) -> tuple[int, int, int]:
        """Stop the server; return the lines, connections and errors of its last line."""
        assert self.stop() == 0
        last = self.output.splitlines()[-1]
        match = re.search(r"answered (\d+) lines on (\d+) connections, (\d+) errors", last)
        assert match, last
        return int(match[1]), int(match[2]), int(match[3])


@contextlib.contextmanager
def server(
    *options: str,
    output: Path,
    python: str | Path = sys.executable,
    code: tuple[str, str] = ("-m", "capserver"),
    cwd: Path = KIT,
) -> Iterator[Server]:
    """Run a capitalization server for the length of a with-block."""
    running = Server(python, *code, "--port", "0", *options, output=output, cwd=cwd)
    try:
        assert running.port
        yield running
    finally:
        if running.process.poll() is None:
            running.process.kill()
        running.process.wait()


def rows(file: Path) -> list[Mapping[str, str]]:
    """Return the rows of a CSV file."""
    with file.open(newline="") as text:
        return list(csv.DictReader(text))
