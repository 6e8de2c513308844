"""The kit's locustfile. If NO_ARRIVAL_TIMES is set, the kernel's arrival times are switched off.

At the end it prints how many exchanges had no arrival time.
"""

import os
from typing import Any

from locust import events
from locust.env import Environment

from locust_tcp import Connection
from locust_tcp.metrics.generator import LoadGenerator
from locustfile import CapitalizationUser

__all__ = ["CapitalizationUser"]

if os.environ.get("NO_ARRIVAL_TIMES"):
    Connection.kernel_times = False


@events.quitting.add_listener
def print_counts(environment: Environment, **_: Any) -> None:
    """Print both counts."""
    for stats in LoadGenerator.of(environment).processes().values():
        print(f"without arrival time: {stats.fallbacks} of {stats.exchanges}")
