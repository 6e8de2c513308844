"""More and more users, until something breaks.

Add it to any locustfile: `locust -f locustfile.py,nomercy.py`. It doubles the number of users step by
step, lets each step settle, measures the rest of it, and ends the test when more than 1 % of a step's
requests fail or the most users are reached. What it found is in the log, step by step.
"""

import logging
import time
from collections.abc import Mapping
from typing import Any

from locust import LoadTestShape, events
from locust.argument_parser import LocustArgumentParser
from locust.stats import calculate_response_time_percentile, diff_response_time_dicts

from locust_tcp import number

logger = logging.getLogger(__name__)

MAX_FAIL_RATIO = 0.01  # "under 1 % failures" is what most reports ask for
SETTLE = 0.4  # share of a step that is not measured: connecting, and the queue of the step before


@events.init_command_line_parser.add_listener
def add_options(parser: LocustArgumentParser) -> None:
    """Add the shape's options to Locust's command line and start form."""
    users = number("users")
    parser.add_argument("--start-users", type=users, default=10.0, help="users of no mercy's first step")
    parser.add_argument("--max-users", type=users, default=640.0, help="where no mercy ends by itself")
    parser.add_argument("--step-time", type=number("seconds"), default=10.0, help="length of each of its steps")


class NoMercy(LoadTestShape):
    """The shape: Locust asks its `tick` every second how many users there are to be."""

    def reset_time(self) -> None:
        """Begin again; called by Locust when a test starts."""
        super().reset_time()
        self.users = 0
        self.step_begun = 0.0
        self.settled: tuple[float, int, int, Mapping[int, int]] | None = None
        self.best: tuple[float, int] | None = None

    def tick(self) -> tuple[int, float] | None:
        """Return users and spawn rate of the current step, or None at the end. Called by Locust."""
        assert self.runner is not None
        options: Any = self.runner.environment.parsed_options
        now = time.monotonic()
        in_step = now - self.step_begun
        if not self.users or in_step >= options.step_time:
            if self.users and not self._step_was_good():
                self._tell(f"failures began at {self.users} users")
                return None
            if self.users >= options.max_users:
                self._tell(f"nothing broke up to {self.users} users")
                return None
            self.users = min(2 * self.users or int(options.start_users), int(options.max_users))
            self.step_begun, self.settled = now, None
        elif self.settled is None and in_step >= SETTLE * options.step_time:
            self.settled = self._measured()
        return self.users, max(self.users, 1)

    def _measured(self) -> tuple[float, int, int, Mapping[int, int]]:
        assert self.runner is not None
        total = self.runner.stats.total
        return time.monotonic(), total.num_requests, total.num_failures, dict(total.response_times)

    def _step_was_good(self) -> bool:
        """Log what the settled part of a step came to; return whether it kept to the failures allowed."""
        if self.settled is None:
            logger.warning("No mercy: the step is too short to be measured; use a longer --step-time")
            return False
        then, requests, failures, times = self.settled
        now, all_requests, all_failures, all_times = self._measured()
        count, failed = all_requests - requests, all_failures - failures
        rate = (count - failed) / (now - then)
        ratio = failed / count if count else 1.0
        p95 = calculate_response_time_percentile(diff_response_time_dicts(dict(all_times), dict(times)), count, 0.95)
        logger.info(
            "No mercy: %d users, %.0f good requests/s, 95th percentile %g ms, %.2f %% failures",
            *(self.users, rate, p95, 100 * ratio),
        )
        good = ratio <= MAX_FAIL_RATIO
        if good and (self.best is None or rate > self.best[0]):
            self.best = (rate, self.users)
        return good

    def _tell(self, how: str) -> None:
        best = "no step kept failures to 1 %"
        if self.best:
            best = (
                f"the highest rate with at most 1 % failures was {self.best[0]:.0f} requests/s at {self.best[1]} users"
            )
        logger.info("No mercy: %s; %s", how, best)
