"""Do subscribers get every push, with the kernel's arrival time, and does a one-way message cost less than a request?

A service pushes lines to its clients, which do not ask. Each line carries the time when it was sent. The service
counts what its sockets have taken, Locust what its users have received. Then users of one process send one-way
messages as fast as they can, and others make requests. Linux only.

python benchmarks/pushes.py
"""

import argparse
import asyncio
import contextlib
import platform
import re
import sys
import tempfile
import time
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests import kit

SECONDS = 6
LOCUSTFILE = "benchmarks/pushes_locustfile.py"


class Pusher:
    """The service: it pushes to all of its clients at an even pace, and reads lines without an answer."""

    def __init__(self, clients: int, rate: float) -> None:
        self.clients, self.rate = clients, rate
        self.writers: list[asyncio.StreamWriter] = []
        self.pushed = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Keep a client until it leaves."""
        self.writers.append(writer)
        await reader.read()
        self.writers.remove(writer)

    async def push(self, seconds: float) -> None:
        """Push `rate` lines a second, one client after the other, once all are there."""
        while len(self.writers) < self.clients:
            await asyncio.sleep(0.05)
        loop = asyncio.get_running_loop()
        begun = loop.time()
        while (elapsed := loop.time() - begun) < seconds:
            while self.pushed < elapsed * self.rate:
                self.writers[self.pushed % self.clients].write(b"%.6f\n" % time.time())
                self.pushed += 1
            await asyncio.sleep(0.001)

    async def run(self, folder: Path) -> str:
        """Serve one swarm of subscribers; return its row of the table."""
        server = await asyncio.start_server(self.serve, "127.0.0.1", 0, backlog=4096)
        port = server.sockets[0].getsockname()[1]
        options = [LOCUSTFILE, "Subscriber", "--host", f"tcp://127.0.0.1:{port}", "-u", str(self.clients), "-r", "1000"]
        with kit.program(
            kit.LOCUST, "-f", *options, "--headless", "--csv", str(folder / "run"), output=folder / "log"
        ) as locust:
            await self.push(SECONDS)
            await asyncio.sleep(1)  # the last ones arrive
            cpu = psutil.Process(locust.process.pid).cpu_times()
            await asyncio.to_thread(locust.stop)
        rows = {row["Name"]: row for row in kit.rows(folder / "run_stats.csv")}
        received = int(rows["push"]["Request Count"])
        times = " | ".join(str(rows["push"][column]) for column in ("50%", "99%"))
        fallbacks = locust.says(r"^fallbacks: (.*)$")[1]
        cost = (cpu.user + cpu.system) / received * 1e6
        counts = f"{self.clients} | {self.pushed / SECONDS:.0f} | {self.pushed} | {received} | {fallbacks}"
        return f"| {counts} | {times} | {cost:.1f} |"


def rates(folder: Path) -> str:
    """Return what a request and a one-way message take of the CPU, in turns."""
    cells = []
    with kit.server(output=folder / "server") as server:
        for user in ("Requester", "Sender", "Requester", "Sender"):
            options = ["-f", LOCUSTFILE, user, "--host", server.host, "-u", "50", "-r", "50", "-t", "4s"]
            with kit.program(kit.LOCUST, *options, "--headless", "--only-summary", output=folder / user) as locust:
                process = psutil.Process(locust.process.pid)
                while locust.process.poll() is None:
                    with contextlib.suppress(psutil.Error):  # it ends just now
                        cpu = process.cpu_times()
                    time.sleep(0.05)
            made = int(re.findall(r"^TCP +\w+ +(\d+) ", locust.output, re.MULTILINE)[-1])
            cells.append(f"{user} {made / 4:.0f}/s, {(cpu.user + cpu.system) / made * 1e6:.1f} us")
    return "; ".join(cells)


def main() -> int:
    """Measure, and print a table; return 1 where a push is lost."""
    command = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    command.add_argument("--clients", type=int, default=1000)
    command.add_argument("--rate", type=float, default=20_000, help="pushes per second, to all of them together")
    options = command.parse_args()
    print(f"{platform.machine()}, {psutil.cpu_count()} cores, Python {platform.python_version()}\n")
    print("| subscribers | pushes/s | pushed | received | without arrival time | p50 ms | p99 ms | CPU us per push |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        pusher = Pusher(options.clients, options.rate)
        row = asyncio.run(pusher.run(Path(folder)))
        print(row)
        print("\n" + rates(Path(folder)))
    return 0 if row.split("|")[3] == row.split("|")[4] else 1


if __name__ == "__main__":
    sys.exit(main())
