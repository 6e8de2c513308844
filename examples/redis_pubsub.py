"""Redis's publish and subscribe: how long does a message take from its publisher to each subscriber?

Each message carries the time when it was published. Where publishers and subscribers run on two
machines, the clocks of both have to agree.

Start a server:  redis-server --save ''
Start the swarm: env/bin/locust -f examples/redis_pubsub.py
"""

import time

from locust import constant, task

from locust_tcp import Connection, TcpUser

HOST = "tcp://localhost:6379"
CHANNEL = "locust"


def string(connection: Connection) -> bytes:
    """Read a string, which its length precedes, or a number."""
    line = connection.read_until()
    return connection.read_exactly(int(line[1:]) + 2)[:-2] if line.startswith(b"$") else line[1:-2]


def message(connection: Connection) -> list[bytes]:
    """Read an array of strings, such as b"message", the channel and the text."""
    return [string(connection) for _ in range(int(connection.read_until()[1:]))]


def published(strings: list[bytes]) -> float:
    """Return when a message was published, in seconds since the epoch."""
    return float(strings[2])


class Subscriber(TcpUser):
    host = HOST
    eol = b"\r\n"  # Redis takes a command as a line, too
    pushes = True  # messages come unasked

    def on_connect(self) -> None:
        confirmed = [b"subscribe", CHANNEL.encode(), b"1"]
        self.client.request(f"SUBSCRIBE {CHANNEL}", name="SUBSCRIBE", read=message, expect=confirmed)

    @task
    def receive(self) -> None:
        # A channel may be silent: that is no failure.
        self.client.receive(name="message", read=message, since=published, required=False)


class Publisher(TcpUser):
    host = HOST
    eol = b"\r\n"
    fixed_count = 2  # users; all others are subscribers
    wait_time = constant(0.1)

    @task
    def publish(self) -> None:
        # The reply is the number of subscribers that get the message, for example ":18".
        self.client.request(f"PUBLISH {CHANNEL} {time.time()}", name="PUBLISH", expect=lambda line: line[0] == ":")
