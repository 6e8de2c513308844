"""Users of hostile services, one class for each. The environment says where they listen (SERVICES, JSON)."""

import json
import os

from locust import constant, task

from locust_tcp import TcpUser

LARGE = "x" * 20_000_000  # more than the kernel takes of a request that is not read


def user_class(kind: str, address: str) -> type[TcpUser]:
    """Return the class of the users of one service."""

    class Visitor(TcpUser):
        host = address
        wait_time = constant(0.01)
        timeout = 0.3
        max_reply = 10_000

        @task
        def ask(self) -> None:
            self.client.request(LARGE if kind == "deaf" else "word", name=kind, expect="WORD")

    return type(kind.title(), (Visitor,), {})


for name, host in json.loads(os.environ["SERVICES"]).items():
    globals()[name.title()] = user_class(name, host)
