"""How does the cost of a request grow: with the users, the names, the size of the replies? Linux only.

One process of Locust, at full speed, against uppercase.c. The kernel counts the reply bytes, as in speed.py. Prints a
Markdown table in about two minutes.

python benchmarks/growth.py
"""

import os
import platform
import statistics
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks.server import build, command_line, leave_nothing_behind, marked, serving
from benchmarks.speed import LEAST, REPLY_BYTES, Client, Command, locust, measure

Argv = tuple[str | Path, ...]
USERS, NAMES, SIZE = 100, 1, 12  # while the two others grow
ROWS = [
    *((users, NAMES, SIZE) for users in (1, 10, 100, 1000, 10_000)),
    *((USERS, names, SIZE) for names in (10, 100)),
    *((USERS, NAMES, size) for size in (1024, 64 * 1024, 1024 * 1024)),
]


def main() -> int:
    """Measure, print the table, and return 1 where a request failed."""
    options = command_line(__doc__, seconds=3).parse_args()
    leave_nothing_behind()
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}", end=", ")
    print(f"rounds: {options.rounds} of {options.seconds} s\n")
    print("| users | names | bytes of a reply | requests/s | CPU us per request | lowest to highest |")
    print("| --- | --- | --- | --- | --- | --- |", flush=True)
    is_right = True
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        with serving({LEAST: (build("uppercase", folder),)}, LEAST, folder) as (port, *_):
            for users, names, size in ROWS:
                os.environ |= {"NAMES": str(names), "SIZE": str(size)}
                REPLY_BYTES[LEAST] = size
                swarm = locust("growth_locustfile.py", "GrowthUser", str(users))
                connecting = users // 1000  # seconds, at most

                def command(port: int, seconds: int, swarm: Command = swarm, more: int = connecting) -> Argv:
                    return swarm(port, seconds + more)

                client = Client(f"{users} users", LEAST, command)
                rounds = [measure(client, port, users, options.seconds, folder) for _ in range(options.rounds)]
                ok = all(each.is_right for each in rounds)
                is_right = is_right and ok
                costs = sorted(each.cpu for each in rounds)
                rate = statistics.median(each.rate for each in rounds)
                print(f"| {marked(str(users), ok)} | {names} | {size:,} | {rate:,.0f} ", end="")
                print(f"| {statistics.median(costs):.1f} | {costs[0]:.1f} to {costs[-1]:.1f} |", flush=True)
    return 0 if is_right else 1


if __name__ == "__main__":
    sys.exit(main())
