"""Redis: a login on each new connection, SET and GET with their replies checked, and a pipeline.

Start a server:  redis-server --requirepass secret --save ''
Start the swarm: env/bin/locust -f examples/redis_commands.py
"""

import os
import random
from typing import Any

from locust import constant, task

from locust_tcp import Connection, ServiceError, TcpUser

PASSWORD = os.environ.get("REDIS_PASSWORD", "secret")
DATABASE = os.environ.get("REDIS_DATABASE", "9")


def command(*words: str) -> bytes:
    """Return a command in Redis's format: an array of strings, each with its length in bytes."""
    strings = [b"$%d\r\n%b\r\n" % (len(word), word) for word in map(str.encode, words)]
    return b"*%d\r\n" % len(strings) + b"".join(strings)


def reply(connection: Connection) -> Any:
    """Read one reply: text, a number as text, a string (None for nil) or an array."""
    line = connection.read_until(b"\r\n")
    kind, text = line[:1], line[1:-2]
    if kind == b"-":  # an error: its code, such as WRONGPASS, and a sentence
        raise ServiceError(text.split()[0].decode())
    if kind == b"$":
        return None if text == b"-1" else connection.read_exactly(int(text) + 2)[:-2]
    return [reply(connection) for _ in range(int(text))] if kind == b"*" else text


class RedisUser(TcpUser):
    host = "tcp://localhost:6379"
    wait_time = constant(0.1)

    def on_connect(self) -> None:
        self.client.request(command("AUTH", PASSWORD), name="AUTH", read=reply, expect=b"OK")
        self.client.request(command("SELECT", DATABASE), name="SELECT", read=reply, expect=b"OK")

    @task(3)
    def set_and_get(self) -> None:
        number = random.randrange(1000)
        key, value = f"locust:{number}", f"value {number}"
        if self.client.request(command("SET", key, value), name="SET", read=reply, expect=b"OK"):
            self.client.request(command("GET", key), name="GET", read=reply, expect=value.encode())

    @task
    def count(self) -> None:
        # Ten commands in one packet. Each of the ten replies is an event of its own.
        commands = [command("INCR", "locust:count")] * 10
        self.client.pipeline(commands, name="INCR", read=reply, expect=bytes.isdigit)
