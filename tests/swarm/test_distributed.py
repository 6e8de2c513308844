"""Master and workers: as processes of one host, and on hosts of their own."""

import contextlib
import csv
import http.client
import io
import json
import re
import sys
import time
import urllib.parse
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import psutil
import pytest

from tests import kit
from tests.hosts import Host, NotAllowed, network

TASKS = ["long line", "sentence", "word"]
ESTABLISHED = "01"  # in /proc/net/tcp
PAGE_PORT = 8089  # Locust's own choice; on hosts of the tests' own it is free
USERS = 10
WAIT = 0.05  # seconds that a user waits between two requests
SWARM = {"user_count": USERS, "spawn_rate": 100, "wait": WAIT}
WORKER_REPORT_INTERVAL = 3  # seconds, Locust's own
REPORTED = 3 * USERS  # requests, of which each worker has had some when the master knows of so many

P = TypeVar("P", bound=kit.Program)


class Site:
    """The hosts of a test, which run a service, a master with its page, and workers."""

    def __init__(self, stack: contextlib.ExitStack, hosts: list[Host], folder: Path, *service: str) -> None:
        self._stack = stack
        self._folder = folder
        self._at_service, self._at_master, *self._at_workers = hosts
        command = (sys.executable, "-m", "capserver", "--host", self._at_service.address, "--port", "0")
        self.server = self._run(kit.Server, "server", self._at_service, *command, *service)
        self.host = f"tcp://{self._at_service.address}:{self.server.port}"

    def lead(self, *options: str) -> kit.Program:
        """Start the master."""
        page = () if "--headless" in options else ("--web-host", self._at_master.address)
        command: tuple[str | Path, ...] = (kit.LOCUST, "--master", "--host", self.host, *page, *options)
        self.master = self._run(kit.Program, "master", self._at_master, *command)
        self.workers: list[kit.Program] = []
        return self.master

    def work(self, *options: str) -> kit.Program:
        """Start a worker on a host of its own, and wait until it is connected to the master."""
        number = len(self.workers)
        command: tuple[str | Path, ...] = (kit.LOCUST, "--worker", "--master-host", self._at_master.address, *options)
        self.workers.append(self._run(kit.Program, f"worker{number}", self._at_workers[number], *command))
        self.master.says(rf"\(index {number}\) reported as ready")
        return self.workers[-1]

    def _run(self, kind: type[P], name: str, at: Host, *command: str | Path) -> P:
        running = kind(*at.here, *command, output=self._folder / name)
        self._stack.callback(running.process.wait)
        self._stack.callback(running.process.kill)
        return running

    def ask(self, path: str, form: Mapping[str, object] | None = None) -> str:
        """Send a request to the page's server; with a form, a POST."""
        page = http.client.HTTPConnection(self._at_master.address, PAGE_PORT)
        page.sock = self._stack.enter_context(self._at_master.socket())
        page.sock.settimeout(kit.PATIENCE)
        page.sock.connect((page.host, page.port))
        with contextlib.closing(page):
            kind = {"Content-Type": "application/x-www-form-urlencoded"}
            body = urllib.parse.urlencode(form) if form is not None else None
            page.request("GET" if form is None else "POST", f"/{path}", body, kind)
            answer = page.getresponse()
            assert answer.status == 200, path
            return answer.read().decode()

    def start(self, **options: object) -> None:
        """Press Start."""
        kit.eventually(self._has_page)
        assert json.loads(self.ask("swarm", {**SWARM, **options}))["success"]
        self.master.says("All users spawned|Spawning is complete")  # the latter if a report is late

    def _has_page(self) -> bool:
        """Return whether the page answers: Locust logs that it starts before it listens."""
        with contextlib.suppress(ConnectionRefusedError):
            return bool(self.ask(""))
        return False

    def shown(self) -> Any:
        """Return what the page shows, which may be a second or two old."""
        return json.loads(self.ask("stats/requests"))

    def users(self) -> list[int]:
        """Return the users of each running worker, as the page shows them."""
        return sorted(worker["user_count"] for worker in self.shown()["workers"] if worker["state"] == "running")

    def tab(self, key: str = "generator") -> list[dict[str, Any]]:
        """Return the rows of a tab of ours."""
        (rows,) = (extra["data"] for extra in self.shown()["extended_stats"] if extra["key"] == key)
        return list(rows)

    def counts(self) -> Counter[str]:
        """Return the requests by name, and `failures`; not older than the last report."""
        return counted(csv.DictReader(io.StringIO(self.ask("stats/requests/csv"))))

    def await_requests(self, more: int = REPORTED) -> None:
        """Wait until the master has counted so many more requests."""
        before = self.counts().total()
        kit.eventually(lambda: self.counts().total() >= before + more)

    def stop(self) -> None:
        """Press Stop, and wait until all connections are closed."""
        self.ask("stop", {})
        kit.eventually(lambda: self.shown()["user_count"] == 0)
        kit.eventually(lambda: not self.connections())

    def connections(self) -> int:
        """Return how many connections there are on the service's host, which has no others."""
        rows = Path(f"/proc/{self.server.process.pid}/net/tcp").read_text().splitlines()[1:]
        return sum(row.split()[3] == ESTABLISHED for row in rows)

    def expect_the_servers_totals(self) -> None:
        """Stop the service; expect its totals to be Locust's when the last reports are in."""
        lines, connections, errors = self.server.totals()
        kit.eventually(lambda: requests(self.counts()) >= lines)
        counts = self.counts()
        assert (requests(counts), counts["connect"], counts["failures"]) == (lines, connections, errors)


def counted(rows: Iterable[Mapping[str, str]]) -> Counter[str]:
    """Return the requests by name of Locust's CSV, and its `failures`."""
    counts: Counter[str] = Counter()
    for row in rows:
        if row["Name"] != "Aggregated":
            counts[row["Name"]] += int(row["Request Count"])
            counts["failures"] += int(row["Failure Count"])
    return counts


def requests(counts: Mapping[str, int]) -> int:
    return sum(counts[name] for name in TASKS)


def expect_times_below_a_millisecond(file: Path) -> None:
    """Expect times of a fast service, which whole milliseconds could not show."""
    shown = [row for row in kit.rows(file) if row["Name"] in TASKS]
    assert shown
    for row in shown:
        assert 0 < float(row["Min Response Time"]) <= float(row["50%"]) <= float(row["99%"])
        assert float(row["Min Response Time"]) < 1
    assert any(float(row["50%"]) % 1 for row in shown), shown


@pytest.fixture
def hosts() -> Iterator[list[Host]]:
    """Four hosts: for the service, the master and two workers."""
    with contextlib.ExitStack() as stack:
        try:
            made = stack.enter_context(network(4))
        except NotAllowed as why:  # on CI too, whose machine may not have the right
            pytest.skip(str(why))
        yield made


@pytest.fixture
def stack() -> Iterator[contextlib.ExitStack]:
    """Contexts that end with the test."""
    with contextlib.ExitStack() as running:
        yield running


@pytest.fixture
def site(stack: contextlib.ExitStack, hosts: list[Host], tmp_path: Path) -> Iterator[Site]:
    """A service on a host of its own. No process of Locust may log a traceback."""
    made = Site(stack, hosts, tmp_path)
    yield made
    for locust in (made.master, *made.workers):
        assert "Traceback" not in locust.output


def processes(*options: str) -> tuple[str, ...]:
    """Return the options for two workers on this host, whose master has a port of its own."""
    port = str(kit.free_port())
    return ("--processes", "2", "--master-bind-port", port, "--master-port", port, *options)


def test_processes_of_one_host_add_up_to_the_servers_totals(tmp_path: Path) -> None:
    with kit.server(output=tmp_path / "server") as server:
        swarm = ("--headless", "--host", server.host, "--users", "10", "--spawn-rate", "100", "--wait", "0.05")
        files = ("--run-time", "4s", "--csv", f"{tmp_path}/run")
        with kit.program(kit.LOCUST, *swarm, *files, *processes(), output=tmp_path / "locust") as locust:
            assert locust.ends() == 0
        counts = counted(kit.rows(tmp_path / "run_stats.csv"))
        assert (requests(counts), counts["connect"], counts["failures"]) == server.totals()
    assert counts["connect"] == 10
    locust.says(r"Load generator: worker \d: (Locust|Replies) ")
    expect_times_below_a_millisecond(tmp_path / "run_stats.csv")


def test_workers_on_other_hosts_add_up_to_the_servers_totals(site: Site, tmp_path: Path) -> None:
    swarm = ("--headless", "--expect-workers", "2", "--users", "11", "--spawn-rate", "100", "--wait", "0.05")
    site.lead(*swarm, "--run-time", "4s", "--csv", f"{tmp_path}/run")
    site.work()
    assert "Sending spawn jobs" not in site.master.output
    site.work()
    site.master.says("to 2 ready workers")
    for locust in (site.master, *site.workers):
        assert locust.ends() == 0
    counts = counted(kit.rows(tmp_path / "run_stats.csv"))
    assert (requests(counts), counts["connect"], counts["failures"]) == site.server.totals()
    assert counts["connect"] == 11
    site.master.says(r"Load generator: worker \d: (Locust|Replies) ")
    expect_times_below_a_millisecond(tmp_path / "run_stats.csv")


def test_exchanges_that_end_after_the_run_time_are_counted(stack: contextlib.ExitStack, tmp_path: Path) -> None:
    server = stack.enter_context(kit.server("--fault", "delay=1:700~250", output=tmp_path / "server"))
    swarm = ("--headless", "--host", server.host, "--users", "10", "--spawn-rate", "100")
    files = ("--run-time", "3s", "--csv", f"{tmp_path}/run")
    locust = stack.enter_context(kit.program(kit.LOCUST, *swarm, *files, *processes(), output=tmp_path / "locust"))
    assert locust.ends() == 0
    counts = counted(kit.rows(tmp_path / "run_stats.csv"))
    assert (requests(counts), counts["connect"], 0) == server.totals()


def test_the_options_of_the_form_reach_the_workers(site: Site) -> None:
    site.lead()
    site.work()
    site.work()
    site.start(connection="per-request")
    site.await_requests()
    site.stop()
    site.expect_the_servers_totals()
    counts = site.counts()
    assert counts["connect"] == requests(counts) >= REPORTED // 2


def test_each_worker_keeps_the_schedule_of_the_form_and_reports_its_lag(site: Site) -> None:
    rate = 5  # requests per second of each user
    site.lead()
    site.work()
    site.work()
    site.start(rate=rate, wait=0)
    assert site.users() == [USERS // 2, USERS // 2]
    site.await_requests(REPORTED * rate)
    kit.eventually(lambda: len(site.tab()) == 3)
    *workers, master = site.tab()
    assert [row["name"] for row in workers] == ["worker 0", "worker 1"]
    assert (master["name"], master["users"]) == ("master", 0)
    for row in workers:
        assert row["users"] == USERS // 2
        assert row["source"] == "arrival times"
        assert 0 < row["shortest"] < 100
        assert row["sent_again"] in (0, "-"), "between two processes of one machine no packet gets lost"
        assert 0 < row["lag_50"] <= row["lag_95"] <= row["lag_99"]
        assert row["verdict"].startswith(("Locust ", "Replies "))  # the second on a busy machine
        assert row["behind"] != "-", "it is not on a schedule"
        # No machine is too slow for so little, and each user's first request comes within its first gap.
        assert 0.5 * rate <= row["rate"] / row["users"] <= rate + 1 / row["seconds"] + 0.1
    site.stop()
    site.expect_the_servers_totals()
    assert site.counts()["connect"] == USERS


def test_no_mercy_has_its_users_on_both_workers(stack: contextlib.ExitStack, hosts: list[Host], tmp_path: Path) -> None:
    site = Site(stack, hosts, tmp_path, "--max-connections", "2")
    files = ("-f", "locustfile.py,nomercy.py")
    steps = ("--start-users", "2", "--max-users", "3", "--step-time", "2", "--settle-time", "0.5")
    site.lead(*files, *steps, "--wait", "0.1", "--autostart", "--expect-workers", "2")
    site.work(*files)
    site.work(*files)
    kit.eventually(lambda: site.users() == [1, 1])
    kit.eventually(lambda: site.users() == [1, 2])
    site.master.says("No mercy: Failures began between 2 and 3 users: .* with 2. The failure does not say")
    assert {2, 3} <= {row["users"] for row in site.tab("limit") if row["users"]} <= {1, 2, 3}
    kit.eventually(lambda: site.shown()["user_count"] == 0)


def test_a_killed_workers_users_and_counts_are_not_lost(site: Site) -> None:
    site.lead()
    killed, survivor = site.work(), site.work()
    site.start()
    kit.eventually(lambda: len(site.tab()) == 3)
    before = site.counts()
    (name,) = re.findall(r"(\S+) \(index 0\) reported as ready", site.master.output)

    killed.process.kill()
    site.master.says(f"Worker {name} failed to send heartbeat")
    kit.eventually(lambda: site.users() == [USERS])
    assert [worker["state"] for worker in site.shown()["workers"] if worker["id"] == name] == ["missing"]
    site.await_requests()
    counts = site.counts()
    assert all(counts[name] >= before[name] for name in before)
    kit.eventually(lambda: USERS in [row["users"] for row in site.tab()])
    gone, there, _ = site.tab()
    assert (gone["name"], gone["users"], there["name"]) == ("worker 0", 0, "worker 1")
    assert gone["verdict"].startswith("Gone:")
    site.master.says(rf"worker 0 \({name}\) is gone")

    site.stop()
    lines, connections, _ = site.server.totals()
    assert connections == USERS + USERS // 2
    # Only what the killed worker had not reported yet is missing. A user makes at most one request
    # each WAIT seconds; until the survivor's last report is in, that is missing too.
    unreported = USERS // 2 * (WORKER_REPORT_INTERVAL / WAIT + 1)
    kit.eventually(lambda: 0 <= lines - requests(site.counts()) <= unreported)
    assert site.counts()["failures"] == 0
    assert survivor.process.poll() is None


def test_a_worker_that_joins_late_takes_its_share(site: Site) -> None:
    site.lead()
    site.work()
    site.start()
    site.await_requests()
    assert site.users() == [USERS]
    assert site.counts()["connect"] == site.connections() == USERS
    site.work()
    kit.eventually(lambda: site.users() == [USERS // 2, USERS // 2])
    kit.eventually(lambda: site.counts()["connect"] == USERS + USERS // 2)
    kit.eventually(lambda: site.connections() == USERS)
    site.await_requests()
    site.stop()
    site.expect_the_servers_totals()
    assert site.counts()["failures"] == 0


# A worker's users may start before its init event. Here they do, as on a machine that is slow.
SLOW = """
import gevent
from locust.runners import WorkerRunner

def connect(self, connect=WorkerRunner.connect_to_master):
    connect(self)
    gevent.sleep(1)

WorkerRunner.connect_to_master = connect
"""


def test_a_worker_that_joins_late_has_the_options_of_the_form(site: Site, tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(SLOW)
    site.lead()
    site.work()
    site.start()
    site.await_requests()
    site.work("-f", f"locustfile.py,{tmp_path}/slow.py")
    kit.eventually(lambda: site.users() == [USERS // 2, USERS // 2])
    site.await_requests(10 * REPORTED)  # from each
    kit.eventually(lambda: "worker 1" in [row["name"] for row in site.tab()])  # its first report has come
    site.stop()
    (late,) = (row for row in site.tab() if row["name"] == "worker 1")
    # A user makes no more than one request each WAIT seconds; its first second may be missing.
    assert late["rate"] * late["seconds"] <= USERS // 2 * ((late["seconds"] + 1) / WAIT + 1)


@pytest.mark.parametrize(
    ("users", "options"), [(5000, tuple), (10_000, processes)], ids=["one process", "two processes"]
)
def test_thousands_of_users_spawned_in_a_second_or_two_do_not_fail(
    tmp_path: Path, users: int, options: Callable[[], tuple[str, ...]]
) -> None:
    resource = pytest.importorskip("resource")
    spare = 100  # files that a process has open anyway
    if resource.getrlimit(resource.RLIMIT_NOFILE)[1] < users + spare:
        pytest.skip(f"a process may not have {users + spare} files open here: `ulimit -Hn`")
    with kit.server(output=tmp_path / "server") as server:
        swarm = ("--headless", "--host", server.host, "--users", str(users), "--spawn-rate", "5000", "--wait", "60")
        with kit.program(
            kit.LOCUST, *swarm, "--csv", f"{tmp_path}/run", *options(), output=tmp_path / "locust"
        ) as locust:
            locust.says("Ramping to|Sending spawn jobs")
            begun = time.monotonic()
            service = psutil.Process(server.process.pid)
            kit.eventually(lambda: service.num_fds() > users)
            print(f"{users} users were connected after {time.monotonic() - begun:.2f} s")
            locust.says(rf"^ +Aggregated +{2 * users} +0\(")  # each has connected, and been answered once
            assert locust.stop() == 0
        counts = counted(kit.rows(tmp_path / "run_stats.csv"))
        assert (requests(counts), counts["connect"], counts["failures"]) == server.totals() == (users, users, 0)
    assert "Traceback" not in locust.output
