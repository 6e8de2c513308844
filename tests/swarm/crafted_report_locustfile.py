"""Workers that report as a kit of another version might. Worker N sends the Nth of REPORTS."""

from collections.abc import Callable
from typing import Any

import locust.runners
from locust import constant, events, task
from locust.env import Environment
from locust.runners import WorkerRunner

from locust_tcp import TcpUser

locust.runners.WORKER_REPORT_INTERVAL = 0.2  # seconds instead of 3, so that there are many reports


def _without_kit(data: dict[str, Any]) -> None:
    del data["generator"], data["kit_version"]


def _with_more_keys(data: dict[str, Any]) -> None:
    data["generator"] |= {"jitter": {1.5: 3}, "retries": 7}
    data["kit_version"] = "99.1"


def _with_fewer_keys(data: dict[str, Any]) -> None:
    del data["generator"]["ticks"], data["generator"]["cpu"], data["generator"]["users"]
    data["kit_version"] = "0.1"


def _with_wrong_types(data: dict[str, Any]) -> None:
    wrong: dict[str, Any] = {"lags": [1, 2], "ticks": {"soon": 1, 2.0: "often"}, "exchanges": "many", "seconds": None}
    data["generator"] |= wrong
    data["kit_version"] = 12


def _as_text(data: dict[str, Any]) -> None:
    data["generator"] = "saturated"
    data["kit_version"] = "2.0"


REPORTS: tuple[Callable[[dict[str, Any]], None], ...] = (
    lambda data: None,
    _without_kit,
    _with_more_keys,
    _with_fewer_keys,
    _with_wrong_types,
    _as_text,
)


@events.init.add_listener
def craft_reports(environment: Environment, **_: Any) -> None:
    """Change each report after the kit has added its part."""
    runner = environment.runner
    if isinstance(runner, WorkerRunner):
        environment.events.report_to_master.add_listener(lambda data, **_: REPORTS[runner.worker_index](data))


class PacedUser(TcpUser):
    """A user with ten requests per second at most."""

    wait_time = constant(0.1)

    @task
    def word(self) -> None:
        self.client.request("hello", name="word", expect="HELLO")
