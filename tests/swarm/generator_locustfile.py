"""The locustfile of the kit, with the kernel's arrival times switched off where NO_ARRIVAL_TIMES is set."""

import os

from locust_tcp import Connection
from locustfile import CapitalizationUser

__all__ = ["CapitalizationUser"]

if os.environ.get("NO_ARRIVAL_TIMES"):
    Connection.kernel_times = False
