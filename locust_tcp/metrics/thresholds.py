"""What a service has promised, and whether it kept that: options of every run, and its exit code.

Only what comes after all users are there counts. A run whose promise was broken ends with exit code 1,
one that can't be judged with 2, any other one with 0.
"""

import argparse
import copy
import logging
import time
from dataclasses import dataclass
from typing import Any

from locust import events, runners
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment

from locust_tcp.metrics import generator
from locust_tcp.metrics.generator import SATURATED, Account
from locust_tcp.metrics.rounding import three_digits
from locust_tcp.metrics.snapshot import Meter, Reading, Stretch
from locust_tcp.web.form import number

logger = logging.getLogger(__name__)

KEPT, BROKEN, NOT_JUDGED = range(3)  # the exit codes


@dataclass(frozen=True)
class Promises:
    """What the service has promised. The defaults promise nothing."""

    max_fail_ratio: float = 1.0  # the share of the requests that may fail
    max_p95: float = 0.0  # milliseconds; 0 is none
    min_rps: float = 0.0  # requests per second that do not fail; 0 is none

    @classmethod
    def of(cls, environment: Environment) -> "Promises":
        """Return those that the options make."""
        options = environment.parsed_options
        return cls(options.max_fail_ratio, options.max_percentile, options.min_rps) if options else cls()

    def broken(self, stretch: Stretch) -> list[str]:
        """Return a line for each that was broken, with figure and bound; that on failures is the first."""
        lines = []
        if stretch.fail_ratio > self.max_fail_ratio:
            lines.append(
                f"{percent(stretch.fail_ratio)} of the requests failed, at most {percent(self.max_fail_ratio)}"
            )
        if self.max_p95 and stretch.p95 > self.max_p95:
            lines.append(f"the 95th percentile was {three_digits(stretch.p95):g} ms, at most {self.max_p95:g} ms")
        if self.min_rps and stretch.rate < self.min_rps:
            lines.append(f"{stretch.rate:.1f} good requests/s, at least {self.min_rps:.10g}")
        return lines


def percent(share: float) -> str:
    """Write a share as people do: 0.5 %, and never 0 % for some."""
    return f"{100 * share:.3g} %"


def judge(promises: Promises, stretch: Stretch | None, saturated: str | None) -> tuple[int, list[str]]:
    """Return the exit code and the lines that say why.

    Arguments: `stretch`, what was measured with all users there (None: they never were), and
    `saturated`, what says that Locust itself was at its limit (None: it was not, or it does not
    matter). A saturated Locust makes a service look slow and its rate low, but no requests fail.
    """
    if stretch is None or not stretch.requests:
        return NOT_JUDGED, ["not judged: no requests after all users were there"]
    broken = promises.broken(stretch)
    lines = [f"broken: {line}" for line in broken]
    if stretch.fail_ratio > promises.max_fail_ratio:
        return BROKEN, lines
    if saturated:
        return NOT_JUDGED, [*lines, f"not judged: {saturated} Or accept that: --accept-saturation."]
    return (BROKEN, lines) if broken else (KEPT, [f"kept, in {stretch.seconds:.0f} s with all users there"])


class _Judge:
    """Watches one environment."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        self._meter = Meter(environment)
        self._all_there_at: float | None = None
        self._from: Reading | None = None  # when all users were there
        self._has_judged = False
        self._accounts: dict[str, Account] = {}
        hooks = environment.events
        hooks.test_start.add_listener(self._forget)
        hooks.reset_stats.add_listener(self._reset)
        hooks.worker_report.add_listener(self._begin)
        hooks.spawning_complete.add_listener(self._all_are_there)
        headless = environment.parsed_options and environment.parsed_options.headless
        # At its end, when the last reports of workers are in, a run without a page has its exit code still to come.
        (hooks.quitting if headless else hooks.test_stop).add_listener(self._end)

    def _forget(self, **_: Any) -> None:
        self._all_there_at = self._from = None
        if self._has_judged:
            self._environment.process_exit_code = None  # that was the last test's
            self._has_judged = False

    def _all_are_there(self, **_: Any) -> None:
        self._all_there_at = time.monotonic()
        self._from = None
        self._begin()

    def _reset(self, **_: Any) -> None:
        if self._all_there_at is not None:
            self._all_are_there()

    def _begin(self, **_: Any) -> None:
        """Take the first reading when all users are there; a master when each of its workers has reported since."""
        if self._all_there_at is None or self._from is not None:
            return
        is_master = isinstance(self._environment.runner, runners.MasterRunner)
        if not is_master or self._meter.complete_since > self._all_there_at:
            self._from = self._meter.read()
            self._accounts = copy.deepcopy(generator.accounts(self._environment))

    def _end(self, **_: Any) -> None:
        environment = self._environment
        promises = Promises.of(environment)
        if promises == Promises() or environment.shape_class is not None:  # whose users come and go
            return
        until = self._meter.read()
        stretch = until.since(self._from) if until and self._from else None
        saturated = None
        if stretch and environment.parsed_options and not environment.parsed_options.accept_saturation:
            accounts = generator.accounts(environment)
            since = {name: each.since(self._accounts.get(name, Account())) for name, each in accounts.items()}
            verdict = generator.worst(since, stretch.p95)
            saturated = verdict.text if verdict.level == SATURATED else None
        environment.process_exit_code, lines = judge(promises, stretch, saturated)
        self._has_judged = True
        for line in lines:
            logger.log(logging.ERROR if environment.process_exit_code else logging.INFO, "Promises %s", line)


def share(text: str) -> float:
    """Parse a share of all, from 0 to 1; an argparse type."""
    value = number("requests that may fail", zero=True)(text)
    if value > 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a share from 0 to 1")
    return value


@events.init_command_line_parser.add_listener
def _add_options(parser: LocustArgumentParser) -> None:
    parser.add_argument(
        "--max-fail-ratio",
        type=share,
        default=Promises.max_fail_ratio,
        help="a promise: the share of requests that may fail, such as 0.01; 1: all of them",
    )
    parser.add_argument(
        "--max-p95",
        dest="max_percentile",  # Locust's page would send the value of a max_p95 as max_p9_5
        type=number("milliseconds", zero=True),
        default=Promises.max_p95,
        help="a promise: the 95th percentile of the response times in milliseconds; 0: none",
    )
    parser.add_argument(
        "--min-rps",
        type=number("requests per second", zero=True),
        default=Promises.min_rps,
        help="a promise: requests per second that do not fail; 0: none",
    )
    parser.add_argument(
        "--accept-saturation",
        action="store_true",
        help="judge promises even where Locust itself is the limit",
    )


@events.init.add_listener
def _init(environment: Environment, **_: Any) -> None:
    if not isinstance(environment.runner, runners.WorkerRunner):
        _Judge(environment)
