"""What do arrival times cost? The kit's user with them and without, in turns: the ratio of their throughputs.

python benchmarks/cost.py
"""

import os
import platform
import statistics
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests import kit

PAIRS = 7
SECONDS = 5
USERS = 50


def throughput(host: str, environment: dict[str, str]) -> float:
    """Return the requests per second of a swarm."""
    with tempfile.TemporaryDirectory() as folder:
        where = ("-f", "benchmarks/truth_locustfile.py", "KitUser", "--headless", "--host", host)
        swarm = ("-u", str(USERS), "-r", str(USERS), "-t", str(SECONDS), "--csv", f"{folder}/run")
        output = Path(folder) / "locust"
        with kit.program(kit.LOCUST, *where, *swarm, output=output, environment=environment) as locust:
            assert locust.ends() == 0, locust.output
        (row,) = [row for row in kit.rows(Path(folder) / "run_stats.csv") if row["Name"] == "word"]
        return float(row["Requests/s"])


def main() -> None:
    """Measure and print a table."""
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, {USERS} users\n")
    print("| with arrival times | without | ratio |\n| --- | --- | --- |")
    ratios = []
    with tempfile.TemporaryDirectory() as folder, kit.server(output=Path(folder) / "server") as server:
        for _ in range(PAIRS):
            with_times = throughput(server.host, dict(os.environ))
            without = throughput(server.host, os.environ | {"NO_ARRIVAL_TIMES": "1"})
            ratios.append(with_times / without)
            print(f"| {with_times:.0f} | {without:.0f} | {ratios[-1]:.2f} |", flush=True)
    print(f"\nMedian of the ratios: {statistics.median(ratios):.3f}")


if __name__ == "__main__":
    main()
