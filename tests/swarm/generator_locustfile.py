"""The kit's locustfile. If NO_ARRIVAL_TIMES is set, the kernel's arrival times are switched off.

If SATURATED is set, each request takes Locust's core for a while, and a few of them fill it. At the
end it prints how many exchanges had no arrival time.
"""

import os
import time
from typing import Any

from locust import events
from locust.env import Environment

from locust_tcp import Connection
from locust_tcp.metrics.generator import LoadGenerator
from locustfile import CapitalizationUser

__all__ = ["CapitalizationUser"]

if os.environ.get("NO_ARRIVAL_TIMES"):
    Connection.kernel_times = False

BUSY = 0.0005  # seconds: more than any server takes for a line

if os.environ.get("SATURATED"):

    @events.request.add_listener
    def take_the_core(**_: Any) -> None:
        """Compute for a while."""
        end = time.perf_counter() + BUSY
        while time.perf_counter() < end:
            pass


@events.quitting.add_listener
def print_counts(environment: Environment, **_: Any) -> None:
    """Print both counts."""
    for stats in LoadGenerator.of(environment).processes().values():
        print(f"without arrival time: {stats.fallbacks} of {stats.exchanges}")
