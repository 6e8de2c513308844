"""How fast and how fair is the bundled server, and how much memory does a connection take? Linux only.

The same load goes in turns to the server as it is shipped, to those of Python's library (other_servers.py) and to about
the least that a server can do (uppercase.c). The load is in C too (load.c), so that it is not the limit of the Python
ones; both are built on the spot. Prints two Markdown tables.

python benchmarks/server.py
"""

import argparse
import contextlib
import itertools
import os
import platform
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import psutil

sys.path.insert(0, str(Path(__file__).parents[1]))
from capserver.__main__ import number
from tests import kit

FOLDER = Path(__file__).parent
BUNDLED, BASELINE = "capserver", "socketserver"
ON_ONE_CORE = f"{BASELINE}, one core"  # where its threads don't pass the interpreter's lock from core to core
FEW, MANY = 50, 500  # connections that send without a pause
OPEN, THREADS = 10_000, 2_000  # connections whose memory is measured; fewer where each has a thread
KEPT = 100  # descriptors for what is no connection

# What the bundled server promises on any machine:
SLOWEST = 2.0  # lines per second, at least, that each of the many gets
P999 = 100.0  # milliseconds, at most, among the many
MEMORY = 20.0  # KB, at most, that a connection takes

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
    """Return a cell, with a mark where a promise is not kept."""
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
                is_free = name != BUNDLED or connections != MANY  # of promises
                yield (
                    f"| {connections} | {name} | {median.rate:.0f} "
                    f"| {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}) "
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
        connections = min(THREADS if name in (BASELINE, ON_ONE_CORE) else OPEN, descriptors - KEPT)
        with serving(servers, name, load.parent) as (port, process):
            before = process.memory_info().rss
            with kit.program(load, str(port), str(connections), "0", output=load.with_name("output")) as client:
                client.says(r"^\d.*\n")  # so all are open, and have their replies
                each = (process.memory_info().rss - before) / 1024 / connections
        yield f"| {name} | {connections} | {marked(f'{each:.1f}', each <= MEMORY or name != BUNDLED)} |"


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
    """Measure, print the tables, and return 1 where a reply was wrong or the bundled server broke a promise."""
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
            BASELINE: (sys.executable, FOLDER / "other_servers.py", "socketserver"),
            ON_ONE_CORE: (sys.executable, FOLDER / "other_servers.py", "one-core"),
            "asyncio": (sys.executable, FOLDER / "other_servers.py", "asyncio"),
            "uppercase.c": (build("uppercase", folder),),
        }
        speed = measure_speed(servers, load, options.rounds, options.seconds)
        for row in itertools.chain(speed, [""], measure_memory(servers, load, descriptors)):
            print(row, flush=True)
            kept = kept and "(!)" not in row
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
