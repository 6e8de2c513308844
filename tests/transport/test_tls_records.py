"""transport/connection.py over TLS: framing, whichever records and segments the data comes in."""

import threading
import time
from pathlib import Path

import gevent
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capserver.lines import MAX_LINE
from locust_tcp.transport.connection import Connection
from locust_tcp.transport.endpoint import Endpoint
from locust_tcp.transport.tls import RECORD
from tests import kit, peers, wire
from tests.certificates import Certificates
from tests.tls_end import End, by_hand, inside, service
from tests.transport.exchanges import (
    MAX_REPLY,
    SHORT,
    TIMEOUT,
    await_bytes,
    deliver,
    exchange,
    fails,
    pair,
    talking_to,
)

# A record is about 22 bytes longer than its data, and the tickets are some 500 bytes: the cuts
# fall everywhere.
in_records = st.lists(st.integers(0, 99), max_size=9)
in_segments = st.lists(st.integers(0, 1000), max_size=20)
separators = st.sampled_from([b"\n", b"\r\n", b"aab", b"abab"])


def encrypted(end: End, data: bytes, records: list[int], places: list[int]) -> list[bytes]:
    """Return the handshake's tickets and then data, cut into records and these into segments."""
    return wire.cut(end.encrypt(*filter(None, wire.cut(data, records))), places)


@settings(max_examples=60, deadline=None)
@given(separators, st.text("ab\r\n", max_size=99), in_records, in_segments)
def test_read_until_finds_every_separator_however_the_records_come(
    files: Certificates, separator: bytes, text: str, records: list[int], places: list[int]
) -> None:
    data = text.encode() + separator
    lines = [line + separator for line in data.split(separator)[:-1]]
    data = b"".join(lines)  # ababab has one abab: what is left over would wait for ever to be read
    with pair(files) as (connection, end, ours):
        delivery = deliver(ours, end.sock, encrypted(end, data, records, places))
        assert [connection.read_until(separator) for _ in lines] == lines
        delivery.get(timeout=TIMEOUT)
        connection.end()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 50), max_size=9), in_records, in_segments)
def test_read_exactly_returns_what_was_asked_for_over_tls(
    files: Certificates, counts: list[int], records: list[int], places: list[int]
) -> None:
    data = bytes(number % 251 for number in range(sum(counts)))
    with pair(files) as (connection, end, ours):
        delivery = deliver(ours, end.sock, encrypted(end, data, records, places))
        assert b"".join(connection.read_exactly(count) for count in counts) == data
        delivery.kill()  # where nothing was to be read, the tickets are not read
        connection.end()
        assert connection.received == len(data)


@pytest.mark.parametrize("when", ["before the request", "before the reply", "with the reply"])
def test_tickets_for_the_next_session_are_not_the_reply(files: Certificates, when: str) -> None:
    def behave(end: End) -> None:
        tickets = end.unsent()
        assert tickets
        if when == "before the request":
            end.sock.sendall(tickets)
        assert end.recv(1) == b"?"
        if when == "before the reply":
            end.sock.sendall(tickets)
            sent.set()
            assert go_on.wait(kit.PATIENCE)
        end.sock.sendall((tickets if when == "with the reply" else b"") + end.encrypt(b"HELLO\n"))
        assert end.recv(1) == b"?"
        end.sendall(b"AGAIN\n")
        peers.mute(end.sock)

    sent, go_on = threading.Event(), threading.Event()
    with talking_to(by_hand(service(files.good), behave), files) as connection:
        if when == "before the request":
            await_bytes(connection)
        connection.send(b"?", TIMEOUT)
        reading = gevent.spawn(connection.read_until)
        if when == "before the reply":
            while not (sent.is_set() and wire.unread(connection._stream._sock) == 0):
                gevent.sleep(0.01)
            assert not reading.dead
            go_on.set()
        assert reading.get(timeout=TIMEOUT) == b"HELLO\n"
        assert connection.received == len(b"HELLO\n")
        connection.end()
        assert exchange(connection) == b"AGAIN\n"


def test_a_record_that_was_tampered_with_is_a_failure_of_tls(files: Certificates) -> None:
    def behave(end: End) -> None:
        end.recv(1)
        record = bytearray(end.encrypt(b"HELLO\n"))
        record[-1] ^= 1
        end.sock.sendall(record)
        peers.mute(end.sock)

    with talking_to(by_hand(service(files.good), behave), files) as connection, fails("reply: TLS failed"):
        exchange(connection)


def test_an_endless_reply_is_given_up_and_not_kept(files: Certificates) -> None:
    with talking_to(inside(service(files.good), peers.endless), files) as connection, fails("reply: too long"):
        exchange(connection)
        assert connection.received <= MAX_REPLY + RECORD


def _drip_a_record(end: End) -> None:
    end.recv(1)
    pause = threading.Event()
    for byte in end.encrypt(b"x" * MAX_REPLY):
        end.sock.sendall(bytes([byte]))
        pause.wait(peers.DRIP)


@pytest.mark.parametrize("what", ["records", "bytes of a record"])
def test_a_reply_that_drips_is_given_up_at_the_deadline(files: Certificates, what: str) -> None:
    context = service(files.good)
    behave = inside(context, peers.dripping) if what == "records" else by_hand(context, _drip_a_record)
    with talking_to(behave, files) as connection:
        begun = time.monotonic()
        with fails("reply: timed out"):
            exchange(connection, timeout=SHORT)
        assert SHORT - 0.01 <= time.monotonic() - begun < TIMEOUT


def test_a_long_line_goes_to_the_server_and_back(tmp_path: Path, files: Certificates) -> None:
    with kit.server("--tls-cert", str(files.good), output=tmp_path / "server") as server:
        endpoint = Endpoint.parse(f"tls://localhost:{server.port}", str(files.ca))
        connection = Connection.open(endpoint, TIMEOUT, 2 * MAX_LINE)
        for size in (1, 60_000, MAX_LINE):
            connection.send(b"x" * size + b"\n", TIMEOUT)
            assert connection.read_until() == b"X" * size + b"\n"
            connection.end()
        connection.close()
