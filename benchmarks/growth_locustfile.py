"""The swarm of growth.py and scale.py: requests of one size under so many names, over several addresses."""

import itertools
import os

from locust import constant, task
from locust.env import Environment

from locust_tcp import TcpUser, on_schedule

SIZE = int(os.environ.get("SIZE", "12"))
NAMES = [f"name {number}" for number in range(int(os.environ.get("NAMES", "1")))]
RATE = float(os.environ.get("RATE", "0"))
HOSTS = os.environ.get("HOSTS", "tcp://127.0.0.1:59898").split(",")
LINE, REPLY = "a" * (SIZE - 1), "A" * (SIZE - 1)

names = itertools.cycle(NAMES)
hosts = itertools.cycle(HOSTS)


class GrowthUser(TcpUser):
    """Sends lines of SIZE bytes, with the next of NAMES each time, RATE of them a second or as fast as it can."""

    host = HOSTS[0]
    wait_time = on_schedule(RATE) if RATE else constant(0)
    source_addresses = tuple(filter(None, os.environ.get("SOURCES", "").split(",")))
    timeout = connect_timeout = 60.0  # a busy machine is no failure here
    max_reply = SIZE + 1

    def __init__(self, environment: Environment) -> None:
        self.host = environment.host or next(hosts)
        super().__init__(environment)

    @task
    def word(self) -> None:
        self.client.request(LINE, name=next(names), expect=REPLY)
