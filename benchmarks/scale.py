"""How many users can two cores have? Ten thousand in one process, fifty thousand in two; Linux only.

Each keeps its connection to uppercase.c and sends lines on a schedule. Where a process may not have so many
descriptors, there are as many users as it may have, and several services. Prints a Markdown table in about two minutes,
and ends with 1 where a request failed or the users were not all there.

python benchmarks/scale.py
"""

import contextlib
import csv
import os
import platform
import re
import resource
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks.server import Servers, build, leave_nothing_behind, serving
from benchmarks.speed import LEAST
from tests import kit

FOLDER = Path(__file__).parent
SPAWN = 2500  # users a second
SECONDS = 20  # of the run after that
SOURCES = 4  # addresses of the loopback interface: each has 28,000 ports
ROWS = ((10_000, 1, 1.0), (50_000, 2, 0.2))  # users, processes, requests per second of each user
OWN = 500  # descriptors that a process needs besides those of its connections


def run(users: int, processes: int, rate: float, hosts: str, folder: Path) -> tuple[str, bool]:
    """Run a swarm; return its row, and whether every request succeeded."""
    sources = ",".join(f"127.0.0.{number}" for number in range(2, 2 + SOURCES))
    environment = os.environ | {"RATE": str(rate), "SOURCES": sources, "HOSTS": hosts}
    seconds = users // SPAWN + SECONDS
    swarm = ("-u", str(users), "-r", str(SPAWN), "-t", f"{seconds}s", "--csv", folder / "scale", "--headless")
    master = str(kit.free_port())
    workers = ("--processes", str(processes), "--master-port", master, "--master-bind-port", master)
    command = (kit.LOCUST, "-f", FOLDER / "growth_locustfile.py", *swarm)
    with kit.program(
        *command, *(workers if processes > 1 else ()), output=folder / "locust", environment=environment
    ) as locust:
        code = locust.process.wait(seconds + 60)
    rows = {row["Name"]: row for row in csv.DictReader((folder / "scale_stats.csv").open())}
    words, connects = rows["name 0"], rows["connect"]
    # The whole run has the spawning in it, in which users wait for each other. The last line of progress has not.
    *_, progress = re.findall(r"Progress: .* p95 ([\d.]+) ms, lag p95 ([\d.]+) ms", locust.output)
    cpu = re.findall(r"Load generator: .*?CPU (\d+) %", locust.output)
    failures = sum(int(row["Failure Count"]) for row in rows.values())
    is_right = code == 0 and not failures and int(connects["Request Count"]) == users
    cells = (
        *(users, processes, rate, connects["Request Count"], words["Request Count"], failures),
        *(*progress, *cpu[-1:]),
    )
    return f"| {' | '.join(map(str, cells))} |{'' if is_right else ' (!)'}", is_right


def main() -> int:
    """Measure, print the table, and return 1 where something failed."""
    leave_nothing_behind()
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1] - OWN  # connections of a process
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}\n")
    print("| users | processes | requests/s of each | connects | requests | failures ", end="")
    print("| p95 ms at the end | lag p95 ms | CPU % of a process |\n|" + " --- |" * 9, flush=True)
    is_right = True
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        services: Servers = {LEAST: (build("uppercase", folder),)}
        for wanted, processes, rate in ROWS:
            users = min(wanted, processes * most)
            with contextlib.ExitStack() as stack:
                ports = [stack.enter_context(serving(services, LEAST, folder))[0] for _ in range(0, users, most)]
                row, ok = run(users, processes, rate, ",".join(f"tcp://127.0.0.1:{port}" for port in ports), folder)
            print(row, flush=True)
            is_right = is_right and ok
    return 0 if is_right else 1


if __name__ == "__main__":
    sys.exit(main())
