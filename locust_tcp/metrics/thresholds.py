"""Thresholds of a run, and the exit code that says whether the service kept them.

Only requests after all users were spawned count. A run that breaks a threshold ends with exit
code 1, a run that can't be judged with 2, any other run with 0.
"""

import logging
import time
from dataclasses import dataclass
from typing import Any

from locust import runners
from locust.env import Environment

from locust_tcp.metrics.generator import SATURATED, GeneratorStats, LoadGenerator, worst_verdict
from locust_tcp.metrics.rounding import three_digits
from locust_tcp.metrics.snapshot import Interval, Snapshot, StatsCollector

logger = logging.getLogger(__name__)

KEPT, BROKEN, NOT_JUDGED = range(3)  # the exit codes


@dataclass(frozen=True)
class Thresholds:
    """The thresholds of a run. The defaults set none.

    Attributes:
        max_fail_ratio: The share of the requests that may fail, from 0 to 1.
        max_p95: The 95th percentile of the response times in milliseconds; 0 for none.
        min_goodput: Successful requests per second; 0 for none.
    """

    max_fail_ratio: float = 1.0
    max_p95: float = 0.0
    min_goodput: float = 0.0

    @classmethod
    def of(cls, environment: Environment) -> "Thresholds":
        """Return the thresholds that the options set."""
        options = environment.parsed_options
        return cls(options.max_fail_ratio, options.max_percentile, options.min_rps) if options else cls()

    def broken(self, interval: Interval) -> list[str]:
        """Return a line for each broken threshold, with figure and bound; failures come first."""
        lines = []
        if interval.fail_ratio > self.max_fail_ratio:
            lines.append(
                f"{percent(interval.fail_ratio)} of the requests failed, at most {percent(self.max_fail_ratio)}"
            )
        if self.max_p95 and interval.p95 > self.max_p95:
            lines.append(f"the 95th percentile was {three_digits(interval.p95):g} ms, at most {self.max_p95:g} ms")
        if self.min_goodput and interval.goodput < self.min_goodput:
            lines.append(f"goodput was {interval.goodput:.1f} requests/s, at least {self.min_goodput:.10g}")
        return lines


def percent(share: float) -> str:
    """Format a share with three digits, such as 0.5 %. A share above 0 is never shown as 0 %."""
    return f"{100 * share:.3g} %"


def judge(thresholds: Thresholds, interval: Interval | None, saturated: str | None) -> tuple[int, list[str]]:
    """Judge a run.

    A saturated Locust makes a service look slow and its goodput low, but it makes no request fail.

    Args:
        thresholds: The thresholds of the run.
        interval: The requests after all users were spawned; None if not all users were.
        saturated: The verdict on Locust if it was saturated; None if not, or if that is accepted.

    Returns:
        The exit code, and the lines that give the reason.
    """
    if interval is None or not interval.requests:
        return NOT_JUDGED, ["not judged: no requests after all users were spawned"]
    broken = thresholds.broken(interval)
    lines = [f"broken: {line}" for line in broken]
    if interval.fail_ratio > thresholds.max_fail_ratio:
        return BROKEN, lines
    if saturated:
        return NOT_JUDGED, [*lines, f"not judged: {saturated} To judge all the same: --accept-saturation."]
    return (BROKEN, lines) if broken else (KEPT, [f"kept, in {interval.seconds:.0f} s with all users"])


class Judge:
    """Judges the runs of an environment and sets its exit code."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        self._collector = StatsCollector.of(environment)
        self._generator = LoadGenerator.of(environment)
        self._spawned_at: float | None = None  # when all users were spawned
        self._start: Snapshot | None = None  # the first snapshot since then
        self._processes_at_start: dict[str, GeneratorStats] = {}
        self._has_judged = False

    def reset(self, **_: Any) -> None:
        """Forget the run before: a test starts."""
        self._spawned_at = self._start = None
        if self._has_judged:
            self._environment.process_exit_code = None  # it belongs to the run before
            self._has_judged = False

    def all_users_spawned(self, **_: Any) -> None:
        """Start the interval that counts."""
        self._spawned_at = time.monotonic()
        self._start = None
        self.take_start()

    def stats_reset(self, **_: Any) -> None:
        """Start the interval anew."""
        if self._spawned_at is not None:
            self.all_users_spawned()

    def take_start(self, **_: Any) -> None:
        """Take the first snapshot; a master waits until each of its workers has reported since."""
        if self._spawned_at is None or self._start is not None:
            return
        is_master = isinstance(self._environment.runner, runners.MasterRunner)
        if not is_master or self._collector.complete_since > self._spawned_at:
            self._start = self._collector.snapshot()
            self._processes_at_start = self._generator.processes()

    def finish(self, **_: Any) -> None:
        """Judge the run, log the result and set the exit code."""
        environment = self._environment
        thresholds = Thresholds.of(environment)
        if thresholds == Thresholds() or environment.shape_class is not None:  # a shape's users come and go
            return
        end = self._collector.snapshot()
        interval = end.since(self._start) if end and self._start else None
        saturated = None
        if interval and environment.parsed_options and not environment.parsed_options.accept_saturation:
            verdict = worst_verdict(self._generator.processes_since(self._processes_at_start), interval.p95)
            saturated = verdict.text if verdict.level == SATURATED else None
        environment.process_exit_code, lines = judge(thresholds, interval, saturated)
        self._has_judged = True
        for line in lines:
            logger.log(logging.ERROR if environment.process_exit_code else logging.INFO, "Thresholds %s", line)
