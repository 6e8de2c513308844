"""One user class per kind of peer; each user makes a few requests and every event is written down.

The environment says where the peers are (PEERS, JSON: name to host) and where to write (EVENTS).
"""

import json
import os
import time
from pathlib import Path
from typing import Any

import gevent
from locust import constant, events, task
from locust.exception import StopUser

from locust_tcp import Connection, TcpUser

REQUESTS = 3  # of each user
LAG = 0.2  # seconds for which `lagging` keeps all of Locust busy while its reply is there


def after_lag(connection: Connection) -> bytes:
    end = time.perf_counter() + LAG
    while time.perf_counter() < end:
        pass
    return connection.read_until()


OPTIONS: dict[str, dict[str, Any]] = {
    "predicate": {"expect": lambda reply: reply == "HELLO"},
    "predicate fails": {"expect": lambda reply: reply == "BYE"},
    "two lines": {"read": lambda connection: connection.read_until() + connection.read_until(), "expect": b"HEL\nLO\n"},
    "length prefix": {"read": lambda connection: connection.read_exactly(connection.read_exactly(1)[0])},
    "huge length": {"read": lambda connection: connection.read_exactly(4 * 1024**3)},
    "no sense": {"read": lambda connection: str(int(connection.read_until()))},
    "lagging": {"read": after_lag},
    "our mistake": {"expect": lambda reply: 1 / 0},
}
hosts = json.loads(os.environ["PEERS"])
written = Path(os.environ["EVENTS"]).open("w")  # noqa: SIM115 - for as long as the process lives
unfinished = set(hosts) - {"stopped"}


def user_class(name: str, host_: str) -> type[TcpUser]:
    class PeerUser(TcpUser):
        host = host_
        fixed_count = 1
        wait_time = constant(0.01)
        timeout = 0.4 if name in ("mute", "dripping", "late") else 60.0
        connect_timeout = 0.4 if name == "full" else 60.0
        max_reply = 1000
        done = 0

        def context(self) -> dict[str, Any]:
            return {"peer": name}

        @task
        def ask(self) -> None:
            try:
                self.client.request("hello", name=name, **OPTIONS.get(name, {"expect": "HELLO"}))
            finally:
                self.done += 1
                if self.done == REQUESTS:
                    unfinished.discard(name)
                    if not unfinished:
                        gevent.spawn(self.environment.runner.quit)  # it stops this user too
                    raise StopUser

    return type(name.title().replace(" ", "") + "User", (PeerUser,), {})


for name, host in hosts.items():
    globals()[name] = user_class(name, host)


@events.request.add_listener
def write(
    request_type: str, name: str, response_time: float, response_length: int, response: Any, exception: Any, **kw: Any
) -> None:
    assert request_type == "TCP"
    line = {
        "peer": kw["context"]["peer"],
        "name": name,
        "milliseconds": response_time,
        "bytes": response_length,
        "response": str(response),
        "failure": exception and repr(exception),
    }
    print(json.dumps(line), file=written, flush=True)
