"""How many requests does the kit make, and what does one take, beside other ways to make them? Linux only.

All have the same to do: persistent connections, each of which sends a line of twelve bytes, and the next one when it is
answered. They run in turns against the bundled server; those that speak nothing but HTTP, against http_service.py.
Prints two Markdown tables in about three minutes. Tsung and wrk take part where they are installed, for a minute more.

The servers share the machine's cores with the clients. So throughput depends on how many cores there are, and on the
server; CPU time per request, which is the client's alone, hardly does.

python benchmarks/speed.py
"""

import contextlib
import os
import platform
import re
import shutil
import signal
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
from benchmarks.http_service import REPLY
from benchmarks.server import Servers, build, command_line, leave_nothing_behind, marked, serving
from capserver.__main__ import number
from tests import kit

FOLDER = Path(__file__).parent
SETTLE = 0.5  # seconds from when all connections are there until it is measured
MARGIN = 1  # seconds that a client runs longer than it is measured: it has to settle, and must not end too early

# The services, and the bytes of a reply of theirs
BUNDLED, HTTP, LEAST = "capserver", "http_service.py", "uppercase.c"
REPLY_BYTES = {BUNDLED: 12, HTTP: len(REPLY), LEAST: 12}

# No reply is checked: for that, Tsung would search all that its connection has received so far.
TSUNG = """<?xml version="1.0"?>
<!DOCTYPE tsung SYSTEM "/usr/share/tsung/tsung-1.0.dtd">
<tsung loglevel="warning">
<clients><client host="localhost" use_controller_vm="true" maxusers="10000"/></clients>
<servers><server host="127.0.0.1" port="{port}" type="tcp"/></servers>
<load duration="{seconds}" unit="second"><arrivalphase phase="1" duration="{seconds}" unit="second">
<users maxnumber="{users}" arrivalrate="{users}0" unit="second"/></arrivalphase></load>
<sessions><session name="word" probability="100" type="ts_raw"><for var="i" from="1" to="1000000000">
<request><raw data="hello world&#10;" ack="local"/></request></for></session></sessions></tsung>"""

Command = Callable[[int, int], tuple[str | Path, ...]]
"""Returns the command of a client, given the service's port and for how many seconds to run."""


class Client(NamedTuple):
    """One of those that are compared."""

    name: str
    service: str
    command: Command
    failure: str = "(?!)"  # what its output has where something failed; without: nothing, its exit code tells it


class Speed(NamedTuple):
    """What a client did. The ratios are to the first client in the table, in the same round."""

    rate: float  # replies per second
    cpu: float  # microseconds for each
    memory: float  # MB at the end; pages that its processes share count for each
    is_right: bool


def answered(port: int) -> tuple[int, int]:
    """Return how many connections a service has, and the bytes of its replies that have arrived there.

    The kernel counts them. So what each client itself reports, of which stretch of its run, needs no belief, and it
    costs none of them anything.
    """
    command = ("ss", "-tinHO", "state", "established", f"sport = :{port}")
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    return len(lines), sum(int(match[1]) for line in lines if (match := re.search(r"bytes_acked:(\d+)", line)))


def usage(pid: int) -> tuple[float, float]:
    """Return the CPU seconds, user and system, and the resident MB of a process and all below it."""
    processes = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    times = [each.cpu_times() for each in processes]
    return sum(each.user + each.system for each in times), sum(each.memory_info().rss for each in processes) / 2**20


@contextlib.contextmanager
def running(*command: str | Path, folder: Path) -> Iterator[kit.Program]:
    """Run a client for the length of a with-block, with all the processes that it starts."""
    home = os.environ | {"HOME": str(folder)}  # where Tsung leaves things
    with kit.program(*command, output=folder / "output", environment=home) as program:
        try:
            yield program
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(program.process.pid, signal.SIGKILL)


def measure(client: Client, port: int, users: int, seconds: int, folder: Path) -> Speed:
    """Run a client, and measure it while it is in full swing."""
    with running(*client.command(port, seconds + MARGIN), folder=folder) as program:
        kit.eventually(lambda: program.process.poll() is not None or answered(port)[0] == users)
        assert program.process.poll() is None, f"{client.name}:\n{program.output}"
        time.sleep(SETTLE)
        begun, (_, before), (cpu_before, _) = time.perf_counter(), answered(port), usage(program.process.pid)
        time.sleep(seconds)
        taken, (connections, after) = time.perf_counter() - begun, answered(port)
        cpu, memory = usage(program.process.pid)
        code = program.process.wait(kit.PATIENCE)
    is_right = code == 0 and connections == users and not re.search(client.failure, program.output, re.MULTILINE)
    if not is_right:
        print(f"{client.name}: exit code {code}, {connections} connections\n{program.output}", file=sys.stderr)
    kit.eventually(lambda: answered(port)[0] == 0)
    replies = max(1, (after - before) / REPLY_BYTES[client.service])
    return Speed(replies / taken, 1e6 * (cpu - cpu_before) / replies, memory, is_right)


def ratios(values: list[float], base: list[float]) -> str:
    """Return the median and the range of what came of the rounds."""
    each = [value / one for value, one in zip(values, base, strict=True)]
    return f"{statistics.median(each):.2f} ({min(each):.2f} to {max(each):.2f})"


def table(clients: list[Client], rounds: int, measured: Callable[[Client], Speed]) -> Iterator[str]:
    """Have the clients run in turns, then yield the rows."""
    turns = [[measured(client) for client in clients] for _ in range(rounds)]
    base = clients[0].name
    yield f"| client | service | requests/s | x {base} | CPU us per request | x {base} | RSS MB |"
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    first = [turn[0] for turn in turns]
    for client, speeds in zip(clients, zip(*turns, strict=True), strict=True):
        rates, costs = [each.rate for each in speeds], [each.cpu for each in speeds]
        yield (
            f"| {marked(client.name, all(each.is_right for each in speeds))} | {client.service} "
            f"| {statistics.median(rates):.0f} | {ratios(rates, [each.rate for each in first])} "
            f"| {statistics.median(costs):.1f} | {ratios(costs, [each.cpu for each in first])} "
            f"| {max(each.memory for each in speeds):.0f} |"
        )


def locust(file: str, user: str, users: str, *options: str) -> Command:
    """Return the command of a swarm."""

    def command(port: int, seconds: int) -> tuple[str | Path, ...]:
        host = f"{'http' if user == 'WebUser' else 'tcp'}://127.0.0.1:{port}"
        swarm = ("-u", users, "-r", users, "-t", str(seconds), *options)
        return kit.LOCUST, "-f", FOLDER / file, user, "--headless", "--host", host, *swarm

    return command


def tsung(users: str, folder: Path) -> Command:
    """Return Tsung's command. Erlang's name service, which would outlive it, is started here and stays on loopback."""
    names, own = kit.free_port(), kit.free_port()
    local = "-start_epmd false -kernel inet_dist_use_interface {127,0,0,1}"

    def command(port: int, seconds: int) -> tuple[str | Path, ...]:
        (folder / "tsung.xml").write_text(TSUNG.format(port=port, seconds=seconds, users=users))
        run = f"tsung -n -w 0 -m - -f {folder}/tsung.xml -l {folder}/tsung -t {own} -T {own} start"
        variables = ("env", f"ERL_EPMD_PORT={names}", f"ERL_FLAGS={local}")
        return *variables, "sh", "-c", f"epmd -address 127.0.0.1 & sleep 0.3; exec {run}"

    return command


def main() -> int:
    """Measure, print the tables, and return 1 where a request failed or a reply was wrong."""
    command = command_line(__doc__, seconds=4)
    command.add_argument(
        "--users", type=number(int, 2, 500), default=200, metavar="N", help="connections (default: %(default)s)"
    )
    options = command.parse_args()
    if not shutil.which("ss"):
        sys.exit("speed.py needs ss: apt install iproute2")
    leave_nothing_behind()

    users = str(options.users)
    missing = [tool for tool in ("cc", "tsung", "wrk") if not shutil.which(tool)]
    print(f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()} {platform.release()}", end=", ")
    print(f"Python {platform.python_version()}, {users} connections, rounds: {options.rounds} of {options.seconds} s")
    print(f"Not installed: {', '.join(missing)}\n" if missing else "", flush=True)
    kept = True
    with tempfile.TemporaryDirectory() as temporary, contextlib.ExitStack() as stack:
        folder = Path(temporary)
        kit_user = locust("truth_locustfile.py", "KitUser", users)
        sockets = sys.executable, FOLDER / "plain_sockets.py"
        clients = [
            Client("plain Locust user", BUNDLED, locust("plain_locustfile.py", "PlainUser", users)),
            Client("the kit's user", BUNDLED, kit_user),
            Client("the kit's user, with events", BUNDLED, locust("truth_locustfile.py", "EventUser", users)),
            Client("Locust's FastHttpUser", HTTP, locust("plain_locustfile.py", "WebUser", users)),
            Client("gevent, no Locust", BUNDLED, lambda port, seconds: (*sockets, str(port), users, str(seconds))),
        ]
        services: Servers = {
            BUNDLED: (sys.executable, "-m", "capserver", "--port"),
            HTTP: (sys.executable, FOLDER / "http_service.py"),
        }
        if "cc" not in missing:
            load = build("load", folder)
            wrong = r"^\S+ \S+ [1-9]"  # its third number
            clients.append(
                Client("epoll, in C", BUNDLED, lambda port, seconds: (load, str(port), users, str(seconds)), wrong)
            )
            services[LEAST] = (build("uppercase", folder),)
        if "tsung" not in missing:
            wrong = rf"^stats: (error_(?!abort )|connect (?!({users}|0) ))"  # it just connects again when it is cut off
            clients.append(Client("Tsung", BUNDLED, tsung(users, folder), wrong))
        if "wrk" not in missing:
            wrk = "wrk", "-t", "1", "-c", users
            wrong = "Socket errors|Non-2xx"
            clients.append(
                Client("wrk", HTTP, lambda port, seconds: (*wrk, "-d", str(seconds), f"http://127.0.0.1:{port}"), wrong)
            )

        # What two processes send needs a server that takes little of the cores.
        fast = LEAST if LEAST in services else BUNDLED
        master = str(kit.free_port())
        shared = "--processes", "2", "--master-port", master, "--master-bind-port", master
        processes = [
            Client("one process", fast, kit_user),
            Client("--processes 2", fast, locust("truth_locustfile.py", "KitUser", users, *shared)),
        ]

        ports = {name: stack.enter_context(serving(services, name, folder))[0] for name in services}

        def measured(client: Client) -> Speed:
            return measure(client, ports[client.service], options.users, options.seconds, folder)

        for rows in (table(clients, options.rounds, measured), iter([""]), table(processes, options.rounds, measured)):
            for row in rows:
                print(row, flush=True)
                kept = kept and "(!)" not in row
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
