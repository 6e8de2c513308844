"""memcached: set and get in its text protocol, with their replies checked.

Start a server:  memcached
Start the swarm: env/bin/locust -f examples/memcached.py
"""

import random

from locust import constant, task

from locust_tcp import Connection, TcpUser


def value(connection: Connection) -> str:
    """Read the reply to a get: the key's value, or "" where the server has none."""
    line = connection.read_until()
    if line == b"END\r\n":
        return ""
    _, _, _, length = line.split()  # VALUE, key, flags, length; any other line raises: a wrong reply
    return connection.read_exactly(int(length) + len("\r\nEND\r\n")).decode().removesuffix("\r\nEND\r\n")


class MemcachedUser(TcpUser):
    host = "tcp://localhost:11211"
    eol = b"\r\n"
    wait_time = constant(0.1)

    @task
    def set_and_get(self) -> None:
        key = f"locust:{random.randrange(1000)}"
        text = f"value of {key}"
        # 0 are the flags, and 60 the seconds for which the server keeps the value.
        stored = self.client.request(f"set {key} 0 60 {len(text)}\r\n{text}", name="set", expect="STORED")
        if stored:
            # A cache may forget a value, but it must not return another one.
            self.client.request(f"get {key}", name="get", read=value, expect=lambda found: found in ("", text))
