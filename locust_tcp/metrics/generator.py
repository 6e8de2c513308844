"""The lag of Locust itself, and the verdict: is the service near its limit, or is Locust?

Lag is the time from a reply's arrival until its user's code runs. All users of a process share one
thread. Under load, a reply waits until the users before it have had their turn. That wait is a
delay of the load generator and not of the service: response times do not contain it, and the Load
generator tab shows it beside them.

Where the kernel gives no arrival times, a timer measures the lag: a greenlet sleeps for TICK
seconds and measures how late it resumes. The response times then contain the lag.

The rule of the verdict, for each process:

- saturated: its CPU is at CPU_LIMIT or above, or the lag's 95th percentile is at least LAG_LIMIT
  and at least the service's own 95th percentile, so that replies wait longer for Locust than for
  the service. If its CPU is below CPU_BUSY all the same, the process does not get its core;
- busy: its CPU is at CPU_BUSY or above, or the lag's 95th percentile is at least LAG_LIMIT;
- room: neither, so that more users or a faster service would result in more requests.
"""

import copy
import logging
import math
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import gevent
from locust.env import Environment
from locust.runners import STATE_MISSING, STATE_RUNNING, STATE_SPAWNING, MasterRunner

from locust_tcp.metrics.environment import PerEnvironment
from locust_tcp.metrics.rounding import three_digits
from locust_tcp.metrics.snapshot import EMPTY, Histogram, Interval, Snapshot, percentile
from locust_tcp.version import VERSION

logger = logging.getLogger(__name__)

TICK = 0.02  # seconds; 50 samples a second give a 99th percentile within seconds, at next to no cost
RESOLUTION = 0.001  # seconds; the event loop sleeps for whole milliseconds, rounded up (epoll_wait(2))
LAG_LIMIT = 1.0  # milliseconds; a shorter wait for Locust is the ordinary length of a turn
CPU_LIMIT = 90.0  # percent of a core, the most that a process of Locust can use; Locust warns there too
CPU_BUSY = 70.0  # percent of a core: half as many users again would saturate it
LAG_SHARE = 0.25  # of the users' time; the rest is the service's response time and the users' own pauses


@dataclass
class GeneratorStats:
    """What one process has counted since the test started or the statistics were reset.

    Attributes:
        lags: The lags by the kernel's arrival times.
        ticks: The lags by the timer.
        behind: How late requests on a schedule were sent.
        missed: How many of these were sent after the next one was due.
        exchanges: The number of exchanges with a reply.
        fallbacks: The number of exchanges without an arrival time.
        cpu: Seconds of CPU time.
        seconds: Seconds during which the test was running.
        users: The number of users now.
        gone: Whether this is a worker that no longer reports although the test is running.
    """

    lags: Histogram = field(default_factory=Counter)
    ticks: Histogram = field(default_factory=Counter)
    behind: Histogram = field(default_factory=Counter)
    missed: int = 0
    exchanges: int = 0
    fallbacks: int = 0
    cpu: float = 0.0
    seconds: float = 0.0
    users: int = 0
    gone: bool = False

    @classmethod
    def from_report(cls, report: object) -> "GeneratorStats":
        """Return the figures of a worker's report, which a kit of another version may have written.

        Unknown keys are ignored. Missing keys and values of a wrong type count as nothing.
        """
        stats = cls()
        for name, nothing in vars(stats).items():
            value = report.get(name) if isinstance(report, Mapping) else None
            if isinstance(nothing, Counter) and isinstance(value, Mapping):
                nothing.update({key: count for key, count in value.items() if _is_number(key) and type(count) is int})
            elif _is_number(nothing) and _is_number(value):
                setattr(stats, name, value)
        return stats

    def observe(self, lags: list[float | None]) -> None:
        """Count exchanges by their lags in seconds; None stands for an unknown lag."""
        known = [three_digits(lag * 1000) for lag in lags if lag is not None]
        self.lags.update(known)
        self.exchanges += len(lags)
        self.fallbacks += len(lags) - len(known)

    def observe_schedule(self, late: float, gap: float) -> None:
        """Count a request on a schedule.

        Args:
            late: Seconds from its due time until it was sent.
            gap: Seconds between two requests of the schedule.
        """
        self.behind[three_digits(max(0.0, late) * 1000)] += 1
        self.missed += late > gap

    def add(self, newer: "GeneratorStats") -> None:
        """Add the figures of a newer report. The number of users becomes the newer one."""
        self.lags.update(newer.lags)
        self.ticks.update(newer.ticks)
        self.behind.update(newer.behind)
        self.missed += newer.missed
        self.exchanges += newer.exchanges
        self.fallbacks += newer.fallbacks
        self.cpu += newer.cpu
        self.seconds += newer.seconds
        self.users = newer.users

    def since(self, earlier: "GeneratorStats") -> "GeneratorStats":
        """Return what was counted since an earlier copy of these figures."""
        counted = {name: value - getattr(earlier, name) for name, value in vars(self).items()}
        return GeneratorStats(**counted | {"users": self.users, "gone": self.gone})

    @property
    def by_kernel(self) -> bool:
        """Whether the lag comes from arrival times: true where most exchanges have one."""
        return self.exchanges > 2 * self.fallbacks

    def lag(self, fraction: float) -> float:
        """Return a percentile of the lag in milliseconds."""
        return percentile(self.lags if self.by_kernel else self.ticks, fraction)

    @property
    def mean_lag(self) -> float:
        """The mean lag in milliseconds."""
        lags = self.lags if self.by_kernel else self.ticks
        return sum(lag * count for lag, count in lags.items()) / (lags.total() or 1)

    @property
    def cpu_percent(self) -> float:
        """Percent of a core that the process has used while the test was running."""
        return 100 * self.cpu / self.seconds if self.seconds else 0.0


def _is_number(value: object) -> bool:
    return type(value) in (int, float) and 0 <= value < math.inf  # type: ignore[operator]


UNKNOWN, ROOM, BUSY, SATURATED = range(4)


@dataclass
class Verdict:
    """How near a process is to its limit.

    Attributes:
        level: One of UNKNOWN, ROOM, BUSY and SATURATED, in ascending order.
        text: A sentence with the evidence.
    """

    level: int
    text: str


def verdict(stats: GeneratorStats, response_time: float) -> Verdict:
    """Judge one process by the rule above.

    Args:
        stats: What the process has counted.
        response_time: The 95th percentile of the reported response times, in milliseconds.
    """
    if stats.gone:
        return Verdict(UNKNOWN, "Gone: this worker no longer reports. Its earlier reports still count.")
    if not stats.users or not response_time:
        if stats.cpu_percent >= CPU_LIMIT:  # a master that is too slow for the reports of all its workers
            return Verdict(
                SATURATED, f"Locust's master is saturated: CPU {stats.cpu_percent:.0f} %. Use fewer workers."
            )
        return Verdict(UNKNOWN, f"No users and no requests here; CPU {stats.cpu_percent:.0f} %.")
    lag = stats.lag(0.95)
    service = response_time if stats.by_kernel else max(0.0, response_time - lag)
    evidence = f"replies wait {three_digits(lag):g} ms (p95) for Locust, the service takes {three_digits(service):g} ms"
    if not stats.by_kernel:
        evidence += ", by a timer: the response times contain the wait"
    evidence += f"; CPU {stats.cpu_percent:.0f} %"
    if stats.cpu_percent >= CPU_LIMIT or lag >= max(LAG_LIMIT, service):
        advice = "Add workers: --processes 2 or more."
        if stats.cpu_percent < CPU_BUSY:
            advice = "It does not get its core: other programs use the machine, or the locustfile blocks."
        return Verdict(SATURATED, f"Locust is saturated: {evidence}. {advice}")
    if stats.cpu_percent >= CPU_BUSY or lag >= LAG_LIMIT:
        return Verdict(BUSY, f"Locust has little room left: {evidence}. Add workers before you add users.")
    return Verdict(ROOM, f"Locust has room: {evidence}. The limit is the service's, or there are too few users.")


def worst_verdict(processes: Mapping[str, GeneratorStats], response_time: float) -> Verdict:
    """Return the verdict on the process nearest to its limit. Arguments as for `verdict`."""
    verdicts = {name: verdict(stats, response_time) for name, stats in processes.items() if stats.seconds}
    if not verdicts:
        return Verdict(UNKNOWN, "Nothing has been measured.")
    name, worst = max(verdicts.items(), key=lambda item: item[1].level)
    return Verdict(worst.level, f"{name}: {worst.text}" if len(verdicts) > 1 else worst.text)


def is_generator_bound(processes: Mapping[str, GeneratorStats], interval: Interval) -> bool:
    """Return whether Locust, and not the service, limits the goodput.

    It does if a process has used up its core, or if users spend much of their time with replies
    that wait for their turn: that share is lag x rate / users (Little's law).

    Args:
        processes: What each process has counted during the interval.
        interval: The requests of all processes.
    """
    if any(stats.cpu_percent >= CPU_LIMIT for stats in processes.values()):
        return True
    users = sum(stats.users for stats in processes.values())
    lag = max((stats.mean_lag for stats in processes.values() if stats.users), default=0.0) / 1000
    return bool(users) and lag * interval.requests / interval.seconds / users >= LAG_SHARE


class LoadGenerator(PerEnvironment):
    """The figures of this process of Locust, and on a master those that each worker has reported.

    Attributes:
        pending_lags: The lags in seconds of the exchanges since the last tick; None for an unknown
            lag. Each exchange appends one, and the timer counts them by the hundred, which takes
            half the time. The list is never replaced: a client may keep its `append`.
        stats: The figures of this process; on a worker, since its last report.
    """

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        self.pending_lags: list[float | None] = []
        self.stats = GeneratorStats()
        self._workers: dict[str, GeneratorStats] = {}
        self._checked: set[str] = set()  # the workers whose version was compared

    def run(self) -> None:
        """Measure the lag by the timer, and the CPU time, while a test runs. Never returns."""
        while True:
            begun, cpu = time.perf_counter(), time.process_time()
            gevent.sleep(TICK)
            elapsed = time.perf_counter() - begun
            self._count_pending()
            runner = self._environment.runner
            if runner is None or runner.state not in (STATE_SPAWNING, STATE_RUNNING):
                continue
            self.stats.ticks[three_digits(max(0.0, elapsed - TICK - RESOLUTION) * 1000)] += 1
            self.stats.seconds += elapsed
            self.stats.cpu += time.process_time() - cpu
            if isinstance(runner, MasterRunner):  # its user_count is that of its workers
                self._mark_gone(runner)
            else:
                self.stats.users = runner.user_count

    def reset(self, **_: Any) -> None:
        """Start counting anew: a test starts, or the statistics were reset."""
        self.pending_lags.clear()
        self.stats = GeneratorStats()
        self._workers.clear()

    def processes(self) -> dict[str, GeneratorStats]:
        """Return a copy of the figures of each process, by its name."""
        self._count_pending()
        runner = self._environment.runner
        if not isinstance(runner, MasterRunner):
            return {"Locust": copy.deepcopy(self.stats)}
        by_index = {runner.get_worker_index(client): stats for client, stats in self._workers.items()}
        named = {f"worker {index}": by_index[index] for index in sorted(by_index)} | {"master": self.stats}
        return copy.deepcopy(named)

    def processes_since(self, earlier: Mapping[str, GeneratorStats]) -> dict[str, GeneratorStats]:
        """Return what each process has counted since an earlier result of `processes`."""
        return {name: stats.since(earlier.get(name, GeneratorStats())) for name, stats in self.processes().items()}

    def response_time(self) -> float:
        """Return the 95th percentile of all response times of the test, in milliseconds."""
        return Snapshot.of(self._environment.stats).since(EMPTY).p95

    def log_verdict(self, **_: Any) -> None:
        """Log the verdict at the end of a test."""
        processes = self.processes()
        if any(stats.seconds for stats in processes.values()):
            logger.info("Load generator: %s", worst_verdict(processes, self.response_time()).text)

    def report(self, data: dict[str, Any], **_: Any) -> None:
        """Add a worker's figures since its last report to the report that Locust sends next."""
        self._count_pending()
        data["generator"] = vars(self.stats)
        data["kit_version"] = VERSION
        self.stats = GeneratorStats(users=self.stats.users)

    def add_report(self, client_id: str, data: dict[str, Any], **_: Any) -> None:
        """Add a worker's report to the figures of a master."""
        if client_id not in self._checked:
            self._checked.add(client_id)
            if (version := data.get("kit_version")) != VERSION:
                logger.warning(
                    "Load generator: %s has kit version %s, its master has %s. Figures that only one of them knows "
                    "are not counted.",
                    self._worker_name(client_id),
                    version if isinstance(version, str) else "unknown",
                    VERSION,
                )
        report = GeneratorStats.from_report(data.get("generator"))
        self._workers.setdefault(client_id, GeneratorStats()).add(report)

    def _count_pending(self) -> None:
        self.stats.observe(self.pending_lags)
        self.pending_lags.clear()

    def _mark_gone(self, runner: MasterRunner) -> None:
        """Mark the workers that no longer report, and unmark those that report again."""
        for client, stats in self._workers.items():
            was_gone = stats.gone
            stats.gone = client not in runner.clients or runner.clients[client].state == STATE_MISSING
            if stats.gone:
                stats.users = 0
            if stats.gone and not was_gone:
                name = self._worker_name(client)
                logger.warning("Load generator: %s is gone. Its earlier reports still count.", name)

    def _worker_name(self, client: str) -> str:
        runner = self._environment.runner
        assert isinstance(runner, MasterRunner)
        return f"worker {runner.get_worker_index(client)} ({client})"
