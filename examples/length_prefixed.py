"""A binary protocol whose messages have their length before them: DNS over TCP (RFC 1035, 4.2.2).

Start a server:  dnsmasq -k --pid-file= --port=5300 --address=/locust.example/192.0.2.1
Start the swarm: env/bin/locust -f examples/length_prefixed.py
"""

import random
import struct

from locust import constant, task

from locust_tcp import Connection, TcpUser

QUESTION = b"\x06locust\x07example\x00" + struct.pack("!HH", 1, 1)  # the IPv4 address (1) on the Internet (1)
ADDRESS = bytes((192, 0, 2, 1))
LIMIT = 100  # queries on one connection; then dnsmasq closes it


def read_message(connection: Connection) -> bytes:
    """Read the length, which is two bytes, and then the message."""
    (length,) = struct.unpack("!H", connection.read_exactly(2))
    return connection.read_exactly(length)


class DnsUser(TcpUser):
    host = "tcp://localhost:5300"
    wait_time = constant(0.01)
    queries = 0  # on this connection

    def on_connect(self) -> None:
        self.queries = 0

    @task
    def look_up(self) -> None:
        number = random.randrange(65536)

        def is_right(reply: bytes) -> bool:
            its_number, flags = struct.unpack_from("!HH", reply)
            is_answer = flags & 0x800F == 0x8000  # the last four bits are the error
            return its_number == number and is_answer and reply.endswith(ADDRESS)

        query = struct.pack("!6H", number, 0x0100, 1, 0, 0, 0) + QUESTION
        self.client.request(struct.pack("!H", len(query)) + query, name="A", read=read_message, expect=is_right)
        self.queries += 1
        if self.queries == LIMIT:
            self.client.close()  # before the server does; the next request opens another
