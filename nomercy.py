"""A load shape that adds users until something breaks, and then narrows down when it does.

Add it to any locustfile: `locust -f locustfile.py,nomercy.py`, with Locust's page or --headless, in
one process or with workers. locust_tcp/metrics/capacity.py chooses the users of each step; this
load shape runs the steps. Each step settles first, and only the rest of it is measured. The
findings are in the log, in the page's Limit tab, and with --csv NAME in NAME_limit.csv and
NAME_limit.html.
"""

import logging
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil
from flask import Response, jsonify, request
from locust import LoadTestShape, events
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment
from locust.runners import STATE_RUNNING, WorkerRunner

from locust_tcp import number
from locust_tcp.metrics.capacity import CapacitySearch, LoadStep, findings, has_result
from locust_tcp.metrics.generator import GeneratorStats, LoadGenerator, is_generator_bound, worst_verdict
from locust_tcp.metrics.snapshot import Snapshot, StatsCollector
from locust_tcp.metrics.thresholds import NOT_JUDGED, Thresholds, percent
from locust_tcp.web import limit_tab

logger = logging.getLogger(__name__)

START_USERS = 5.0
MAX_USERS = 640.0  # enough to break a service that was made for few
STEP_TIME = 8.0  # seconds: a request that times out after five must fail in its own step
SETTLE_TIME = 2.0  # seconds of each step: for connects, and for the queue of the step before
MAX_FAIL_RATIO = 0.01  # the usual threshold of reports
PATIENCE = 10.0  # seconds for users to be spawned; a locustfile may limit their number (fixed_count)
SPAWN_RATE = 100.0  # users per second; Locust warns of higher rates


@events.init_command_line_parser.add_listener
def add_options(parser: LocustArgumentParser) -> None:
    """Add the shape's options to Locust's command line and start form."""
    users = number("users")
    parser.add_argument("--start-users", type=users, default=START_USERS, help="users of no mercy's first step")
    parser.add_argument("--max-users", type=users, default=MAX_USERS, help="the most users that no mercy tries")
    parser.add_argument(
        "--step-time",
        type=number("seconds"),
        default=STEP_TIME,
        help="seconds of each step, counted when its users are spawned",
    )
    parser.add_argument(
        "--settle-time",
        type=number("seconds", zero=True),
        default=SETTLE_TIME,
        help="seconds of these that are not measured, at the start",
    )
    parser.set_defaults(max_fail_ratio=MAX_FAIL_RATIO)


def settling_error(step_time: float, settle_time: float) -> str:
    """Return what is wrong with the times of a step; "" for nothing."""
    if settle_time < step_time:
        return ""
    return f"--settle-time {settle_time:g} must be shorter than --step-time {step_time:g}, whose first part it is"


def cores_busy() -> float:
    """Return how busy all cores were since the last call, in percent; 0 if that is unknown."""
    try:
        return psutil.cpu_percent()
    except OSError:  # it needs a file descriptor, and there may be none left
        return 0.0


class NoMercy(LoadTestShape):
    """The load shape. Locust calls its `tick` every second for the number of users."""

    sets_exit_code = True  # read by thresholds.py: a threshold that is broken at last is no failure here
    collector: StatsCollector
    generator: LoadGenerator
    search = CapacitySearch(1, 1)  # until a test starts

    def reset_time(self) -> None:
        """Start a new search. Called by Locust when a test starts."""
        super().reset_time()
        options = self.options
        self.search = CapacitySearch(int(options.start_users), int(options.max_users))
        self.users = self.search.next_users() or 1
        self.begin_step()

    @property
    def options(self) -> Any:
        """The options of the command line or the start form."""
        assert self.runner is not None
        return self.runner.environment.parsed_options

    def begin_step(self, **_: Any) -> None:
        """Start a step, or start it anew when the statistics are reset."""
        self.begun_at = time.monotonic()
        self.spawned_at: float | None = None  # when all users of the step were spawned
        self.parts: list[Snapshot] = []  # from when the step had settled, one a second; a master has fewer
        self.processes: dict[str, GeneratorStats] = {}  # when the step had settled

    def tick(self) -> tuple[int, float] | None:
        """Return users and spawn rate of the current step, or None at the end. Called by Locust."""
        assert self.runner is not None
        now = time.monotonic()
        if self.spawned_at is None:
            is_late = now - self.begun_at > self.users / SPAWN_RATE + PATIENCE
            if self.runner.state == STATE_RUNNING and (self.runner.user_count == self.users or is_late):
                self.spawned_at = now
        elif snapshot := self.collector.snapshot():
            if not self.parts:
                if snapshot.at - self.spawned_at >= self.options.settle_time:
                    self.parts = [snapshot]
                    self.processes = self.generator.processes()
                    cores_busy()  # the next call measures from here on
            elif snapshot.at > self.parts[-1].at:
                self.parts.append(snapshot)
            if len(self.parts) > 1 and now - self.spawned_at >= self.options.step_time:
                self.end_step()
                following = self.search.next_users()
                if following is None:
                    return None
                self.users = following
                self.begin_step()
        return self.users, SPAWN_RATE

    def end_step(self) -> None:
        """Add the step to the search."""
        assert self.runner is not None
        interval = self.parts[-1].since(self.parts[0])
        processes = self.generator.processes_since(self.processes)
        thresholds = Thresholds.of(self.runner.environment)
        step = LoadStep(
            self.users,
            interval,
            broken=thresholds.broken(interval) if interval.requests else ["there were no requests"],
            verdict=worst_verdict(processes, interval.p95),
            generator_bound=is_generator_bound(processes, interval),
            machine_cpu=cores_busy(),
            rates=tuple(later.since(earlier).goodput for earlier, later in pairwise(self.parts)),
        )
        self.search.steps.append(step)
        logger.info(
            "No mercy: %d user%s, goodput %.0f requests/s, 95th percentile %g ms, %s failures",
            *(step.users, "s" * (step.users != 1), interval.goodput, interval.p95, percent(interval.fail_ratio)),
        )

    def log_findings(self, **_: Any) -> None:
        """Log and write the findings when the test has stopped, even if it was stopped early."""
        if not self.search.steps:
            return
        self.search.is_over = True
        assert self.runner is not None
        # Failures are its purpose. The exit code comes first: nothing that follows may cost it.
        self.runner.environment.process_exit_code = 0 if has_result(self.search) else NOT_JUDGED
        for finding in findings(self.search):
            logger.info("No mercy: %s", finding)
        prefix = self.options.csv_prefix
        for name, text in ((".csv", limit_tab.csv), (".html", limit_tab.report)) if prefix else ():
            try:
                Path(f"{prefix}_limit{name}").write_bytes(text(self.search).encode(errors="backslashreplace"))
            except OSError as error:  # a disk that is full
                logger.error("No mercy: can't write %s_limit%s: %s", prefix, name, error.strerror)


def refuse_long_settling(environment: Environment) -> None:
    """Refuse a settle time that is no shorter than the step, on the command line and in the start form."""
    options: Any = environment.parsed_options
    if error := settling_error(options.step_time, options.settle_time):
        sys.exit(f"locust: error: {error}")
    if environment.web_ui is None or environment.web_ui.app is None:
        return

    @environment.web_ui.app.before_request
    def check() -> Response | None:
        fields = request.form
        if request.method != "POST" or not {"step_time", "settle_time"} <= fields.keys():
            return None
        error = settling_error(float(fields["step_time"]), float(fields["settle_time"]))
        return jsonify({"success": False, "message": error, "host": environment.host}) if error else None


@events.init.add_listener
def init(environment: Environment, **_: Any) -> None:
    """Prepare the shape and its tab."""
    shape = environment.shape_class
    if isinstance(environment.runner, WorkerRunner) or not isinstance(shape, NoMercy):
        return
    shape.collector = StatsCollector.of(environment)
    shape.generator = LoadGenerator.of(environment)
    refuse_long_settling(environment)
    environment.events.test_stop.add_listener(shape.log_findings)
    environment.events.reset_stats.add_listener(shape.begin_step)
    limit_tab.add(environment, lambda: shape.search)
