"""user.py in a real `locust`, on peers that misbehave: one event per exchange, the right text."""

import contextlib
import json
import os
from collections.abc import Iterator
from typing import Any

import gevent
import pytest
from gevent.pool import Group
from locust import constant, task
from locust.env import Environment
from locust.user.task import LOCUST_STATE_WAITING

from locust_tcp import Connection, TcpUser
from tests import kit, peers

REQUESTS = 3  # that each user of peers_locustfile.py makes
FINE = None

# What each peer does, and what its user's requests must come to, in order. A failure closes the
# connection, so that the next request opens another: that is the `connect` event between them.
REPLIES: dict[str, tuple[peers.Behaviour, list[tuple[str, str | None]]]] = {
    "fine": (peers.answering(b"HELLO\n"), [("connect", FINE), *[("fine", FINE)] * REQUESTS]),
    "split": (peers.answering(b"HE", b"LL", b"O", b"\n"), [("connect", FINE), *[("split", FINE)] * REQUESTS]),
    "predicate": (peers.answering(b"HELLO\n"), [("connect", FINE), *[("predicate", FINE)] * REQUESTS]),
    "two lines": (peers.answering(b"HEL\nLO\n"), [("connect", FINE), *[("two lines", FINE)] * REQUESTS]),
    "length prefix": (peers.answering(b"\x05HE", b"LLO"), [("connect", FINE), *[("length prefix", FINE)] * REQUESTS]),
    "predicate fails": (
        peers.answering(b"HELLO\n"),
        [("connect", FINE), ("predicate fails", "reply: wrong")] * REQUESTS,
    ),
    "wrong": (peers.answering(b"BYE\n"), [("connect", FINE), ("wrong", "reply: wrong")] * REQUESTS),
    "no sense": (peers.answering(b"HELLO\n"), [("connect", FINE), ("no sense", "reply: wrong")] * REQUESTS),
    "not text": (peers.answering(b"\xff\n"), [("connect", FINE), ("not text", "reply: not text")] * REQUESTS),
    "mute": (peers.mute, [("connect", FINE), ("mute", "reply: timed out")] * REQUESTS),
    "dripping": (peers.dripping, [("connect", FINE), ("dripping", "reply: timed out")] * REQUESTS),
    "late": (peers.late, [("connect", FINE), ("late", "reply: timed out")] * REQUESTS),
    "half": (peers.answering_once(b"HEL"), [("connect", FINE), ("half", "reply: closed halfway")] * REQUESTS),
    "closing": (peers.answering_once(b""), [("connect", FINE), ("closing", "reply: closed")] * REQUESTS),
    "closing later": (
        peers.answering_once(b"HELLO\n"),
        [
            ("connect", FINE),
            ("closing later", FINE),
            ("closing later", "send: closed"),
            ("connect", FINE),
            ("closing later", FINE),
        ],
    ),
    "resetting": (peers.resetting, [("connect", FINE), ("resetting", "reply: reset")] * REQUESTS),
    "chatty": (
        peers.answering(b"HELLO\nHELLO\n"),
        [("connect", FINE), ("chatty", "reply: more than was asked for")] * REQUESTS,
    ),
    "endless": (peers.endless, [("connect", FINE), ("endless", "reply: too long")] * REQUESTS),
    "huge length": (peers.mute, [("connect", FINE), ("huge length", "reply: too long")] * REQUESTS),
    "lagging": (peers.answering(b"HELLO\n"), [("connect", FINE), *[("lagging", FINE)] * REQUESTS]),
    "our mistake": (peers.answering(b"HELLO\n"), [("connect", FINE), ("our mistake", "reply: wrong")] * REQUESTS),
    "stopped": (peers.mute, [("connect", FINE)]),
}
CONNECTS = {
    "refused": "connect: refused",
    "unknown": "connect: unknown host",
    "full": "connect: timed out",
}

Event = dict[str, Any]


@pytest.fixture(scope="module")
def events(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, list[Event]]]:
    """Run one swarm with a user for each kind of peer, and return its events by peer."""
    folder = tmp_path_factory.mktemp("peers")
    with contextlib.ExitStack() as stack:
        ports = {name: stack.enter_context(peers.peer(behave)) for name, (behave, _) in REPLIES.items()}
        ports["full"] = stack.enter_context(peers.full())
        hosts = {name: f"tcp://127.0.0.1:{port}" for name, port in ports.items()}
        hosts["refused"] = f"tcp://127.0.0.1:{kit.free_port()}"
        hosts["unknown"] = "tcp://nobody.invalid:1"
        environment = os.environ | {"PEERS": json.dumps(hosts), "EVENTS": str(folder / "events")}
        locustfile = kit.KIT / "tests/swarm/peers_locustfile.py"
        swarm = stack.enter_context(
            kit.program(
                kit.LOCUST,
                *("-f", locustfile, "--headless", "--users", str(len(hosts)), "--spawn-rate", "100"),
                output=folder / "log",
                environment=environment,
            )
        )
        swarm.ends()
        found: dict[str, list[Event]] = {name: [] for name in hosts}
        for line in (folder / "events").read_text().splitlines():
            event = json.loads(line)
            found[event["peer"]].append(event)
        yield found


def outcomes(events: list[Event]) -> list[tuple[str, str | None]]:
    return [(event["name"], event["failure"]) for event in events]


@pytest.mark.parametrize("peer", REPLIES)
def test_every_exchange_fires_one_event_that_says_how_it_ended(events: dict[str, list[Event]], peer: str) -> None:
    assert outcomes(events[peer]) == REPLIES[peer][1]


@pytest.mark.parametrize("peer", CONNECTS)
def test_a_failed_connect_is_one_event_and_no_exchange(events: dict[str, list[Event]], peer: str) -> None:
    assert outcomes(events[peer]) == [("connect", CONNECTS[peer])] * REQUESTS


@pytest.mark.parametrize("peer", ["mute", "dripping", "late"])
def test_the_deadline_is_for_the_whole_exchange(events: dict[str, list[Event]], peer: str) -> None:
    # The user's timeout is 0.4 s, and a dripping server sends a byte every 0.05 s.
    times = [event["milliseconds"] for event in events[peer] if event["failure"]]
    assert all(400 <= time < 5000 for time in times), times


def test_an_event_has_the_reply_and_its_length(events: dict[str, list[Event]]) -> None:
    reply = events["fine"][-1]
    assert (reply["response"], reply["bytes"]) == ("HELLO", len("HELLO\n"))
    framed = events["length prefix"][-1]
    assert (framed["response"], framed["bytes"]) == ("b'HELLO'", len("\x05HELLO"))
    assert events["mute"][-1]["response"] == "None"


@pytest.mark.skipif(not Connection.kernel_times, reason="the kernel's arrival times are Linux's")
def test_the_response_time_ends_when_the_reply_arrives(events: dict[str, list[Event]]) -> None:
    # Its user finds the reply 200 ms later. The first exchanges may be without an arrival time.
    assert 0 < min(event["milliseconds"] for event in events["lagging"] if event["name"] != "connect") < 150


@pytest.mark.parametrize("force", [False, True])
def test_a_user_that_waits_is_stopped_before_it_can_begin_another_exchange(force: bool) -> None:
    class Waiting(TcpUser):
        host = "tcp://nobody.invalid:1"
        wait_time = constant(kit.PATIENCE)

        @task
        def nothing(self) -> None:
            """Make no exchange."""

        def on_stop(self) -> None:
            done.append("on_stop begins")
            gevent.sleep(0.01)
            done.append("on_stop ends")

    done: list[str] = []
    user, group = Waiting(Environment()), Group()
    user.start(group)
    with gevent.Timeout(kit.PATIENCE):
        while user._state != LOCUST_STATE_WAITING:
            gevent.sleep(0.001)
    gevent.get_hub().loop.run_callback(done.append, "next turn of the event loop")
    user.stop(force)
    user.stop()
    assert group.join(kit.PATIENCE)
    assert done == ["on_stop begins", "next turn of the event loop", "on_stop ends"]
