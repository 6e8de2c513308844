"""locust_tcp/pacing.py on a service that stalls: what a closed loop hides, a schedule shows."""

import contextlib
import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

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


# Beside locustfile.py: notes when each request was sent.
RECORDER = """
import json, os
from locust import events

times = []

@events.request.add_listener
def note(name, start_time, **_):
    if name != "connect":
        times.append(start_time)

@events.quitting.add_listener
def write(environment, **_):
    with open(os.environ["TIMES"], "w") as file:
        json.dump(sorted(times), file)
"""


def sent(folder: Path, users: int, rate: float, seconds: int, *options: str) -> list[float]:
    """Return when each request of a swarm on schedule was sent, in seconds from the first."""
    (folder / "recorder.py").write_text(RECORDER)
    swarm = ("--headless", "--users", users, "--spawn-rate", "1000", "--run-time", f"{seconds}s", "--rate", rate)
    with kit.server(output=folder / "server") as server:
        with kit.program(
            *(kit.LOCUST, "-f", f"locustfile.py,{folder}/recorder.py", "--host", server.host),
            *(map(str, swarm)),
            *options,
            output=folder / "locust",
            environment=os.environ | {"TIMES": str(folder / "times")},
        ) as locust:
            assert locust.ends() == 0
        times: list[float] = json.loads((folder / "times").read_text())
        assert server.totals()[0] == len(times)
    return [each - times[0] for each in times]


def test_users_that_are_spawned_together_do_not_send_together(tmp_path: Path) -> None:
    users, seconds, slot = 100, 7, 0.02
    times = sent(tmp_path, users, 1, seconds + 1)
    assert len({int(each / slot) for each in times if each < seconds}) >= 300  # of 350
    assert sum(each < 0.5 for each in times) == pytest.approx(users / 2, rel=0.2)


def test_the_rate_is_kept_within_a_percent(tmp_path: Path) -> None:
    users, rate, seconds = 20, 20, 11
    times = sent(tmp_path, users, rate, seconds)
    begin, end = 1 / rate, times[-1]
    assert end - begin > seconds - 1
    assert sum(begin <= each < end for each in times) == pytest.approx(users * rate * (end - begin), rel=0.01)


def test_the_rate_of_random_arrivals_is_kept(tmp_path: Path) -> None:
    users, rate, seconds = 20, 20, 5
    times = sent(tmp_path, users, rate, seconds, "--arrivals", "poisson")
    expected = users * rate * times[-1]
    assert len(times) == pytest.approx(expected, abs=5 * expected**0.5)  # five standard deviations
