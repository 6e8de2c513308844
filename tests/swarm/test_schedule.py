"""locust_tcp/pacing.py on a service that stalls: what a closed loop hides, a schedule shows."""

import contextlib
import re
import signal
import threading
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from tests import kit

RATE = 50.0  # requests per second of each user
USERS = 4
STALL = 1.0  # seconds that the service stands still ...
PERIOD = 5.0  # ... of every so many
PERIODS = 2


@contextlib.contextmanager
def stalling(server: kit.Server) -> Iterator[None]:
    """Stop the server for the first second of every period."""
    over = threading.Event()

    def run() -> None:
        while not over.is_set():
            begun = time.monotonic()
            server.process.send_signal(signal.SIGSTOP)
            over.wait(STALL)
            server.process.send_signal(signal.SIGCONT)
            over.wait(PERIOD - (time.monotonic() - begun))

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        server.process.send_signal(signal.SIGCONT)


def run(folder: Path, *options: str) -> tuple[dict[str, float], kit.Program]:
    """Run a swarm for whole periods; return the percentiles of its words in milliseconds."""
    with kit.server(output=folder / "server") as server:
        command = ("--host", server.host, "--headless", "--users", str(USERS), "--spawn-rate", "100")
        files = ("--csv", str(folder / "run"))
        with kit.program(kit.LOCUST, *command, *files, *options, output=folder / "locust") as locust:
            locust.says("All users spawned")
            with stalling(server):
                locust.says(r"^TCP +word +\d")
                time.sleep(PERIOD * PERIODS)  # the length of the measurement, not a wait for something
                assert locust.stop() == 0
    (row,) = [row for row in kit.rows(folder / "run_stats.csv") if row["Name"] == "word"]
    assert row["Failure Count"] == "0"
    return {column: float(value) for column, value in row.items() if column.endswith("%")}, locust


def test_a_stall_shows_on_schedule_as_users_would_feel_it(tmp_path: Path) -> None:
    percentiles, locust = run(tmp_path, "--rate", str(RATE))
    # In each period of 5 s a user has 250 requests due, 50 of them during the stall. The first of
    # those waits for a second, the last for none, the others evenly in between. The slowest twentieth
    # of all are 12.5, a quarter of the 50: they waited for more than three quarters of the stall.
    slowest = 0.05 * PERIOD * RATE
    expected = STALL * (1 - slowest / (STALL * RATE)) * 1000
    assert 0.6 * expected <= percentiles["95%"] <= 1000 * STALL * 1.2, percentiles
    assert percentiles["50%"] < 100
    locust.says("Load generator:")


def test_a_closed_loop_hides_the_stall(tmp_path: Path) -> None:
    # Each user has one slow request a period, among thousands.
    percentiles, _ = run(tmp_path)
    assert percentiles["95%"] < 100
    assert percentiles["100%"] > 0.8 * STALL * 1000


def test_the_rate_is_kept(tmp_path: Path) -> None:
    for arrivals in ("even", "poisson"):
        with kit.server(output=tmp_path / "server") as server:
            options = ("--headless", "--users", str(USERS), "--spawn-rate", "100", "--run-time", "5s")
            schedule = ("--rate", str(RATE), "--arrivals", arrivals)
            with kit.program(
                kit.LOCUST, *options, *schedule, "--host", server.host, output=tmp_path / "locust"
            ) as locust:
                assert locust.ends() == 0
            lines, _, _ = server.totals()
        # 1000 requests in 5 s. Poisson: a standard deviation of 32; five of them, and the start and the end.
        expected = USERS * RATE * seconds(locust.output)
        assert 0.75 * expected <= lines <= 1.18 * expected, arrivals


def seconds(output: str) -> float:
    """Return how long the users ran, by the log."""
    times = re.findall(r"^\[(.*?)\].*(?:Ramping to|limit reached)", output, re.MULTILINE)
    begun, ended = (datetime.strptime(time, "%Y-%m-%d %H:%M:%S,%f") for time in times)
    return (ended - begun).total_seconds()
