"""MQTT 3.1.1: publishers, and subscribers that measure how long each message was on its way.

A message carries the time when it was published. Where publishers and subscribers run on two
machines, the clocks of both have to agree. Without `set_tcp_nodelay true` in its configuration,
mosquitto delays some messages by 40 ms.

Start a server:  mosquitto -p 1883
Start the swarm: env/bin/locust -f examples/mqtt.py
"""

import itertools
import time

from locust import constant, task

from locust_tcp import Connection, TcpUser

TOPIC = b"\x00\x06locust"  # its length, then its name
PUBLISH = 0x30  # the type of a packet that has a message


def packet(kind: int, body: bytes) -> bytes:
    """Return a packet: its type, its length (below 128 that is one byte) and its body."""
    return bytes((kind, len(body))) + body


def read_packet(connection: Connection) -> bytes:
    """Read a packet of any length; return its type and its body."""
    kind, length, shift = connection.read_exactly(1), 0, 0
    while (byte := connection.read_exactly(1)[0]) > 127:  # seven bits of the length, and more follow
        length += (byte - 128) << shift
        shift += 7
    return kind + connection.read_exactly(length + (byte << shift))


def read_reply(connection: Connection) -> bytes:
    """Read the reply to a request. Messages that come before it are for the next `receive`."""
    while (reply := read_packet(connection))[0] & 0xF0 == PUBLISH:
        connection.keep(reply)
    return reply


def now() -> bytes:
    """Return the text of a message: the time, in seconds since the epoch."""
    return b"%f" % time.time()


def published(message: bytes) -> float:
    """Return when a message was published."""
    return float(message[1 + len(TOPIC) :])


class MqttUser(TcpUser):
    abstract = True
    host = "tcp://localhost:1883"

    def on_connect(self) -> None:
        # Version 4 (3.1.1), a clean session, no keep-alive; the server chooses the client's name.
        hello = packet(0x10, b"\x00\x04MQTT\x04\x02\x00\x00\x00\x00")
        self.client.request(hello, name="CONNECT", read=read_packet, expect=b"\x20\x00\x00")


class Publisher(MqttUser):
    wait_time = constant(0.1)
    numbers = itertools.cycle(range(1, 65536))

    @task
    def at_most_once(self) -> None:
        self.client.send(packet(PUBLISH, TOPIC + now()), name="PUBLISH QoS 0")

    @task
    def at_least_once(self) -> None:
        number = next(self.numbers).to_bytes(2, "big")
        message = packet(PUBLISH + 2, TOPIC + number + now())
        self.client.request(message, name="PUBLISH QoS 1", read=read_packet, expect=b"\x40" + number)


class Subscriber(MqttUser):
    pushes = True  # messages come unasked
    fixed_count = 2  # users; all others are publishers

    def on_connect(self) -> None:
        super().on_connect()
        wish = packet(0x82, b"\x00\x01" + TOPIC + b"\x00")  # packet number 1; QoS 0 is enough
        self.client.request(wish, name="SUBSCRIBE", read=read_reply, expect=b"\x90\x00\x01\x00")

    @task
    def receive(self) -> None:
        # A topic may be silent: that is no failure.
        self.client.receive(name="message", read=read_packet, since=published, required=False)
