"""How many users can two cores have? Ten thousand in one process, fifty thousand in two; Linux only.

Each keeps its connection to uppercase.c and sends a line a second, on a schedule. Prints a Markdown table in about two
minutes, and ends with 1 where a request failed or the users were not all there.

python benchmarks/scale.py
"""

import csv
import os
import platform
import re
import resource
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks.server import build, leave_nothing_behind, serving
from benchmarks.speed import LEAST
from tests import kit

FOLDER = Path(__file__).parent
SPAWN = 2500  # users a second
SECONDS = 20  # of the run after that
SOURCES = 4  # addresses of the loopback interface: each has 28,000 ports
ROWS = ((10_000, 1), (50_000, 2))  # users, processes


def run(users: int, processes: int, port: int, folder: Path) -> tuple[str, bool]:
    """Run a swarm; return its row, and whether every request succeeded."""
    sources = ",".join(f"127.0.0.{number}" for number in range(2, 2 + SOURCES))
    environment = os.environ | {"RATE": "1", "SOURCES": sources}
    seconds = users // SPAWN + SECONDS
    swarm = ("-u", str(users), "-r", str(SPAWN), "-t", f"{seconds}s", "--csv", folder / "scale", "--headless")
    master = str(kit.free_port())
    workers = ("--processes", str(processes), "--master-port", master, "--master-bind-port", master)
    command = (kit.LOCUST, "-f", FOLDER / "growth_locustfile.py", "--host", f"tcp://127.0.0.1:{port}", *swarm)
    with kit.program(
        *command, *(workers if processes > 1 else ()), output=folder / "locust", environment=environment
    ) as locust:
        code = locust.process.wait(seconds + 60)
    rows = {row["Name"]: row for row in csv.DictReader((folder / "scale_stats.csv").open())}
    words, connects = rows["name 0"], rows["connect"]
    lag = re.search(r"Load generator: .*?replies wait ([\d.]+) ms \(p95\).*?CPU (\d+) %", locust.output)
    failures = sum(int(row["Failure Count"]) for row in rows.values())
    is_right = code == 0 and not failures and int(connects["Request Count"]) == users
    cells = (
        *(users, processes, connects["Request Count"], words["Request Count"], failures),
        *(words["95%"], lag[1] if lag else "?", lag[2] if lag else "?"),
    )
    return f"| {' | '.join(map(str, cells))} |{'' if is_right else ' (!)'}", is_right


def main() -> int:
    """Measure, print the table, and return 1 where something failed."""
    leave_nothing_behind()
    limit = max(users for users, _ in ROWS) + 1000
    if resource.getrlimit(resource.RLIMIT_NOFILE)[1] < limit:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))  # root may
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}\n")
    print("| users | processes | connects | requests | failures | p95 ms | lag p95 ms | CPU % of a process |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |", flush=True)
    is_right = True
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for users, processes in ROWS:
            with serving({LEAST: (build("uppercase", folder),)}, LEAST, folder) as (port, _):
                row, ok = run(users, processes, port, folder)
                print(row, flush=True)
                is_right = is_right and ok
    return 0 if is_right else 1


if __name__ == "__main__":
    sys.exit(main())
