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
  the service;
- busy: its CPU is at CPU_BUSY or above, or the lag's 95th percentile is at least LAG_LIMIT;
- room: neither, so that more users or a faster service would result in more requests. Where the
  network loses packets or is slow (network.py), the sentence says that instead.

With fewer than MIN_LAGS lags the CPU alone is judged. A process with CPU to spare is never called full: the
sentence says that replies wait for it.
"""

import copy
import logging
import math
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import gevent
from locust.env import Environment
from locust.runners import STATE_MISSING, STATE_RUNNING, STATE_SPAWNING, MasterRunner

from locust_tcp.metrics.environment import PerEnvironment
from locust_tcp.metrics.evidence import samples_needed
from locust_tcp.metrics.network import Paths, network_finding
from locust_tcp.metrics.rounding import three_digits
from locust_tcp.metrics.snapshot import Histogram, Interval, percentile, request_times
from locust_tcp.version import VERSION

logger = logging.getLogger(__name__)

TICK = 0.02  # seconds; 50 samples a second give a 99th percentile within seconds, at next to no cost
RESOLUTION = 0.001  # seconds; the event loop sleeps for whole milliseconds, rounded up (epoll_wait(2))
LAG_LIMIT = 1.0  # milliseconds; a shorter wait for Locust is the ordinary length of a turn
MIN_LAGS = samples_needed(0.95)  # a 95th percentile of fewer has no confidence interval
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
        segments: The TCP segments with data that were sent on connections that had worked before.
        sent_again: How many of these had been sent before.
        opened: The number of new connections.
        opened_again: How many of these had to send a packet again until the peer acknowledged data.
        round_trips: The smoothed round-trip times of connections.
        shortest_trips: The shortest round-trip times of connections.
        exchanges: The number of exchanges with a reply.
        fallbacks: The number of exchanges without an arrival time.
        cpu: Seconds of CPU time.
        seconds: Seconds during which the test was running.
        users: The number of users now.
        gone: Whether this is a worker that no longer reports although the test is running.
        is_master: Whether this is the master of workers, which has no users of its own.
    """

    lags: Histogram = field(default_factory=Counter)
    ticks: Histogram = field(default_factory=Counter)
    behind: Histogram = field(default_factory=Counter)
    round_trips: Histogram = field(default_factory=Counter)
    shortest_trips: Histogram = field(default_factory=Counter)
    segments: int = 0
    sent_again: int = 0
    opened: int = 0
    opened_again: int = 0
    missed: int = 0
    exchanges: int = 0
    fallbacks: int = 0
    cpu: float = 0.0
    seconds: float = 0.0
    users: int = 0
    gone: bool = False
    is_master: bool = False

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
        for name, value in vars(newer).items():
            counted = getattr(self, name)
            if isinstance(counted, Counter):
                counted.update(value)
            elif _is_number(value):
                setattr(self, name, counted + value)
        self.users = newer.users

    def since(self, earlier: "GeneratorStats") -> "GeneratorStats":
        """Return what was counted since an earlier copy of these figures."""
        counted = {name: value - getattr(earlier, name) for name, value in vars(self).items()}
        now = {"users": self.users, "gone": self.gone, "is_master": self.is_master}
        return GeneratorStats(**counted | now)

    @property
    def by_kernel(self) -> bool:
        """Whether the lag comes from arrival times: true where most exchanges have one."""
        return self.exchanges > 2 * self.fallbacks

    @property
    def known_lags(self) -> Histogram:
        """The lags: by arrival times, or by the timer."""
        return self.lags if self.by_kernel else self.ticks

    def lag(self, fraction: float) -> float:
        """Return a percentile of the lag in milliseconds."""
        return percentile(self.known_lags, fraction)

    @property
    def mean_lag(self) -> float:
        """The mean lag in milliseconds."""
        lags = self.known_lags
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
        text: A sentence or two with the evidence and advice.
        evidence: The figures alone, without a judgement.
        network: What is wrong with the network, as a sentence; "" for nothing.
        claim: The judgement alone, in a few words.
    """

    level: int
    text: str
    evidence: str = ""
    network: str = ""
    claim: str = "Nothing to judge yet"

    @property
    def headline(self) -> str:
        """The verdict in a few words."""
        return self.claim + (", and the network is bad" if self.network else "")


def verdict(stats: GeneratorStats, response_time: float) -> Verdict:
    """Judge one process by the rule above.

    Args:
        stats: What the process has counted.
        response_time: The 95th percentile of the reported response times, in milliseconds; 0 where there is none.
    """
    cpu = f"CPU {stats.cpu_percent:.0f} %"
    is_full = stats.cpu_percent >= CPU_LIMIT
    if stats.gone:
        return Verdict(UNKNOWN, "Gone: this worker no longer reports. Its earlier reports still count.")
    if stats.is_master:
        if is_full:  # too slow for the reports of all its workers
            claim = "Locust's master is saturated"
            return Verdict(SATURATED, f"{claim}: {cpu}. Use fewer workers.", cpu, claim=claim)
        return Verdict(UNKNOWN, f"A master has no users of its own; {cpu}.", cpu)
    network = network_finding(stats, response_time)
    if not stats.users or not response_time:
        nothing = "no response time was measured" if stats.users else "there are no users here"
        if is_full:  # users that fail at once try again at once
            claim = "Locust is saturated"
            text = f"{claim}: {cpu}, and {nothing}. Look at the failures and exceptions first."
            return Verdict(SATURATED, text, cpu, network, claim)
        return Verdict(UNKNOWN, f"Nothing to judge: {nothing}; {cpu}. {network}".rstrip(), cpu, network)
    count = stats.known_lags.total()
    lag = stats.lag(0.95) if count >= MIN_LAGS else 0.0
    service = response_time if stats.by_kernel else max(0.0, response_time - lag)
    times = f"the service takes {three_digits(service):g} ms"
    if count < MIN_LAGS:
        evidence = f"{times} (p95); {count} samples of the lag are too few for a p95 ({MIN_LAGS})"
    else:
        evidence = f"replies wait {three_digits(lag):g} ms (p95) for Locust, {times}"
    if not stats.by_kernel:
        evidence += ", by a timer: the response times contain the wait"
    evidence += f"; {cpu}"
    if is_full or lag >= max(LAG_LIMIT, service):
        level, claim, advice = SATURATED, "Locust is saturated", "Add workers: --processes 2 or more."
    elif stats.cpu_percent >= CPU_BUSY or lag >= LAG_LIMIT:
        level, claim, advice = BUSY, "Locust has little room left", "Add workers before you add users."
    else:
        level, claim, advice = ROOM, "Locust has room", "The limit is the service's, or there are too few users."
    if level != ROOM and stats.cpu_percent < CPU_BUSY:
        claim = "Replies wait mostly for Locust" if level == SATURATED else "Locust is held up at times"
        advice = (
            "Locust has CPU to spare: replies that arrive together wait for each other, the locustfile blocks, or "
            "other programs use the machine."
        )
    if network:
        advice = network if level == ROOM else f"{advice} {network}"
    return Verdict(level, f"{claim}: {evidence}. {advice}", evidence, network, claim)


def worst_verdict(processes: Mapping[str, GeneratorStats], response_time: float) -> Verdict:
    """Return the verdict on the process nearest to its limit. Arguments as for `verdict`."""
    verdicts = {name: verdict(stats, response_time) for name, stats in processes.items() if stats.seconds}
    if not verdicts:
        return Verdict(UNKNOWN, "Nothing has been measured.")
    name, worst = max(verdicts.items(), key=lambda item: (item[1].level, item[1].network != ""))
    return replace(worst, text=f"{name}: {worst.text}") if len(verdicts) > 1 else worst


def is_generator_bound(processes: Mapping[str, GeneratorStats], interval: Interval) -> bool:
    """Return whether Locust, and not the service, limits the goodput.

    It does if a process has used up its core, or if users spend much of their time with replies
    that wait for their turn: that share is lag x rate / users (Little's law). With too few lags the
    CPU alone is judged.

    Args:
        processes: What each process has counted during the interval.
        interval: The requests of all processes.
    """
    if any(stats.cpu_percent >= CPU_LIMIT for stats in processes.values()):
        return True
    users = sum(stats.users for stats in processes.values())
    judged = [stats for stats in processes.values() if stats.users and stats.known_lags.total() >= MIN_LAGS]
    lag = max((stats.mean_lag for stats in judged), default=0.0) / 1000
    return bool(users) and lag * interval.requests / interval.seconds / users >= LAG_SHARE


class LoadGenerator(PerEnvironment):
    """The figures of this process of Locust, and on a master those that each worker has reported.

    Attributes:
        pending_lags: The lags in seconds of the exchanges since the last tick; None for an unknown
            lag. Each exchange appends one, and the timer counts them by the hundred, which takes
            half the time. The list is never replaced: a client may keep its `append`.
        stats: The figures of this process; on a worker, since its last report.
        paths: Reads the kernel's figures of this process's connections.
    """

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        self.pending_lags: list[float | None] = []
        self.stats = GeneratorStats()
        self.paths = Paths(lambda: self.stats)
        self._workers: dict[str, GeneratorStats] = {}
        self._checked: set[str] = set()  # the workers whose version was compared
        self._is_stopping = False

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
            self.paths.tick(1 / TICK)
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
        self._is_stopping = False

    def users_stop(self, **_: Any) -> None:
        """Count no more lags: ten thousand users that stop together hold each other up for seconds."""
        self._count_pending()
        self._is_stopping = True

    def processes(self) -> dict[str, GeneratorStats]:
        """Return a copy of the figures of each process, by its name."""
        self._count_pending()
        runner = self._environment.runner
        if not isinstance(runner, MasterRunner):
            return {"Locust": copy.deepcopy(self.stats)}
        by_index = {runner.get_worker_index(client): stats for client, stats in self._workers.items()}
        master = replace(self.stats, is_master=True)
        return copy.deepcopy({f"worker {index}": by_index[index] for index in sorted(by_index)} | {"master": master})

    def processes_since(self, earlier: Mapping[str, GeneratorStats]) -> dict[str, GeneratorStats]:
        """Return what each process has counted since an earlier result of `processes`."""
        return {name: stats.since(earlier.get(name, GeneratorStats())) for name, stats in self.processes().items()}

    def response_time(self) -> float:
        """Return the 95th percentile of all response times of the test, in milliseconds."""
        return percentile(request_times(self._environment.stats), 0.95)

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
        if self._is_stopping:
            self.stats.exchanges += len(self.pending_lags)
        else:
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
