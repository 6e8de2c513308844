"""Sending on a schedule instead of after the last answer.

In a closed loop a user sends its next request when the last one is answered. A service that stalls for
a second then gets one slow request from each user, where people who arrive at their own pace would
have sent many, and all of those would have waited: the percentiles look fine and are wrong. That is
known as coordinated omission (wrk2's README, https://github.com/giltene/wrk2).

On a schedule each request is due at a moment that does not depend on the answers before it. One that
is held up by an answer that is late is sent as soon as it can be, none is skipped, and its response time
counts from the moment when it was due.
"""

import random
import time
from collections.abc import Callable
from typing import Any, Literal

from locust_tcp.user import Slot, TcpUser

Arrivals = Literal["even", "poisson"]


def on_schedule(rate: float, arrivals: Arrivals = "even") -> Callable[[Any], float]:
    """Return a `wait_time` that has each TcpUser do `rate` tasks a second, however late the answers are.

    `arrivals`: `even` for one each 1/rate seconds, `poisson` for random gaps of that mean, as those
    between people who know nothing of one another. The first request of each task is the one whose
    response time counts from its due time.
    """

    def wait_time(user: TcpUser) -> float:
        now = time.perf_counter()
        gap = 1 / rate if arrivals == "even" else random.expovariate(rate)
        user.due = (now if user.due is None else user.due) + gap
        user.slot = Slot(user.due, 1 / rate, held_up=user.due < now)
        return max(0.0, user.due - now)

    return wait_time
