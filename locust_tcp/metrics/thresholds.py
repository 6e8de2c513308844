"""Thresholds of a run, and the exit code that says whether the service kept them.

Only what happens after all users were spawned counts; with a load shape, after the users of its first
step were. A run that breaks a threshold ends with exit code 1, a run that can't be judged with 2. A
run that keeps all of them ends with 0 if Locust has no reason of its own for another exit code.

A percentile is judged by its figure and its evidence (evidence.py):

- broken: the whole confidence interval lies beyond the bound. Chance is no explanation;
- kept: the figure lies within the bound, and the samples are enough for a confidence interval;
- not judged: the samples are too few, or the figure lies beyond the bound by no more than chance
  explains, or the run was not steady: one part of it kept the threshold and the other broke it. The
  figure of both then depends on how long the run was.
"""

import logging
import math
import operator
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import gevent
from locust import log, runners
from locust.env import Environment

from locust_tcp.metrics.evidence import CONFIDENCE, Evidence, samples_needed
from locust_tcp.metrics.generator import SATURATED, GeneratorStats, LoadGenerator, worst_verdict
from locust_tcp.metrics.rounding import three_digits
from locust_tcp.metrics.snapshot import REQUEST_TYPE, Boundary, Interval, Snapshot, StatsCollector

logger = logging.getLogger(__name__)

KEPT, BROKEN, NOT_JUDGED = range(3)  # the exit codes

FAIL_RATIO, RPS, PERCENTILE = "fail_ratio", "rps", "percentile"
OPERATORS = {
    "<": (operator.lt, "below"),
    "<=": (operator.le, "at most"),
    ">": (operator.gt, "above"),
    ">=": (operator.ge, "at least"),
}
NUMBER = r"\d+(?:\.\d+)?"
FORM = re.compile(
    rf"(?:(?P<row>\S.*?)\s+)?(?:p\(?(?P<percent>{NUMBER})\)?|(?P<metric>{FAIL_RATIO}|{RPS}))"
    rf"\s*(?P<operator>[<>]=?)\s*(?P<bound>{NUMBER})"
)
EXAMPLES = "'word p99 < 5', 'fail_ratio < 0.01' or 'rps > 100'"
FIRST_MIDDLE = 1.0  # seconds; a shorter run is not divided
OUT_OF_REACH = 1e9  # requests: more than a run makes


class Finding(NamedTuple):
    """The verdict on one threshold, and a line with figure and bound that gives the reason."""

    code: int
    text: str


class Doubt(NamedTuple):
    """A reason why figures may not be the service's.

    Attributes:
        reason: A sentence.
        times: 1 if it can make response times longer, -1 if shorter, 0 if neither.
        goodput: Likewise, for the goodput.
    """

    reason: str
    times: int
    goodput: int


@dataclass(frozen=True)
class Threshold:
    """A threshold of one figure.

    Attributes:
        metric: One of FAIL_RATIO, RPS and PERCENTILE.
        operator: How the figure compares with the bound, one of OPERATORS.
        bound: A share from 0 to 1, requests per second, or milliseconds.
        fraction: With PERCENTILE which one (0.95: the 95th).
        row: The row of the statistics; empty for all requests.
    """

    metric: str
    operator: str
    bound: float
    fraction: float = 0.0
    row: str = ""

    @classmethod
    def parse(cls, text: str) -> "Threshold":
        """Parse a threshold such as `word p99 < 5`; k6's `p(99)` is accepted too.

        Raises:
            ValueError: The text is none; the message says what one looks like.
        """
        match = FORM.fullmatch(text.strip())
        if not match:
            raise ValueError(f"{text.strip()!r} is not a threshold such as {EXAMPLES}")
        row, bound = match["row"] or "", float(match["bound"])
        if match["metric"]:
            if match["metric"] == FAIL_RATIO and bound > 1:
                raise ValueError(f"{match['bound']!r} is not a share of the requests from 0 to 1")
            return cls(match["metric"], match["operator"], bound, row=row)
        if not 0 < float(match["percent"]) < 100:
            raise ValueError(f"'p{match['percent']}' is not a percentile between p0 and p100")
        if not bound:
            raise ValueError(f"{match['bound']!r} is not a number of milliseconds above 0")
        # p99.9 as Locust has it: 0.999 and not 0.9990000000000001
        return cls(PERCENTILE, match["operator"], bound, round(float(match["percent"]) / 100, 12), row)

    def find(
        self, interval: Interval, loaded: Interval, doubts: Sequence[Doubt] = (), parts: Sequence[Interval] = ()
    ) -> Finding:
        """Judge an interval.

        Args:
            interval: The requests.
            loaded: Those from which the goodput follows: until the users began to stop.
            doubts: Why figures may not be the service's.
            parts: The interval in two parts; none where they are expected to differ.
        """
        if self.row:
            interval, loaded = interval.of_row(self.row), loaded.of_row(self.row)
            parts = [part.of_row(self.row) for part in parts]
        if not interval.requests:
            return Finding(NOT_JUDGED, f"{self._prefix}there were no such requests")
        if interval.failures == interval.requests:
            return Finding(BROKEN, f"{self._prefix}{nothing_succeeded(interval)}")
        if self.metric == PERCENTILE:
            value = interval.percentile(self.fraction)
            found = self._find_percentile(interval)
            has_enough = all(part.response_times.total() >= samples_needed(self.fraction) for part in parts)
            if has_enough and {self._find_percentile(part).code for part in parts} == {KEPT, BROKEN}:
                found = self._find_unsteady(*parts)
        else:
            value = interval.fail_ratio if self.metric == FAIL_RATIO else loaded.goodput
            code = KEPT if self._keeps(value) else BROKEN
            figure = (
                f"{percent(value)} of the requests failed"
                if self.metric == FAIL_RATIO
                else f"goodput was {value:.1f} requests/s"
            )
            found = Finding(code, f"{self._prefix}{figure}, {self._bound}")
        for doubt in doubts:
            pull = {PERCENTILE: doubt.times, RPS: doubt.goodput, FAIL_RATIO: 0}[self.metric]
            if pull * (value - self.bound) > 0:  # the figure lies where that pulls it
                return Finding(NOT_JUDGED, f"{found.text}. {doubt.reason}")
        return found

    def _find_percentile(self, interval: Interval) -> Finding:
        times = interval.response_times
        evidence = Evidence.of(times, self.fraction)
        text = f"{self._name} was {self._time(interval)} ({span(evidence)}), {self._bound}"
        if not self._keeps(evidence.lower if self.operator.startswith("<") else evidence.upper):
            return Finding(BROKEN, text)
        if not evidence.is_enough:
            needed = f"{samples_needed(self.fraction):,} requests with a response time"
            return Finding(NOT_JUDGED, f"{self._name} needs {needed}, there were {evidence.samples:,}")
        if self._keeps(interval.percentile(self.fraction)):
            return Finding(KEPT, text)
        count = evidence.samples_to_tell(times, self.bound)
        advice = "no run would" if count > OUT_OF_REACH else f"some {three_digits(count):,.0f} requests would"
        return Finding(NOT_JUDGED, f"{text}: with {evidence.samples:,} requests that may be chance; {advice} tell")

    def _find_unsteady(self, first: Interval, rest: Interval) -> Finding:
        times = f"{self._time(first)} in the first {first.seconds:.0f} s and {self._time(rest)} in the rest"
        return Finding(NOT_JUDGED, f"{self._name} was {times}, {self._bound}: the run was not steady")

    def _time(self, interval: Interval) -> str:
        return f"{three_digits(interval.percentile(self.fraction)):g} ms"

    @property
    def _name(self) -> str:
        return f"{self._prefix}the {ordinal(100 * self.fraction)} percentile"

    def _keeps(self, value: float) -> bool:
        return bool(OPERATORS[self.operator][0](value, self.bound))

    @property
    def _prefix(self) -> str:
        return f"{self.row}: " if self.row else ""

    @property
    def _bound(self) -> str:
        words = OPERATORS[self.operator][1]
        if self.metric == FAIL_RATIO:
            return f"{words} {percent(self.bound)}"
        return f"{words} {self.bound:.10g}{' ms' * (self.metric == PERCENTILE)}"


def parse_all(text: str) -> tuple[Threshold, ...]:
    """Parse thresholds with commas between them. The comma of a row's name follows no digit.

    Raises:
        ValueError: One of them is none; the message says what one looks like.
    """
    return tuple(Threshold.parse(part) for part in re.split(r"(?<=\d)\s*,", text) if part.strip())


@dataclass(frozen=True)
class Thresholds:
    """The thresholds of a run. The defaults set none.

    Attributes:
        max_fail_ratio: The share of the requests that may fail, from 0 to 1.
        max_p50: The median of the response times in milliseconds; 0 for none.
        max_p95: The 95th percentile, likewise.
        max_p99: The 99th percentile, likewise.
        max_p999: The 99.9th percentile, likewise.
        min_goodput: Successful requests per second; 0 for none.
        others: Any others, such as those of one row.
    """

    max_fail_ratio: float = 1.0
    max_p50: float = 0.0
    max_p95: float = 0.0
    max_p99: float = 0.0
    max_p999: float = 0.0
    min_goodput: float = 0.0
    others: tuple[Threshold, ...] = ()

    @classmethod
    def of(cls, environment: Environment) -> "Thresholds":
        """Return the thresholds that the options set."""
        options = environment.parsed_options
        if not options:
            return cls()
        return cls(
            options.max_fail_ratio,
            options.max_median,
            options.max_percentile,
            options.max_two_nines,
            options.max_three_nines,
            options.min_rps,
            parse_all(options.threshold),
        )

    def all(self) -> list[Threshold]:
        """Return each threshold; those of failures come first."""
        percentiles = ((0.5, self.max_p50), (0.95, self.max_p95), (0.99, self.max_p99), (0.999, self.max_p999))
        found = [Threshold(FAIL_RATIO, "<=", self.max_fail_ratio)] if self.max_fail_ratio < 1 else []
        found += [Threshold(PERCENTILE, "<=", bound, fraction) for fraction, bound in percentiles if bound]
        found += [Threshold(RPS, ">=", self.min_goodput)] if self.min_goodput else []
        return [*found, *self.others]

    def find(
        self,
        interval: Interval,
        loaded: Interval | None = None,
        doubts: Sequence[Doubt] = (),
        parts: Sequence[Interval] = (),
    ) -> list[Finding]:
        """Judge each threshold. Arguments as for `Threshold.find`."""
        thresholds = self.all()
        if thresholds and interval.requests and interval.failures == interval.requests:
            return [Finding(BROKEN, nothing_succeeded(interval))]  # which no other figure can make good
        return [each.find(interval, loaded or interval, doubts, parts) for each in thresholds]

    def broken(self, interval: Interval) -> list[str]:
        """Return a line for each broken threshold, with figure and bound; failures come first."""
        return [finding.text for finding in self.find(interval) if finding.code == BROKEN]

    def allow_failure(self, kind: str, name: str) -> bool:
        """Return whether a threshold says how many requests of a row may fail."""
        rows = ("", name, f"{kind} {name}")
        return any(each.metric == FAIL_RATIO and each.row in rows for each in self.all())


def percent(share: float) -> str:
    """Format a share with three digits, such as 0.5 %. A share above 0 is never shown as 0 %."""
    return f"{100 * share:.3g} %"


def ordinal(number: float) -> str:
    """Format a number as in `the 95th percentile`."""
    text = f"{number:.10g}"
    ending = "th" if text[-2:] in ("11", "12", "13") else {"1": "st", "2": "nd", "3": "rd"}.get(text[-1], "th")
    return text + ending


def span(evidence: Evidence) -> str:
    """Format a confidence interval, such as `4.1 to 4.6 ms with 95 % confidence`."""
    if math.isinf(evidence.upper):
        return f"at least {three_digits(evidence.lower):g} ms with {percent(CONFIDENCE)} confidence"
    return (
        f"{three_digits(evidence.lower):g} to {three_digits(evidence.upper):g} ms with {percent(CONFIDENCE)} confidence"
    )


def nothing_succeeded(interval: Interval) -> str:
    """Return a line about an interval in which each request failed."""
    mostly = f", mostly {text!r}" if (text := next((each for each, _ in interval.errors.most_common(1)), "")) else ""
    return f"none of {interval.requests:,} requests succeeded{mostly}"


def judge(findings: Sequence[Finding]) -> int:
    """Return the exit code of a run: one broken threshold breaks it, also where others can't be judged."""
    codes = {finding.code for finding in findings}
    return BROKEN if BROKEN in codes else max(codes, default=KEPT)


def doubts_about(
    processes: dict[str, GeneratorStats], interval: Interval, *, missing: int, accept_saturation: bool
) -> list[Doubt]:
    """Return why the figures of a run may not be the service's.

    A saturated Locust makes no request fail. It lowers the goodput. It makes those response times longer
    that contain its own delays: of users other than TcpUser, without the kernel's arrival times, and of
    schedules, where a response time starts when the request is due.

    Args:
        processes: What each process has counted.
        interval: The requests of all processes.
        missing: The number of workers that no longer report. Their users are not there.
        accept_saturation: Whether to judge even if Locust is saturated.
    """
    doubts = []
    if missing:
        doubts.append(Doubt(f"{missing} of the workers no longer report, so that not all users were there.", -1, -1))
    verdict = worst_verdict(processes, interval.p95)
    if verdict.level == SATURATED and not accept_saturation:
        users = [stats for stats in processes.values() if stats.users or stats.exchanges]
        is_true = interval.kinds <= {REQUEST_TYPE} and all(stats.by_kernel and not stats.behind for stats in users)
        text = f"{verdict.text} To judge all the same: --accept-saturation."
        doubts.append(Doubt(text, 0 if is_true else 1, -1))
    return doubts


class Judge:
    """Judges the runs of an environment and sets its exit code."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        self._generator = LoadGenerator.of(environment)
        self._has_begun = False  # whether a test was ever started
        self._is_due = False  # whether a test was started and has not been judged
        self._is_quitting = False
        self._exit_code: int | None = None  # that of the last judgement
        self._users = 0  # how many were spawned when the interval began
        self._start: Boundary | None = None  # when all users were spawned
        self._stop: Boundary | None = None  # when they began to stop
        self._middles: list[Boundary] = []  # 1, 2, 4, 8 ... seconds after the start
        self._divider: gevent.Greenlet[..., None] | None = None
        self._processes_at_start: dict[str, GeneratorStats] = {}
        self._missing = 0
        self._spawned = 0  # users, when they began to stop
        self._final: list[Finding] | None = None  # those of the test that was judged last

    def state(self) -> tuple[list[Finding], bool]:
        """Return what the judgement would be now, or was, and whether it is final. Empty without thresholds or test."""
        if self._final is not None:
            return self._final, True
        return (self._findings() if self._is_due and self._thresholds() else []), False

    def reset(self, **_: Any) -> None:
        """Forget the run before: a test starts."""
        self._has_begun = self._is_due = True
        self._start = self._stop = self._final = None
        self._missing = 0
        StatsCollector.of(self._environment).names = self._rows
        if self._exit_code is not None:
            self._environment.process_exit_code = self._exit_code = None

    def all_users_spawned(self, user_count: int, **_: Any) -> None:
        """Start the interval that counts.

        It starts anew when the number of users is edited. It goes on with a load shape, whose users come
        and go, and when workers that come and go share the same users anew.
        """
        environment = self._environment
        is_same = environment.shape_class is not None or user_count == self._users
        if self._start is None or environment.reset_stats or not is_same:
            self._users = user_count
            self._begin(Boundary(environment, self._rows))

    def stats_reset(self, **_: Any) -> None:
        """Start the interval anew."""
        if self._start is not None:
            self._begin(Boundary(self._environment, self._rows, is_reset=True))

    def add_report(self, client_id: str, data: dict[str, Any], **_: Any) -> None:
        """Complete the boundaries of the interval with a worker's report."""
        if self._start and self._start.add_report(client_id, data):
            self._processes_at_start = self._generator.processes()
        for boundary in (*self._middles, *filter(None, [self._stop])):
            boundary.add_report(client_id, data)

    def users_stop(self, **_: Any) -> None:
        """End the interval of the goodput: the users begin to stop."""
        if self._divider:
            self._divider.kill()
        self._stop = Boundary(self._environment, self._rows)
        runner = self._environment.runner
        self._spawned = runner.user_count if runner else 0
        self._missing = len(runner.clients.missing) if isinstance(runner, runners.MasterRunner) else 0

    def test_stopped(self, **_: Any) -> None:
        """Judge a test of the page. The last reports of workers arrive later where Locust itself ends."""
        options = self._environment.parsed_options
        if not self._is_quitting and not (options and options.headless):
            self._judge()

    def quit(self, **_: Any) -> None:
        """Stop a test that still runs, as after a signal, and judge it before Locust takes the exit code."""
        if not self._thresholds():
            return
        runner, options = self._environment.runner, self._environment.parsed_options
        assert options is not None
        self._is_quitting = True
        if self._is_due and runner:
            # A master that stops, and does not quit, may go on to spawn users.
            runner.quit() if isinstance(runner, runners.MasterRunner) else runner.stop()
        elif not self._has_begun and (options.headless or options.autostart):
            self._has_begun = self._is_due = True
        self._judge()

    def _begin(self, start: Boundary) -> None:
        self._start = start
        self._processes_at_start = self._generator.processes()
        if self._divider:
            self._divider.kill()
        self._middles = []
        self._divider = gevent.spawn(self._divide) if self._thresholds() else None

    def _divide(self) -> None:
        """Keep boundaries of which one will be near the middle, whenever the run ends. Never returns."""
        pause = FIRST_MIDDLE
        while True:
            gevent.sleep(pause)
            self._middles.append(Boundary(self._environment, self._rows))
            pause = FIRST_MIDDLE * 2 ** (len(self._middles) - 1)

    @property
    def _rows(self) -> set[str]:
        """The rows that thresholds name."""
        return {each.row for each in Thresholds.of(self._environment).all() if each.row}

    def _thresholds(self) -> list[Threshold]:
        """Return the thresholds to judge by; none with a load shape that judges by itself."""
        if getattr(self._environment.shape_class, "sets_exit_code", False):
            return []
        return Thresholds.of(self._environment).all()

    def _judge(self) -> None:
        """Judge the run, log the result and set the exit code."""
        if not self._is_due or not self._thresholds():
            return
        self._is_due = False
        findings = self._final = self._findings()
        code = judge(findings)
        for level, words in ((KEPT, "kept"), (BROKEN, "broken"), (NOT_JUDGED, "not judged")):
            for finding in findings:
                if finding.code == level:
                    logger.log(logging.ERROR if level else logging.INFO, "Thresholds %s: %s", words, finding.text)
        if code == KEPT:
            self._keep()
        elif not self._environment.process_exit_code:
            self._environment.process_exit_code = self._exit_code = code

    def _findings(self) -> list[Finding]:
        if self._start is None:
            return [Finding(NOT_JUDGED, self._missing_users())]
        options = self._environment.parsed_options
        assert options is not None
        end = Snapshot.of(self._environment.stats, self._rows)
        interval = end.since(self._start.snapshot)
        loaded = (self._stop.snapshot if self._stop else end).since(self._start.snapshot)
        if not interval.requests:
            return [Finding(NOT_JUDGED, "no requests after all users were spawned")]
        doubts = doubts_about(
            self._generator.processes_since(self._processes_at_start),
            interval,
            missing=self._missing,
            accept_saturation=options.accept_saturation,
        )
        return Thresholds.of(self._environment).find(interval, loaded, doubts, self._parts(end))

    def _missing_users(self) -> str:
        runner = self._environment.runner
        wanted = runner.target_user_count if runner else 0
        if not self._stop:
            return f"only {runner.user_count if runner else 0} of {wanted} users have started"
        advice = "Spawn them faster (--spawn-rate), or run longer (--run-time)"
        return f"only {self._spawned} of {wanted} users had started when the run ended. {advice}"

    def _parts(self, end: Snapshot) -> list[Interval]:
        """Return the interval in two parts of about the same length. Those of a load shape differ by intention."""
        if self._start is None or not self._middles or self._environment.shape_class is not None:
            return []
        start = self._start.snapshot
        middle = min(
            (boundary.snapshot for boundary in self._middles), key=lambda each: abs(2 * each.at - start.at - end.at)
        )
        return [middle.since(start), end.since(middle)]

    def _keep(self) -> None:
        """Set the exit code of a run that kept its thresholds, unless Locust has another reason for its own."""
        environment, thresholds = self._environment, Thresholds.of(self._environment)
        assert environment.runner is not None and self._start is not None
        end = self._stop.snapshot.at if self._stop else time.monotonic()
        text = f"kept, in {end - self._start.snapshot.at:.0f} s with all users"
        if before := self._start.snapshot.failures:
            text += f" (before that, {before:,} requests failed)"
        reasons = []
        if environment.runner.exceptions:
            reasons.append("the locustfile raised exceptions")
        errors = environment.stats.errors.values()
        if not all(thresholds.allow_failure(error.method, error.name) for error in errors):
            failed = sum(error.occurrences for error in errors)
            reasons.append(f"{failed:,} requests failed (--max-fail-ratio says how many may)")
        if getattr(log, "unhandled_greenlet_exception", False):  # Locust's main function reads it too
            reasons.append("something outside of the users raised an exception")
        if reasons:
            logger.warning("Thresholds %s; but %s: Locust's own exit code stands", text, " and ".join(reasons))
            return
        logger.info("Thresholds %s", text)
        if environment.process_exit_code is None:
            environment.process_exit_code = self._exit_code = KEPT
