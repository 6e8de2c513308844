"""examples/mqtt.py on mosquitto: both sides' accounts agree, also when the server closes all connections."""

import contextlib
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from tests import kit
from tests.examples.installed import installed
from tests.examples.swarms import CLOSED, USERS, swarm
from tests.examples.times import has_times

SUBSCRIBERS = 2
RETAINED = b"\x31\x19\x00\x06locust%.6f" % time.time()  # which each new subscriber gets at once
LATE = SUBSCRIBERS * 2 * (USERS - SUBSCRIBERS)  # messages: what publishers may send while a subscriber ends
CONNECT = b"\x00\x04MQTT\x04\x02\x00\x00"
CONFIGURATION = """
listener {port} 127.0.0.1
allow_anonymous true
log_dest stderr
log_type all
set_tcp_nodelay true
"""


class Mosquitto(kit.Program):
    """An MQTT server, whose log has each packet.

    Attributes:
        port: Its port.
    """

    port: int

    def packets(self, kind: str) -> int:
        """Return how many packets of a kind there have been, such as "Sending PUBACK"."""
        return self.output.count(f" {kind} ")

    def published(self, qos: int) -> int:
        """Return how many messages have arrived."""
        return len(re.findall(rf" Received PUBLISH from .* \(d0, q{qos}, r0,", self.output))

    def names(self) -> list[str]:
        """Return the names of all clients that there have been. The server has chosen them."""
        return re.findall(r" connected from .* as (auto-\S+)", self.output)

    def talk(self, name: str, *packets: bytes) -> None:
        """Connect as a client with a name of at most 99 bytes; send packets."""
        body = CONNECT + len(name).to_bytes(2, "big") + name.encode()
        with socket.create_connection(("127.0.0.1", self.port), kit.PATIENCE) as sock:
            sock.sendall(bytes((0x10, len(body))) + body)
            assert sock.recv(4) == b"\x20\x02\x00\x00"
            sock.sendall(b"".join(packets))

    def cut(self) -> None:
        """Close all connections: another client takes over the name of each, which closes the first one."""
        for name in self.names():
            self.talk(name)


@contextlib.contextmanager
def mosquitto(folder: Path) -> Iterator[Mosquitto]:
    """Run a server for the length of a with-block."""
    port = kit.free_port()
    configuration = folder / "mosquitto.conf"
    configuration.write_text(CONFIGURATION.format(port=port))
    server = Mosquitto(installed("mosquitto"), "-c", configuration, output=folder / "mosquitto")
    server.port = port
    try:
        server.says("running")
        yield server
    finally:
        server.process.kill()
        server.process.wait()


def test_each_message_is_one_event_and_a_cut_connection_one_failure(tmp_path: Path) -> None:
    with mosquitto(tmp_path) as server:
        server.talk("retained", RETAINED)
        with swarm("mqtt.py", port=server.port, folder=tmp_path) as locust:
            kit.eventually(lambda: len(server.names()) == USERS and server.packets("Sending SUBACK") == SUBSCRIBERS)
            kit.eventually(lambda: min(server.published(0), server.published(1)) > 3 * USERS)
            server.cut()
            kit.eventually(lambda: server.packets("Sending SUBACK") == 2 * SUBSCRIBERS)
            kit.eventually(lambda: len(server.names()) == 3 * USERS)  # of both connections, and of cut()
            before = server.published(0), server.published(1)
            kit.eventually(lambda: min(server.published(0) - before[0], server.published(1) - before[1]) > 3 * USERS)
            locust.stop()
        published = {f"PUBLISH QoS {qos}": server.published(qos) for qos in (0, 1)}
        pushed = server.packets("Sending PUBLISH")
    requests, failed = locust.requests(), locust.failed()
    assert locust.exceptions() == []
    logins = {"connect": 2 * USERS, "CONNECT": 2 * USERS, "SUBSCRIBE": 2 * SUBSCRIBERS}
    assert {name: requests[name] for name in logins} == logins
    assert set(requests) == {*logins, *published, "message", "Aggregated"}
    assert locust.texts() <= CLOSED
    assert (failed.total(), failed["message"]) == (USERS, SUBSCRIBERS)
    for name, count in published.items():
        # A message may have arrived whose confirmation was lost, and one that was not confirmed may be lost.
        assert abs(requests[name] - failed[name] - count) <= failed["PUBLISH QoS 0"] + failed["PUBLISH QoS 1"]
    assert 0 <= pushed - (requests["message"] - SUBSCRIBERS) <= LATE
    measured = {name for name, row in locust.rows().items() if has_times(row)}
    assert measured == set(requests) - {"PUBLISH QoS 0"}
