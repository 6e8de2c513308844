"""Sending on a schedule instead of after the last reply.

In a closed loop a user sends its next request when the last one is answered. A service that stalls
for a second then gets one slow request from each user. People who arrive at their own pace would
have sent many, and all of those would have waited: the percentiles look fine and are wrong. That is
known as coordinated omission (wrk2's README, https://github.com/giltene/wrk2).

On a schedule each request is due at a time that does not depend on the replies before it. A request
that a late reply delays is sent as soon as possible, none is skipped, and its response time counts
from its due time.
"""

import random
import time
from collections.abc import Callable
from typing import Any, Literal

from locust_tcp.client import ScheduledSend
from locust_tcp.user import TcpUser

Arrivals = Literal["even", "poisson"]


def on_schedule(rate: float, arrivals: Arrivals = "even") -> Callable[[Any], float]:
    """Return a `wait_time` for a TcpUser: `rate` tasks a second, however late the replies are.

    The response time of each task's first request counts from its due time.

    Args:
        rate: Tasks per second of each user.
        arrivals: `even` for one task each 1/rate seconds; `poisson` for random gaps of that mean,
            as between people who arrive independently.
    """

    def wait_time(user: TcpUser) -> float:
        now = time.perf_counter()
        gap = 1 / rate if arrivals == "even" else random.expovariate(rate)
        user.due = (now if user.due is None else user.due) + gap
        user.scheduled_send = ScheduledSend(user.due, 1 / rate, overdue=user.due < now)
        return max(0.0, user.due - now)

    return wait_time
