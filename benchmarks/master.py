"""What do its workers cost a master, and how many can it have? The arithmetic for a million users.

A worker's report is taken from a real run at full speed. Then a master is given it again and again, as if from many
workers. Prints a Markdown table.

python benchmarks/master.py
"""

import itertools
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from locust import events
from locust.dispatch import UsersDispatcher
from locust.env import Environment
from locust.rpc import Message
from locust.runners import HEARTBEAT_INTERVAL, WORKER_REPORT_INTERVAL, WorkerNode

from locust_tcp.patches.worker_reports import CLOCK
from locustfile import CapitalizationUser
from tests import kit

SECONDS = 8  # of the run that the report is taken from: there are two of three whole seconds
USERS = 200
WORKERS = 100
ROUNDS = 10  # reports of each worker
MILLION = 1_000_000


def report(folder: Path) -> bytes:
    """Return what a worker sends its master about three seconds at full speed."""
    file = folder / "report"
    port = str(kit.free_port())
    with kit.server(output=folder / "server") as server:
        files = ("-f", "locustfile.py,benchmarks/report_locustfile.py", "--headless", "--host", server.host)
        swarm = ("-u", str(USERS), "-r", str(USERS), "-t", f"{SECONDS}s", "--processes", "1")
        ports = ("--master-bind-port", port, "--master-port", port)
        environment = os.environ | {"REPORT": str(file)}
        with kit.program(kit.LOCUST, *files, *swarm, *ports, output=folder / "l", environment=environment) as locust:
            assert locust.process.wait(SECONDS + kit.PATIENCE) == 0, locust.output
    return file.read_bytes()


def milliseconds(what: Callable[[str], None], workers: list[str], rounds: int) -> float:
    """Return the CPU time that something takes, which is done for each worker in turn."""
    begun = time.process_time()
    for _, worker in itertools.product(range(rounds), workers):
        what(worker)
    return (time.process_time() - begun) * 1000 / rounds / len(workers)


def main() -> None:
    """Measure, and print the table."""
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}\n")
    with tempfile.TemporaryDirectory() as folder:
        packed = report(Path(folder))
    environment = Environment(user_classes=[CapitalizationUser], events=events)
    master = environment.create_master_runner("127.0.0.1", kit.free_port())
    events.init.fire(environment=environment, runner=master, web_ui=None)
    names = [f"worker_{number}" for number in range(WORKERS)]
    for name in names:
        master.clients[name] = WorkerNode(name)

    def take(kind: str, content: bytes) -> Callable[[str], None]:
        def one(worker: str) -> None:
            message = Message.unserialize(content)
            message.type, message.node_id = kind, worker
            if CLOCK in message.data:
                message.data[CLOCK] = time.time()
            master.handle_message(worker, message)

        return one

    beat = Message("heartbeat", {"state": "running", "current_cpu_usage": 50.0}, names[0]).serialize()
    a_report = milliseconds(take("stats", packed), names, ROUNDS)
    a_beat = milliseconds(take("heartbeat", beat), names, ROUNDS)
    dispatcher = UsersDispatcher([WorkerNode(name) for name in names], [CapitalizationUser])
    dispatcher.new_dispatch(MILLION, MILLION)
    begun = time.process_time()
    next(dispatcher)
    sharing_out = time.process_time() - begun
    share = a_report / WORKER_REPORT_INTERVAL / 1000 + a_beat / HEARTBEAT_INTERVAL / 1000  # of the master's core

    print("| | |\n| --- | --- |")
    print(f"| a report, every {WORKER_REPORT_INTERVAL:g} s | {len(packed) / 1024:.1f} KB, {a_report:.2f} ms of CPU |")
    print(f"| a heartbeat, every {HEARTBEAT_INTERVAL:g} s | {a_beat:.3f} ms of CPU |")
    print(f"| {WORKERS} workers | {len(packed) * WORKERS / WORKER_REPORT_INTERVAL / 1e6:.2f} MB/s ", end="")
    print(f"and {100 * share * WORKERS:.1f} % of a core |")
    print(f"| workers that fill a core | {1 / share:.0f} |")
    print(f"| to share a million users out | {sharing_out:.1f} s |")
    master.greenlet.kill()


if __name__ == "__main__":
    main()
