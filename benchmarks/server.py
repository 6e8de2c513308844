"""How fast and how fair is the bundled server, what is a connection's memory, how does it take a burst? Linux only.

The same load goes in turns to the server as it is shipped, to those of Python's library
(other_servers.py) and to about the least that a server can do (uppercase.c). The load is in C too
(load.c), so that it is not the limit of the Python ones; both are built on the spot. Prints three
Markdown tables.

python benchmarks/server.py
"""

import argparse
import contextlib
import itertools
import os
import platform
import resource
import selectors
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import psutil

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks import other_servers
from capserver.__main__ import number
from tests import kit

FOLDER = Path(__file__).parent
BUNDLED, BASELINE = "capserver", "socketserver, one core"
ALL_CORES = "capserver --cores all"
FEW, MANY = 50, 500  # connections that send without a pause
OPEN = 10_000  # connections whose memory is measured
BURST = 5_000  # connections that begin at once, and then send a line at once
KEPT = 100  # descriptors for what is no connection

# The bounds of the bundled server:
RATIO = 0.9  # of the baseline's lines per second, at least, with the few
SLOWEST = 10.0  # lines per second, at least, that each of the many gets
P999 = 400.0  # milliseconds, at most, among the many
MEMORY = 30.0  # KB, at most, that a connection takes
AT_ONCE = 1.0  # seconds, at most, until each of the burst's lines is answered

Servers = dict[str, tuple[str | Path, ...]]
"""Commands by the name in the table; a port follows each."""


class Load(NamedTuple):
    """What load.c prints; times in milliseconds."""

    rate: float
    slowest: float
    wrong: float
    p50: float
    p99: float
    p999: float
    longest: float


def build(name: str, folder: Path) -> Path:
    """Compile a C file that stands beside this one."""
    program = folder / name
    if subprocess.run(["cc", "-O2", "-o", program, FOLDER / f"{name}.c"]).returncode:
        sys.exit(f"server.py: {name}.c can't be compiled")
    return program


@contextlib.contextmanager
def serving(servers: Servers, name: str, folder: Path) -> Iterator[tuple[int, psutil.Process]]:
    """Run a server for the length of a with-block: its port and its process."""
    port = kit.free_port()
    with kit.program(*servers[name], str(port), output=folder / name) as program:
        kit.eventually(lambda: kit.listens(port))
        yield port, psutil.Process(program.process.pid)


def put_load(load: Path, port: int, connections: int, seconds: int) -> Load:
    """Run load.c and return what it measured."""
    output = load.with_name("output")
    with kit.program(load, str(port), str(connections), str(seconds), output=output) as client:
        assert client.process.wait(seconds + kit.PATIENCE) == 0, client.output
        return Load(*map(float, client.output.split()))


def marked(cell: str, is_kept: bool) -> str:
    """Return a cell, with a mark where a figure is out of its bounds."""
    return cell if is_kept else f"{cell} (!)"


def measure_speed(servers: Servers, load: Path, rounds: int, seconds: int) -> Iterator[str]:
    """Yield the rows of the first table: all servers run, and have the load in turns."""
    yield f"| connections | server | lines/s | x {BASELINE} | slowest connection's | p50 | p99 | p99.9 | max | wrong |"
    yield "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"
    with contextlib.ExitStack() as stack:
        ports = {name: stack.enter_context(serving(servers, name, load.parent))[0] for name in servers}
        for connections in (FEW, MANY):
            turns = [
                {name: put_load(load, port, connections, seconds) for name, port in ports.items()}
                for _ in range(rounds)
            ]
            for name in servers:
                loads = [turn[name] for turn in turns]
                median = Load(*map(statistics.median, zip(*loads, strict=True)))
                ratios = [turn[name].rate / turn[BASELINE].rate for turn in turns]
                slowest = min(each.slowest for each in loads)
                longest = max(each.longest for each in loads)
                wrong = sum(each.wrong for each in loads)
                is_free = name != BUNDLED or connections != MANY  # of bounds
                ratio = statistics.median(ratios)
                is_fast = ratio >= RATIO or name != BUNDLED or connections != FEW
                yield (
                    f"| {connections} | {name} | {median.rate:.0f} "
                    f"| {marked(f'{ratio:.2f}', is_fast)} ({min(ratios):.2f} to {max(ratios):.2f}) "
                    f"| {marked(f'{slowest:.1f}', slowest >= SLOWEST or is_free)} "
                    f"| {median.p50:.2f} | {median.p99:.2f} "
                    f"| {marked(f'{median.p999:.2f}', median.p999 <= P999 or is_free)} | {longest:.1f} "
                    f"| {marked(f'{wrong:.0f}', not wrong)} |"
                )


def measure_memory(servers: Servers, load: Path, descriptors: int) -> Iterator[str]:
    """Yield the rows of the second table: how much a fresh server grows, for each connection that has sent a line."""
    yield "| server | connections | KB each |"
    yield "| --- | --- | --- |"
    for name in servers:
        connections = min(OPEN, descriptors - KEPT)
        with serving(servers, name, load.parent) as (port, process):
            before = process.memory_info().rss
            with kit.program(load, str(port), str(connections), "0", output=load.with_name("output")) as client:
                client.says(r"^\d.*\n")  # so all are open, and have their replies
                each = (process.memory_info().rss - before) / 1024 / connections
        yield f"| {name} | {connections} | {marked(f'{each:.1f}', each <= MEMORY or name != BUNDLED)} |"


def await_events(clients: list[socket.socket], event: int, act: Callable[[socket.socket], bool]) -> int:
    """Wait until each client has had an event; return for how many of them `act` is false."""
    failed = 0
    with selectors.DefaultSelector() as selector:
        for client in clients:
            selector.register(client, event)
        while selector.get_map():
            ready = selector.select(kit.PATIENCE)
            if not ready:
                return failed + len(selector.get_map())
            for key, _ in ready:
                selector.unregister(key.fileobj)
                try:
                    failed += not act(key.fileobj)  # type: ignore[arg-type]
                except OSError:
                    failed += 1
    return failed


def measure_burst(servers: Servers, folder: Path, descriptors: int) -> Iterator[str]:
    """Yield the rows of the third table: clients that all connect at once, and then all send a line at once."""
    count = min(BURST, descriptors - KEPT)
    yield "| server | clients | s until all are connected | not connected | s until a line of each is answered |"
    yield "| --- | --- | --- | --- | --- |"
    for name in servers:
        with serving(servers, name, folder) as (port, _), contextlib.ExitStack() as stack:
            clients = [stack.enter_context(socket.socket()) for _ in range(count)]
            begin = time.monotonic()
            for client in clients:
                client.setblocking(False)
                client.connect_ex((other_servers.HOST, port))
            refused = await_events(
                clients,
                selectors.EVENT_WRITE,
                lambda client: not client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR),
            )
            connected = time.monotonic() - begin
            times = []
            for _ in range(3):  # the first makes the threads begin
                begin = time.monotonic()
                for client in clients:
                    client.send(b"hello\n")
                wrong = await_events(clients, selectors.EVENT_READ, lambda client: client.recv(100) == b"HELLO\n")
                times.append(time.monotonic() - begin)
            answered = marked(f"{times[-1]:.2f}", (times[-1] <= AT_ONCE and not wrong) or name != BUNDLED)
            lost = marked(str(refused), not refused or name != BUNDLED)
            yield f"| {name} | {count} | {connected:.2f} | {lost} | {answered} |"


def command_line(description: str | None, seconds: int) -> argparse.ArgumentParser:
    """Return the options of a benchmark that goes in rounds."""
    command = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    command.add_argument("--rounds", type=number(int, 1, 100), default=5, metavar="N", help="(default: %(default)s)")
    command.add_argument(
        "--seconds", type=number(int, 1, 20), default=seconds, metavar="N", help="of each run (default: %(default)s)"
    )
    return command


def leave_nothing_behind() -> None:
    """Have signals end this process by way of all its with-blocks."""
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, lambda which, _: sys.exit(128 + which))


def main() -> int:
    """Measure, print the tables, and return 1 where a reply was wrong or a figure is out of its bounds."""
    options = command_line(__doc__, seconds=3).parse_args()
    if not shutil.which("cc"):
        sys.exit("server.py needs a C compiler: apt install gcc")
    leave_nothing_behind()
    descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if descriptors < MANY + KEPT:
        sys.exit(f"server.py needs {MANY + KEPT} open files: see ulimit -Hn")
    resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))  # which load and servers inherit

    print(f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()} {platform.release()}", end=", ")
    print(f"Python {platform.python_version()}, rounds: {options.rounds} of {options.seconds} s; times in ms\n")
    kept = True
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        load = build("load", folder)
        servers: Servers = {
            BUNDLED: (sys.executable, "-m", "capserver", "--port"),
            ALL_CORES: (sys.executable, "-m", "capserver", "--cores", "all", "--port"),
            BASELINE: (sys.executable, FOLDER / "other_servers.py", "one-core"),
            "socketserver": (sys.executable, FOLDER / "other_servers.py", "socketserver"),
            "asyncio": (sys.executable, FOLDER / "other_servers.py", "asyncio"),
            "uppercase.c": (build("uppercase", folder),),
        }
        speed = measure_speed(servers, load, options.rounds, options.seconds)
        memory, burst = measure_memory(servers, load, descriptors), measure_burst(servers, folder, descriptors)
        for row in itertools.chain(speed, [""], memory, [""], burst):
            print(row, flush=True)
            kept = kept and "(!)" not in row
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
