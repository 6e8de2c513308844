"""turns.py: greenlets that share a client take turns, each with its own deadline and its own time."""

import socket
import threading
import time
from typing import Any

import gevent
import pytest

from locust_tcp import Connection
from tests import kit, peers
from tests.conversation import conversation

PAUSE = 0.1  # seconds that the peer takes for a reply


def slow(sock: socket.socket) -> None:
    """Answer each line in capitals, after a pause."""
    with sock.makefile("rb") as lines:
        for line in lines:
            threading.Event().wait(PAUSE)
            sock.sendall(line.upper())


def ask(user: Any, word: str, **options: Any) -> Any:
    return user.client.request(word, name=word, expect=word.upper(), **options)


def test_greenlets_take_turns_and_each_has_its_own_time() -> None:
    with conversation(slow, timeout=4 * PAUSE) as talk:
        words = [f"word {number}" for number in range(8)]  # the last one waits longer than its timeout for its turn
        greenlets = [gevent.spawn(ask, talk.user, word) for word in words]
        gevent.joinall(greenlets, timeout=kit.PATIENCE, raise_error=True)
        assert talk.outcomes == [("connect", None), *((word, None) for word in words)]
        assert all(1000 * PAUSE - 1 <= event["response_time"] < 2000 * PAUSE for event in talk.events[1:])


def test_a_turn_goes_to_the_one_that_has_waited_longest() -> None:
    def often(user: Any) -> None:
        for _ in range(5):
            ask(user, "task")

    with conversation(slow) as talk:
        greenlets: list[Any] = [gevent.spawn(often, talk.user), gevent.spawn(ask, talk.user, "heartbeat")]
        gevent.joinall(greenlets, timeout=kit.PATIENCE, raise_error=True)
        names = [name for name, _ in talk.outcomes]
        assert names.index("heartbeat") == 2, "the task has gone on without giving its turn"


def test_a_transaction_is_not_interrupted() -> None:
    def buy(user: Any) -> None:
        with user.client.transaction("buy"):
            ask(user, "one")
            gevent.sleep(PAUSE)
            ask(user, "two")

    with conversation(slow) as talk:
        greenlets: list[Any] = [gevent.spawn(buy, talk.user), gevent.spawn(ask, talk.user, "heartbeat")]
        gevent.joinall(greenlets, timeout=kit.PATIENCE, raise_error=True)
        assert talk.outcomes == [("connect", None), ("buy", None), ("heartbeat", None)]
        assert talk.event("buy")["response_time"] < 3000 * PAUSE


@pytest.mark.parametrize("when", ["it waits", "its turn has come"])
def test_a_greenlet_that_is_stopped_while_it_waits_gives_its_turn_on(when: str) -> None:
    def read(connection: Connection) -> str:
        line = connection.read_until()
        if when == "its turn has come":  # which the end of this exchange gives it, before it can go on
            waiting.kill(block=False)
        return line[:-1].decode()

    with conversation(slow) as talk:
        first = gevent.spawn(ask, talk.user, "first", read=read)
        waiting = gevent.spawn(ask, talk.user, "waiting")
        last = gevent.spawn(ask, talk.user, "last")
        if when == "it waits":
            gevent.sleep(PAUSE / 2)
            waiting.kill()
        gevent.joinall([first, waiting, last], timeout=kit.PATIENCE)
        assert [name for name, failure in talk.outcomes if not failure] == ["connect", "first", "last"]


def test_closing_waits_for_the_exchange_of_another_greenlet() -> None:
    with conversation(slow) as talk:
        exchange = gevent.spawn(ask, talk.user, "word")
        gevent.sleep(PAUSE / 2)
        talk.run(lambda user: user.client.close())
        assert exchange.get(timeout=kit.PATIENCE) == "WORD"


def test_an_exchange_in_the_middle_of_another_one_is_refused_and_never_hangs() -> None:
    with conversation(peers.capitalizing) as talk:
        begun = time.monotonic()
        talk.run(lambda user: ask(user, "word", read=lambda _: user.client.request("another")))
        assert talk.outcomes == [("connect", None), ("word", "reply: wrong")]
        assert time.monotonic() - begun < talk.user.timeout


def test_a_greenlet_that_outlives_its_user_ends_without_an_event() -> None:
    def heartbeat(user: Any) -> None:
        while True:
            ask(user, "heartbeat")

    with conversation(peers.mute) as talk:
        beating = gevent.spawn(heartbeat, talk.user)
        waiting = gevent.spawn(heartbeat, talk.user)
        kit.eventually(lambda: gevent.sleep(0.001) or talk.events)  # type: ignore[func-returns-value]
        talk.user.client.stop()
        gevent.joinall([beating, waiting], timeout=kit.PATIENCE)
        assert isinstance(beating.value, gevent.GreenletExit)
        assert isinstance(waiting.value, gevent.GreenletExit)
        assert talk.outcomes == [("connect", None)]
