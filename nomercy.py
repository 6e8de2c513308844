"""More and more users, until something breaks; then less of them, until it is known when.

Add it to any locustfile: `locust -f locustfile.py,nomercy.py`, with Locust's page or --headless, in one
process or with workers. How many users to try, and what that comes to, is in locust_tcp/metrics/capacity.py; this
is the load shape that tries them. Each step is left to settle, and only the rest of it is measured. The
findings are in the log, in the page's Limit tab, and with --csv NAME in NAME_limit.csv and NAME_limit.html.
"""

import copy
import logging
import time
from pathlib import Path
from typing import Any

import psutil
from locust import LoadTestShape, events
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment
from locust.runners import STATE_RUNNING, WorkerRunner

from locust_tcp import number
from locust_tcp.metrics import capacity as limit
from locust_tcp.metrics import generator
from locust_tcp.metrics.generator import Account
from locust_tcp.metrics.snapshot import Meter, Reading
from locust_tcp.metrics.thresholds import NOT_JUDGED, Promises, percent
from locust_tcp.web import tabs as page

logger = logging.getLogger(__name__)

START_USERS = 5.0
MAX_USERS = 640.0  # some of which a service made for few will not like
STEP_TIME = 8.0  # seconds: a request that times out after five must fail in its own step
SETTLE_TIME = 2.0  # seconds of each step: connects, and the queue that the step before has left
MAX_FAIL_RATIO = 0.01  # what most reports ask for
PATIENCE = 10.0  # seconds for users to be there; a locustfile may have fewer than asked for (fixed_count)
SPAWN_RATE = 100.0  # users per second; Locust warns of more


@events.init_command_line_parser.add_listener
def add_options(parser: LocustArgumentParser) -> None:
    """Add the shape's options to Locust's command line and start form."""
    users = number("users")
    parser.add_argument("--start-users", type=users, default=START_USERS, help="users of no mercy's first step")
    parser.add_argument("--max-users", type=users, default=MAX_USERS, help="the most users that no mercy tries")
    parser.add_argument(
        "--step-time", type=number("seconds"), default=STEP_TIME, help="seconds of each step when its users are there"
    )
    parser.add_argument(
        "--settle-time",
        type=number("seconds", zero=True),
        default=SETTLE_TIME,
        help="seconds of these that are not measured",
    )
    parser.set_defaults(max_fail_ratio=MAX_FAIL_RATIO)


def cores_busy() -> float:
    """Return how busy all cores were since the last call, in percent; 0 where the system can't be asked."""
    try:
        return psutil.cpu_percent()
    except OSError:  # out of file descriptors, which it takes
        return 0.0


class NoMercy(LoadTestShape):
    """The shape: Locust asks its `tick` every second how many users there are to be."""

    meter: Meter
    search = limit.Search(1, 1)  # of no test yet

    def reset_time(self) -> None:
        """Begin again; called by Locust when a test starts."""
        super().reset_time()
        options = self.options
        self.search = limit.Search(int(options.start_users), int(options.max_users))
        self.users = self.search.next_users() or 1
        self.begin_step()

    @property
    def options(self) -> Any:
        """The options of the command line or the start form."""
        assert self.runner is not None
        return self.runner.environment.parsed_options

    def begin_step(self, **_: Any) -> None:
        """Nobody of the step's users is there yet, and nothing is measured. Also when the statistics are reset."""
        self.begun_at = time.monotonic()
        self.all_there_at: float | None = None
        self.settled: Reading | None = None
        self.accounts: dict[str, Account] = {}

    def tick(self) -> tuple[int, float] | None:
        """Return users and spawn rate of the current step, or None at the end. Called by Locust."""
        assert self.runner is not None
        now = time.monotonic()
        if self.all_there_at is None:
            is_late = now - self.begun_at > self.users / SPAWN_RATE + PATIENCE
            if self.runner.state == STATE_RUNNING and (self.runner.user_count == self.users or is_late):
                self.all_there_at = now
        elif self.settled is None:
            reading = self.meter.read()
            if reading and reading.at - self.all_there_at >= self.options.settle_time:
                self.settled = reading
                self.accounts = copy.deepcopy(generator.accounts(self.runner.environment))
                cores_busy()  # the next call tells what was used since this one
        elif now - self.all_there_at >= self.options.step_time and self.end_step(self.settled):
            following = self.search.next_users()
            if following is None:
                return None
            self.users = following
            self.begin_step()
        return self.users, SPAWN_RATE

    def end_step(self, settled: Reading) -> bool:
        """Add what the step came to; return False where that is still to come."""
        assert self.runner is not None
        environment = self.runner.environment
        reading = self.meter.read()
        if reading is None or reading.at <= settled.at:
            return False
        stretch = reading.since(settled)
        accounts = generator.accounts(environment)
        since = {name: each.since(self.accounts.get(name, Account())) for name, each in accounts.items()}
        broken = Promises.of(environment).broken(stretch) if stretch.requests else ["nobody was answered"]
        load = generator.worst(since, stretch.p95)
        held_back = generator.holds_back(since, stretch)
        step = limit.Step(self.users, stretch, broken, load, held_back, cores_busy())
        self.search.steps.append(step)
        logger.info(
            "No mercy: %d users, %.0f good requests/s, 95th percentile %g ms, %s failures",
            *(step.users, stretch.rate, stretch.p95, percent(stretch.fail_ratio)),
        )
        return True

    def tell(self, **_: Any) -> None:
        """Say what was found out, when the test has stopped; if early, what there is of it."""
        if not self.search.steps:
            return
        self.search.is_over = True
        for finding in limit.findings(self.search):
            logger.info("No mercy: %s", finding)
        prefix = self.options.csv_prefix
        if prefix:
            rows = page.csv_text(limit.COLUMNS, limit.csv_table(self.search))
            Path(f"{prefix}_limit.csv").write_text(rows, encoding="utf-8", newline="")
            Path(f"{prefix}_limit.html").write_text(limit.report(self.search), encoding="utf-8")
        found = any(step.stretch.requests for step in self.search.steps)
        assert self.runner is not None
        self.runner.environment.process_exit_code = 0 if found else NOT_JUDGED  # failing is what it is for


@events.init.add_listener
def init(environment: Environment, **_: Any) -> None:
    """Prepare the shape and its tab."""
    shape = environment.shape_class
    if isinstance(environment.runner, WorkerRunner) or not isinstance(shape, NoMercy):
        return
    shape.meter = Meter(environment)
    environment.events.test_stop.add_listener(shape.tell)
    environment.events.reset_stats.add_listener(shape.begin_step)
    page.add_tab(
        environment,
        "limit",
        "Limit",
        limit.COLUMNS,
        table=lambda: limit.table(shape.search),
        csv_table=lambda: limit.csv_table(shape.search),
        pictures=lambda: limit.pictures(shape.search),
    )
