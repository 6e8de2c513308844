"""How a test has gone so far: a sample every few seconds, kept where the page can ask for it again."""

import logging
import time
from dataclasses import dataclass
from typing import Any

import gevent
from locust.env import Environment
from locust.runners import STATE_RUNNING, STATE_SPAWNING

from locust_tcp.metrics.environment import PerEnvironment
from locust_tcp.metrics.generator import GeneratorStats, LoadGenerator, worst_verdict
from locust_tcp.metrics.rounding import three_digits
from locust_tcp.metrics.snapshot import Snapshot, StatsCollector

logger = logging.getLogger(__name__)

PROGRESS = 5.0, 20.0  # seconds until the first line of progress of a headless run, and between two of them
PERIOD = 2.0  # seconds between two samples at first: short tests have a picture, too
MOST = 240  # samples; beyond that every second one is dropped, and the period doubles: a day fits


@dataclass(frozen=True)
class Sample:
    """The figures of one period.

    Attributes:
        at: Seconds since the test began, at the end of the period.
        users: The number of users.
        rate: Requests per second.
        p50: The median of the response times in milliseconds; 0 without requests.
        p95: The 95th percentile of the response times in milliseconds; 0 without requests.
        lag: The 95th percentile of the lag in milliseconds, of the process where it is longest.
        cpu: Percent of a core that each process has used, by its name.
    """

    at: float
    users: int
    rate: float
    p50: float
    p95: float
    lag: float
    cpu: dict[str, float]


class History(PerEnvironment):
    """Takes a sample of the running test every few seconds.

    Attributes:
        samples: The samples of the test so far, in the order of time.
    """

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        self.samples: list[Sample] = []
        self._collector = StatsCollector.of(environment)
        self._generator = LoadGenerator.of(environment)
        self.reset()

    def reset(self, **_: Any) -> None:
        """Forget all samples: a test starts, or the statistics were reset."""
        self.samples.clear()
        self._period = PERIOD
        self._began = time.monotonic()
        self._last: Snapshot | None = None
        self._processes: dict[str, GeneratorStats] = {}
        self._next_line = PROGRESS[0]

    def run(self) -> None:
        """Take samples while a test runs. Never returns."""
        while True:
            gevent.sleep(self._period)
            runner = self._environment.runner
            if runner is not None and runner.state in (STATE_SPAWNING, STATE_RUNNING):
                self._observe(runner.user_count)
                self._log_progress()

    def _log_progress(self) -> None:
        """Log how the test goes, a few times a minute, where there is no page that shows it."""
        options: Any = self._environment.parsed_options
        if not self.samples or not options or not options.headless or options.only_summary:
            return
        last = self.samples[-1]
        if last.at >= self._next_line:
            self._next_line = last.at + PROGRESS[1]
            verdict = worst_verdict(self._generator.processes(), self._generator.response_time())
            times = f"p95 {three_digits(last.p95):g} ms, lag p95 {three_digits(last.lag):g} ms"
            logger.info("Progress: %d users, %.0f requests/s, %s. %s.", last.users, last.rate, times, verdict.headline)

    def _observe(self, users: int) -> None:
        snapshot, processes = self._collector.snapshot(), self._generator.processes()
        last, self._last = self._last, snapshot
        if snapshot is None or last is None or snapshot.at <= last.at:  # a master waits for its workers' reports
            return
        interval = snapshot.since(last)
        since = [stats.since(self._processes.get(name, GeneratorStats())) for name, stats in processes.items()]
        cpu = {name: stats.cpu_percent for name, stats in zip(processes, since, strict=True)}
        lag = max((stats.lag(0.95) for stats in since if stats.users), default=0.0)
        rate = interval.requests / interval.seconds
        at = time.monotonic() - self._began
        self.samples.append(Sample(at, users, rate, interval.percentile(0.5), interval.p95, lag, cpu))
        self._processes = processes
        if len(self.samples) > MOST:
            del self.samples[::2]
            self._period *= 2
