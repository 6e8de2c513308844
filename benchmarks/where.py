"""Where does the time of a request go? By elimination: each row adds one thing to the row before it. Linux only.

A process of each row keeps 200 connections to uppercase.c, as speed.py's clients do, and measures its own CPU time. The
rows run in turns; the figures are the least of the rounds, which other programs of the machine disturb least. Prints a
Markdown table in about two minutes.

python benchmarks/where.py
"""

import os
import platform
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import gevent
from gevent import socket as gevent_socket

from benchmarks.server import build, command_line, leave_nothing_behind, serving
from benchmarks.speed import LEAST
from locust_tcp.transport.stream import PlainSocket

USERS = 200
SETTLE = 1.0  # seconds until all users are connected and at work
LINE, REPLY = b"hello world\n", b"HELLO WORLD\n"
ROWS = {
    "callbacks": "the kernel's calls and the event loop: send and recv in its callbacks, no greenlets",
    "greenlets": "+ a greenlet for each user",
    "arrival": "+ arrival times: recvmsg with the kernel's timestamp",
    "connection": "+ the kit's Connection: deadline, strict reading, times and lag",
    "client": "+ TcpClient.request without its event: turns, text, check",
    "event": "+ the event, by the shortcut to Locust's statistics",
    "kit": "+ Locust's tasks: the whole user of the kit",
}
done = 0  # requests


def connected(port: int) -> Any:
    """Return a socket of gevent's, connected, that does not block."""
    sock = gevent_socket.create_connection(("127.0.0.1", port))
    sock.setsockopt(gevent_socket.IPPROTO_TCP, gevent_socket.TCP_NODELAY, 1)
    plain = PlainSocket(fileno=sock.detach())
    plain.setblocking(False)
    return plain


def start_callbacks(port: int) -> None:
    """Send each line in the callback that has received the reply before."""
    sock = connected(port)
    watcher = gevent.get_hub().loop.io(sock.fileno(), 1)

    def ready() -> None:
        global done
        sock.recv(16384)
        done += 1
        sock.send(LINE)

    watcher.start(ready)
    kept.append((sock, watcher))
    sock.send(LINE)


kept: list[Any] = []  # what must not be collected


def talk(port: int, has_times: bool) -> None:
    """Send lines in a greenlet, without any check."""
    global done
    from locust_tcp.transport import timestamps

    sock = connected(port)
    watcher = gevent.get_hub().loop.io(sock.fileno(), 1)
    watcher.start(gevent.getcurrent().switch)
    if has_times:
        timestamps.ask_for_arrival_times(sock)
    wait = gevent.get_hub().switch
    while True:
        sock.send(LINE)
        wait()
        if has_times:
            timestamps.receive(sock, 16384)
        else:
            sock.recv(16384)
        done += 1


def talk_by_connection(port: int) -> None:
    """Send lines over the kit's Connection."""
    global done
    from locust_tcp.transport.connection import Connection
    from locust_tcp.transport.endpoint import Endpoint

    connection = Connection.open(Endpoint.parse(f"tcp://127.0.0.1:{port}"), 5.0, 1 << 20)
    while True:
        connection.send(LINE, 5.0)
        assert connection.read_until() == REPLY
        connection.times()
        connection.end()
        done += 1


def start_users(row: str, port: int) -> Callable[[], int]:
    """Start users of the kit; return what counts their requests."""
    from locust.env import Environment

    from benchmarks.truth_locustfile import KitUser

    KitUser.host = f"tcp://127.0.0.1:{port}"
    environment = Environment(user_classes=[KitUser])
    runner = environment.create_local_runner()
    environment.events.init.fire(environment=environment, runner=runner, web_ui=None)
    if row == "kit":
        runner.start(USERS, spawn_rate=USERS)
        return lambda: environment.stats.total.num_requests

    def ask() -> None:
        global done
        user = KitUser(environment)
        if row == "client":
            user.client._fire = lambda *_: None
        while True:
            user.client.request("hello world", name="word", expect="HELLO WORLD")
            done += 1

    for _ in range(USERS):
        gevent.spawn(ask)
    return lambda: done


def run(row: str, port: int, seconds: int) -> float:
    """Return the microseconds of CPU that a request takes in this process."""
    count: Callable[[], int] = lambda: done  # noqa: E731
    if row in ("client", "event", "kit"):
        count = start_users(row, port)
    else:
        for _ in range(USERS):
            if row == "callbacks":
                start_callbacks(port)
            elif row == "connection":
                gevent.spawn(talk_by_connection, port)
            else:
                gevent.spawn(talk, port, row == "arrival")

    def cpu() -> float:
        used = resource.getrusage(resource.RUSAGE_SELF)
        return used.ru_utime + used.ru_stime

    gevent.sleep(SETTLE)
    cpu_before, before = cpu(), count()
    gevent.sleep(seconds)
    return 1e6 * (cpu() - cpu_before) / max(1, count() - before)


def main() -> None:
    """Measure, and print the table."""
    options = command_line(__doc__, seconds=2).parse_args()
    leave_nothing_behind()
    least = dict.fromkeys(ROWS, float("inf"))
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        with serving({LEAST: (build("uppercase", folder),)}, LEAST, folder) as (port, _):
            for _ in range(options.rounds):
                for row in ROWS:
                    command = (sys.executable, __file__, "--row", row, str(port), str(options.seconds))
                    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
                    least[row] = min(least[row], float(printed.split()[-1]))
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}", end=", ")
    print(f"{USERS} connections, the least of {options.rounds} rounds of {options.seconds} s\n")
    print("| | CPU us per request | more |\n| --- | --- | --- |")
    before = 0.0
    for row, title in ROWS.items():
        print(f"| {title} | {least[row]:.1f} | {least[row] - before:+.1f} |")
        before = least[row]


if __name__ == "__main__":
    if sys.argv[1:2] == ["--row"]:
        print(run(sys.argv[2], int(sys.argv[3]), int(sys.argv[4])), flush=True)
        os._exit(0)  # with 200 users at work
    main()
