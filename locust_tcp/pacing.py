"""Sending on a schedule instead of after the last reply.

In a closed loop a user sends its next request when the last one is answered. A service that stalls
for a second then gets one slow request from each user. People who arrive at their own pace would
have sent many, and all of those would have waited: the percentiles look fine and are wrong. That is
known as coordinated omission (wrk2's README, https://github.com/giltene/wrk2).

On a schedule each request is due at a time that does not depend on the replies before it. A request
that a late reply delays is sent as soon as possible, none is skipped, and its response time counts
from its due time.

Users are often spawned together. So that they do not send together, the schedule of each starts at
another point of its gap.
"""

import random
import time
from collections.abc import Callable
from typing import Any, Literal

from locust_tcp.client import ScheduledSend
from locust_tcp.user import TcpUser

Arrivals = Literal["even", "poisson"]

# Multiples of the golden ratio, without their whole parts, fill an interval as evenly as any sequence
# whose length is not known beforehand (Knuth, The Art of Computer Programming, 6.4, theorem S).
# Independent random numbers would leave gaps: 100 of them miss 13 % of 50 slots.
GOLDEN_RATIO = (5**0.5 - 1) / 2


def on_schedule(rate: float, arrivals: Arrivals = "even") -> Callable[[Any], float]:
    """Return a `wait_time` for a TcpUser: `rate` tasks a second, however late the replies are.

    The response time of each task's first request counts from its due time. The first task is due
    at a random time within the first gap. A user's on_start comes before that.

    Args:
        rate: Tasks per second of each user.
        arrivals: `even` for one task each 1/rate seconds; `poisson` for random gaps of that mean,
            as between people who arrive independently.
    """

    phase = random.random()  # of the latest user that began, as a share of the gap

    def wait_time(user: TcpUser) -> float:
        nonlocal phase
        now = time.perf_counter()
        if arrivals == "poisson":
            user.due = (user.due or now) + random.expovariate(rate)
        elif user.due is not None:
            user.due += 1 / rate
        else:
            phase = (phase + GOLDEN_RATIO) % 1
            user.due = now + (phase / rate - now) % (1 / rate)
        user.scheduled_send = ScheduledSend(user.due, 1 / rate, overdue=user.due < now)
        return max(0.0, user.due - now)

    wait_time.is_schedule = True  # type: ignore[attr-defined]  # patches/task_set.py waits before the first task too
    return wait_time
