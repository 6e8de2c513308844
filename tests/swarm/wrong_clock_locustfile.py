"""One worker, the first to make the file CLAIM, has a clock that is wrong by CLOCK seconds."""

import contextlib
import os
import time
from pathlib import Path
from typing import Any

from locust import constant, events, task
from locust.env import Environment
from locust.runners import WorkerRunner

from locust_tcp import Connection, TcpUser

real_time = time.time


@events.init.add_listener
def set_clock(environment: Environment, **_: Any) -> None:
    if not isinstance(environment.runner, WorkerRunner):
        return
    with contextlib.suppress(FileExistsError):
        Path(os.environ["CLAIM"]).touch(exist_ok=False)
        time.time = lambda: real_time() + float(os.environ["CLOCK"])
        Connection.kernel_times = False  # the kernel's clock is right


class Visitor(TcpUser):
    """Makes 20 requests a second at most."""

    wait_time = constant(0.05)

    @task
    def word(self) -> None:
        self.client.request("word", name="word", expect="WORD")
