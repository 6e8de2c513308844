"""Locust's own lag, kept beside the response times, and what it says: whose limit is near?

Lag is the time from a reply's arrival to the moment when its user's code gets its turn. All users of a
process share one thread, so under load a reply waits until those before it are done. That is the load
generator's delay and not the service's: the response times do not contain it, and here it is shown.

Where the kernel does not say when replies arrive, a timer tells it: a greenlet that sleeps TICK seconds
measures how late it is woken. The response times then do contain the lag.

The rule of the verdict, for each process:

- saturated: its CPU is at CPU_LIMIT or above, or lag's 95th percentile is at least LAG_LIMIT and at least
  the service's own 95th percentile, so that replies wait longer for Locust than for the service. Where
  its CPU is below CPU_BUSY all the same, others take the machine's cores from it;
- little room left: CPU is at CPU_BUSY or above, or lag's 95th percentile is at least LAG_LIMIT;
- room: neither, so that more users or a faster service would make more requests.
"""

import logging
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import gevent
from locust import events
from locust.env import Environment
from locust.runners import STATE_MISSING, STATE_RUNNING, STATE_SPAWNING, MasterRunner, WorkerRunner
from locust.stats import calculate_response_time_percentile

from locust_tcp.metrics.rounding import three_digits
from locust_tcp.metrics.snapshot import NOTHING, Reading, Stretch
from locust_tcp.web.tabs import add_tab

logger = logging.getLogger(__name__)

TICK = 0.02  # seconds; fifty samples a second tell a 99th percentile in a run of seconds, and cost nothing
RESOLUTION = 0.001  # seconds; the event loop sleeps in whole milliseconds, rounded up (epoll_wait(2))
LAG_LIMIT = 1.0  # milliseconds; below that a wait for Locust is the ordinary length of a turn
CPU_LIMIT = 90.0  # percent of a core, all that a process of Locust can use; Locust warns there too
LAG_SHARE = 0.25  # of the users' time; what else it consists of is the service's answer and their own pauses
CPU_BUSY = 70.0  # percent of a core: half as many users again would saturate it

Histogram = Counter[float]  # milliseconds, three significant digits -> how often


def _percentile(histogram: Histogram, percent: float) -> float:
    return calculate_response_time_percentile(histogram, histogram.total(), percent)  # type: ignore[arg-type]


@dataclass
class Account:
    """What one process has done since the test began or the statistics were reset. Accounts add up."""

    lags: Histogram = field(default_factory=Counter)  # by the kernel's arrival times
    ticks: Histogram = field(default_factory=Counter)  # by the timer
    behind: Histogram = field(default_factory=Counter)  # how late requests on a schedule were sent
    missed: int = 0  # of those, later than when the next one was due
    exchanges: int = 0
    fallbacks: int = 0  # exchanges without an arrival time
    cpu: float = 0.0  # seconds
    seconds: float = 0.0  # while the test was running
    users: int = 0
    gone: bool = False  # a worker that reports no more, in the middle of a test

    def observe(self, lags: list[float | None]) -> None:
        """Count exchanges, given the seconds that each reply waited for its user; None where that is unknown."""
        known = [three_digits(lag * 1000) for lag in lags if lag is not None]
        self.lags.update(known)
        self.exchanges += len(lags)
        self.fallbacks += len(lags) - len(known)

    def observe_schedule(self, late: float, gap: float) -> None:
        """Count a request sent `late` seconds after it was due, on a schedule with one each `gap` seconds."""
        self.behind[three_digits(max(0.0, late) * 1000)] += 1
        self.missed += late > gap

    def add(self, other: "Account") -> None:
        """Add what another account has counted since; the number of users is the newer one."""
        self.lags.update(other.lags)
        self.ticks.update(other.ticks)
        self.behind.update(other.behind)
        self.missed += other.missed
        self.exchanges += other.exchanges
        self.fallbacks += other.fallbacks
        self.cpu += other.cpu
        self.seconds += other.seconds
        self.users = other.users

    def since(self, earlier: "Account") -> "Account":
        """Return what has been counted since an earlier copy of this account."""
        counted = {name: value - getattr(earlier, name) for name, value in vars(self).items()}
        return Account(**counted | {"users": self.users, "gone": self.gone})

    @property
    def by_kernel(self) -> bool:
        """Whether the lag is known from arrival times, as it is where most exchanges have one."""
        return self.exchanges > 2 * self.fallbacks

    def lag(self, percent: float) -> float:
        """Return a percentile of the lag, in milliseconds."""
        return _percentile(self.lags if self.by_kernel else self.ticks, percent)

    @property
    def mean_lag(self) -> float:
        """The mean lag, in milliseconds."""
        lags = self.lags if self.by_kernel else self.ticks
        return sum(lag * count for lag, count in lags.items()) / (lags.total() or 1)

    @property
    def cpu_percent(self) -> float:
        """Percent of a core that the process has used while the test was running."""
        return 100 * self.cpu / self.seconds if self.seconds else 0.0


@dataclass
class Verdict:
    """Whose limit is near: a level for comparing, of those below, and a sentence for reading."""

    level: int
    text: str


UNKNOWN, ROOM, BUSY, SATURATED = range(4)


def verdict(account: Account, response_time: float) -> Verdict:
    """Judge one process by the rule above. `response_time` is the 95th percentile reported, in milliseconds."""
    if account.gone:
        return Verdict(UNKNOWN, "Gone: it reports no more. What it had reported is still counted.")
    if not account.users or not response_time:
        if account.cpu_percent >= CPU_LIMIT:  # a master, which can be too slow for all its workers' reports
            return Verdict(
                SATURATED, f"Locust's master is saturated: CPU {account.cpu_percent:.0f} %. Use fewer workers."
            )
        return Verdict(UNKNOWN, f"No users and no requests here; CPU {account.cpu_percent:.0f} %.")
    lag = account.lag(0.95)
    service = response_time if account.by_kernel else max(0.0, response_time - lag)
    evidence = f"replies wait {three_digits(lag):g} ms (p95) for Locust, the service takes {three_digits(service):g} ms"
    if not account.by_kernel:
        evidence += ", by a timer: the response times contain the wait"
    evidence += f"; CPU {account.cpu_percent:.0f} %"
    if account.cpu_percent >= CPU_LIMIT or lag >= max(LAG_LIMIT, service):
        advice = "Add workers: --processes 2 or more."
        if account.cpu_percent < CPU_BUSY:
            advice = "Something keeps it from its core: other programs on its machine, or a locustfile that blocks."
        return Verdict(SATURATED, f"Locust is saturated: {evidence}. {advice}")
    if account.cpu_percent >= CPU_BUSY or lag >= LAG_LIMIT:
        return Verdict(BUSY, f"Locust has little room left: {evidence}. Add workers before you add users.")
    return Verdict(ROOM, f"Locust has room: {evidence}. The limit is the service's, or there are too few users.")


account = Account()
"""This process's own account, since the last report where it is a worker."""

noticed: list[float | None] = []
"""The lags of this process's exchanges since the last tick: to count them by the hundred takes half the time."""

workers: dict[str, Account] = {}


def _count() -> None:
    account.observe(noticed)
    noticed.clear()


def _clear(**_: Any) -> None:
    noticed.clear()
    account.__init__()  # type: ignore[misc]
    workers.clear()


def _tick(environment: Environment) -> None:
    """Measure how late a sleeping greenlet is woken, and what the process uses, while a test runs."""
    while True:
        begun, cpu = time.perf_counter(), time.process_time()
        gevent.sleep(TICK)
        elapsed = time.perf_counter() - begun
        _count()
        if isinstance(environment.runner, MasterRunner):
            _look_for_workers(environment.runner)
        if environment.runner and environment.runner.state in (STATE_SPAWNING, STATE_RUNNING):
            account.ticks[three_digits(max(0.0, elapsed - TICK - RESOLUTION) * 1000)] += 1
            account.seconds += elapsed
            account.cpu += time.process_time() - cpu
            if not isinstance(environment.runner, MasterRunner):  # whose count is of its workers' users
                account.users = environment.runner.user_count


def _look_for_workers(runner: MasterRunner) -> None:
    """Take note of workers that have gone in the middle of a test, and of those that are back."""
    if runner.state not in (STATE_SPAWNING, STATE_RUNNING):
        return
    for client, each in workers.items():
        was_gone = each.gone
        each.gone = client not in runner.clients or runner.clients[client].state == STATE_MISSING
        if each.gone:
            each.users = 0
        if each.gone and not was_gone:
            name = f"worker {runner.get_worker_index(client)} ({client})"
            logger.warning("Load generator: %s is gone. What it had reported is still counted.", name)


def accounts(environment: Environment) -> dict[str, Account]:
    """Return the account of each process, by its name."""
    runner = environment.runner
    _count()
    if not isinstance(runner, MasterRunner):
        return {"Locust": account}
    by_index = {runner.get_worker_index(client): each for client, each in workers.items()}
    return {f"worker {index}": by_index[index] for index in sorted(by_index)} | {"master": account}


def worst(judged: Mapping[str, Account], response_time: float) -> Verdict:
    """Return the verdict on the process that is nearest to its limit."""
    verdicts = {name: verdict(each, response_time) for name, each in judged.items() if each.seconds}
    if not verdicts:
        return Verdict(UNKNOWN, "Nothing has been measured.")
    name, found = max(verdicts.items(), key=lambda item: item[1].level)
    return Verdict(found.level, f"{name}: {found.text}" if len(verdicts) > 1 else found.text)


def holds_back(measured: Mapping[str, Account], stretch: Stretch) -> bool:
    """Say whether it is Locust that keeps the rate from rising, and not the service.

    It is where a process has no more of its core to give, or where users spend their time with
    replies that wait for their turn: lag x rate / users is the share of it (Little's law).
    """
    if any(each.cpu_percent >= CPU_LIMIT for each in measured.values()):
        return True
    users = sum(each.users for each in measured.values())
    lag = max((each.mean_lag for each in measured.values() if each.users), default=0.0) / 1000
    return bool(users) and lag * stretch.requests / stretch.seconds / users >= LAG_SHARE


def _rows(environment: Environment) -> list[tuple[str, Account, Verdict]]:
    """Return name, account and verdict of each process that has something to tell."""
    response_time = Reading.of(environment.stats).since(NOTHING).p95
    return [(name, each, verdict(each, response_time)) for name, each in accounts(environment).items() if each.seconds]


COLUMNS = {
    "name": "Process",
    "users": "Users",
    "seconds": "Seconds",
    "rate": "Requests/s",
    "cpu": "CPU (%)",
    "lag_50": "Lag p50 (ms)",
    "lag_95": "Lag p95 (ms)",
    "lag_99": "Lag p99 (ms)",
    "source": "Lag known by",
    "fallbacks": "Without arrival time",
    "missed": "Missed slots",
    "behind": "Behind schedule p95 (ms)",
    "verdict": "Whose limit is near?",
}


def _table(environment: Environment) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "users": each.users,
            "seconds": round(each.seconds, 1),
            "rate": round(each.exchanges / each.seconds, 1) if each.exchanges else "-",  # users of another kind
            "cpu": round(each.cpu_percent, 1),
            "lag_50": each.lag(0.5),
            "lag_95": each.lag(0.95),
            "lag_99": each.lag(0.99),
            "source": "arrival times" if each.by_kernel else "timer",
            "fallbacks": each.fallbacks,
            "missed": each.missed if each.behind else "-",
            "behind": _percentile(each.behind, 0.95) if each.behind else "-",
            "verdict": judged.text,
        }
        for name, each, judged in _rows(environment)
    ]


def _log_verdict(environment: Environment, **_: Any) -> None:
    told = accounts(environment)
    if any(each.seconds for each in told.values()):
        logger.info("Load generator: %s", worst(told, Reading.of(environment.stats).since(NOTHING).p95).text)


def _report(data: dict[str, Any], **_: Any) -> None:
    """Send what a worker has counted since its last report."""
    _count()
    data["generator"] = vars(account).copy()
    users = account.users
    account.__init__(users=users)  # type: ignore[misc]


def _reported(client_id: str, data: dict[str, Any], **_: Any) -> None:
    if (sent := data.get("generator")) is not None:
        told = Account(**sent | {name: Counter(sent[name]) for name in ("lags", "ticks", "behind")})
        workers.setdefault(client_id, Account()).add(told)


@events.init.add_listener
def _init(environment: Environment, **_: Any) -> None:
    hooks = environment.events
    hooks.test_start.add_listener(_clear)
    hooks.reset_stats.add_listener(_clear)
    if environment.reset_stats:  # --reset-stats
        hooks.spawning_complete.add_listener(_clear)
    gevent.spawn(_tick, environment)
    if isinstance(environment.runner, WorkerRunner):
        hooks.report_to_master.add_listener(_report)
        return
    hooks.worker_report.add_listener(_reported)
    hooks.test_stop.add_listener(_log_verdict)
    add_tab(environment, "generator", "Load generator", COLUMNS, lambda: _table(environment))
