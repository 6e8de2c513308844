"""client.py: each kind of exchange with real peers, one event each, and whose time it has."""

import re
import socket
import ssl
import struct
import threading
import time
from typing import Any

import gevent
import gevent.event
import pytest
from locust import events
from locust.exception import InterruptTaskSet, RescheduleTask, RescheduleTaskImmediately, StopUser

from locust_tcp import Connection, ServiceError
from locust_tcp.client import ScheduledSend, forget_wrong_replies
from locust_tcp.transport import errors
from tests import kit, peers, wire
from tests.certificates import Certificates
from tests.conversation import conversation
from tests.tls_end import inside, service

PAUSE = 0.05  # seconds that a peer waits before it speaks
MORE = 0.04  # seconds by which a busy machine may make that longer


def greeting(sock: socket.socket) -> None:
    """Speak first, after a pause, and then answer in capitals."""
    threading.Event().wait(PAUSE)
    sock.sendall(b"220 welcome\n")
    peers.capitalizing(sock)


def pushing(sock: socket.socket) -> None:
    """Answer in capitals. Say `news` before the reply to a `b`, after the reply to an `a`, and for `n` nothing else."""
    with sock.makefile("rb") as lines:
        for line in lines:
            reply = line.upper()
            sock.sendall({b"b\n": b"news\n" + reply, b"a\n": reply + b"news\n", b"n\n": b"news\n"}.get(line, reply))


def await_unread(connection: Connection | None) -> None:
    """Wait until something has come from the peer that no exchange has read: bytes, or its end."""

    def has_come() -> bool:
        gevent.sleep(0.001)  # a turn for the event loop
        assert connection
        return bool(connection._buffer) or wire.is_readable(connection._stream._sock)

    kit.eventually(has_come)


# on_connect


def logging_in(user: Any) -> None:
    """Log in as on_connect does."""
    user.client.receive(name="greeting", expect="220 welcome")
    user.client.request("login", name="login", expect="LOGIN")


def test_on_connect_runs_on_each_new_connection_before_its_first_request() -> None:
    with conversation(greeting, on_connect=logging_in) as talk:
        for _ in range(2):
            talk.run(lambda user: [user.client.request("word", name="word", expect="WORD") for _ in range(2)])
            talk.run(lambda user: user.client.close())
        names = ["connect", "greeting", "login", "word", "word"]
        assert talk.outcomes == [(name, None) for name in names * 2]


def test_on_connect_runs_on_each_connection_of_a_request_and_does_not_close_it() -> None:
    with conversation(greeting, on_connect=logging_in, connection="per-request") as talk:
        talk.run(lambda user: [user.client.request("word", name="word", expect="WORD") for _ in range(2)])
        assert talk.outcomes == [(name, None) for name in ["connect", "greeting", "login", "word"] * 2]


def test_a_failure_in_on_connect_ends_it_and_the_request_makes_no_event() -> None:
    def on_connect(user: Any) -> None:
        reply = user.client.request("login", name="login", expect="WELCOME")
        after.append((reply, user.client.send("more"), user.client.pipeline(["a", "b"]), user.client.receive()))
        reply.split()  # of None: that follows from the failure

    after: list[Any] = []
    with conversation(peers.capitalizing, on_connect=on_connect) as talk:
        assert talk.run(lambda user: user.client.request("word", name="word")) is None
        assert talk.outcomes == [("connect", None), ("login", "reply: wrong")]
        assert after == [(None, False, [None, None], None)]
        talk.run(lambda user: user.client.request("word", name="word"))
        assert talk.outcomes == [("connect", None), ("login", "reply: wrong")] * 2, "the connection was not closed"


def test_a_mistake_in_on_connect_reaches_locust_and_closes_the_connection() -> None:
    def on_connect(user: Any) -> None:
        user.client.request("login", name="login")
        raise LookupError

    with conversation(peers.capitalizing, on_connect=on_connect) as talk:
        for _ in range(2):
            with pytest.raises(LookupError):
                talk.run(lambda user: user.client.request("word", name="word"))
        assert talk.outcomes == [("connect", None), ("login", None)] * 2


def test_a_connection_that_on_connect_closes_itself_is_not_opened_again_by_it() -> None:
    def on_connect(user: Any) -> None:
        user.client.close()
        user.client.request("login", name="login")

    with conversation(peers.capitalizing, on_connect=on_connect) as talk:
        assert talk.run(lambda user: user.client.request("word", name="word")) is None
        assert talk.outcomes == [("connect", None)]


def test_the_place_in_a_schedule_is_that_of_the_task_and_not_of_on_connect() -> None:
    def word(user: Any) -> None:
        user.scheduled_send = ScheduledSend(time.perf_counter() - 1, 0.5, overdue=True)
        user.client.request("word", name="word")

    with conversation(greeting, on_connect=logging_in) as talk:
        talk.run(word)
        assert talk.event("login")["response_time"] < 1000 <= talk.event("word")["response_time"]


# receive


def test_a_greeting_counts_from_the_end_of_the_handshake() -> None:
    def late(user: Any) -> None:
        gevent.spawn(time.sleep, 2 * PAUSE)  # Locust is busy when the greeting arrives
        user.client.receive(name="greeting", expect="220 welcome")

    with conversation(greeting) as talk:
        talk.run(late)
        if Connection.kernel_times:
            assert 1000 * PAUSE - 1 <= talk.event("greeting")["response_time"] < 1000 * (PAUSE + MORE)
            assert talk.event("connect")["response_time"] < 1000 * PAUSE
        assert talk.event("greeting")["response_length"] == len("220 welcome\n")


@pytest.mark.skipif(not Connection.kernel_times, reason="the kernel's times are Linux's")
def test_a_connect_is_the_networks_and_not_locusts() -> None:
    def busy(user: Any) -> None:
        gevent.spawn(time.sleep, PAUSE)  # when the handshake is complete
        user.client.request("word")

    with conversation(peers.capitalizing) as talk:
        talk.run(busy)
        assert talk.event("connect")["response_time"] < 1000 * PAUSE / 2


def test_a_message_by_itself_has_no_response_time_unless_since_gives_one() -> None:
    def news(user: Any, **options: Any) -> None:
        assert user.client.send("n", name="ask")
        assert user.client.receive(expect="news", **options) == "news"

    with conversation(pushing) as talk:
        talk.run(lambda user: user.client.request("first"))
        talk.run(lambda user: news(user, name="none"))
        asked = time.time()
        talk.run(lambda user: news(user, name="time", since=asked - 1))
        talk.run(lambda user: news(user, name="function", since=lambda message: asked - 2 * (message == "news")))
        assert talk.event("none")["response_time"] is None
        assert 1000 < talk.event("time")["response_time"] < 2000
        assert talk.event("time")["start_time"] == asked - 1
        assert 2000 < talk.event("function")["response_time"] < 3000
        assert talk.event("none")["response_length"] == len("news\n")


def test_a_time_in_the_future_is_no_response_time(caplog: pytest.LogCaptureFixture) -> None:
    errors.warn_once.cache_clear()
    with conversation(greeting) as talk:
        talk.run(lambda user: user.client.receive(name="greeting", since=time.time() + 100))
        assert talk.event("greeting")["response_time"] is None
        assert "the clocks of two machines may differ" in caplog.text


def test_silence_is_no_event_where_a_message_is_not_required() -> None:
    with conversation(peers.capitalizing) as talk:
        talk.run(lambda user: user.client.request("word", name="word"))
        assert talk.run(lambda user: user.client.receive(required=False, timeout=0.05)) is None
        assert talk.run(lambda user: user.client.receive(required=False, timeout=0)) is None
        talk.run(lambda user: user.client.request("word", name="word"))
        assert talk.outcomes == [("connect", None), ("word", None), ("word", None)]


def test_silence_is_a_failure_where_a_message_is_required() -> None:
    with conversation(peers.capitalizing) as talk:
        talk.run(lambda user: user.client.request("word", name="word"))
        assert talk.run(lambda user: user.client.receive(name="news", timeout=0.05)) is None
        assert talk.outcomes[-1] == ("news", "reply: timed out")
        assert talk.event("news")["response_time"] is None


def test_the_end_of_the_connection_is_a_failure_always() -> None:
    with conversation(peers.answering_once(b"WORD\n")) as talk:
        talk.run(lambda user: user.client.request("word", name="word"))
        talk.run(lambda user: await_unread(user.client._turns.connection))
        talk.run(lambda user: user.client.receive(name="news", required=False))
        assert talk.outcomes == [("connect", None), ("word", None), ("news", "reply: closed")]


def test_half_a_message_is_a_failure_always() -> None:
    def half(sock: socket.socket) -> None:
        sock.sendall(b"hal")
        peers.mute(sock)

    with conversation(half) as talk:
        talk.run(lambda user: user.client.receive(name="half", required=False, timeout=0.2))
        assert talk.outcomes == [("connect", None), ("half", "reply: timed out")]


def test_messages_that_come_together_are_received_one_by_one() -> None:
    def three(sock: socket.socket) -> None:
        sock.sendall(b"one\ntwo\nthree\n")
        peers.mute(sock)

    with conversation(three) as talk:
        assert talk.run(lambda user: [user.client.receive() for _ in range(3)]) == ["one", "two", "three"]
        assert [event["response_length"] for event in talk.events] == [0, 4, 4, 6]


# pushes


def test_what_comes_unasked_is_a_failure_by_default() -> None:
    def ask_twice(user: Any) -> None:
        user.client.request("a", name="a", expect="A")
        user.client.request("word", name="word")

    with conversation(pushing) as talk:
        talk.run(ask_twice)
        assert ("a", "reply: more than was asked for") in talk.outcomes or talk.outcomes[-1] == (
            "word",
            "reply: more than was asked for",
        )


@pytest.mark.skipif(not Connection.kernel_times, reason="the kernel's times are Linux's")
def test_pushes_are_kept_for_receive_and_never_taken_for_a_reply() -> None:
    def ask(user: Any) -> Any:
        client = user.client
        client.request("word", name="word", expect="WORD")  # the first packets may have no arrival time
        assert client.request("a", name="a", expect="A") == "A"
        await_unread(client._turns.connection)
        assert client.request("word", name="word", expect="WORD") == "WORD"
        return client.receive(name="news"), client.receive(required=False, timeout=0.05)

    with conversation(pushing, pushes=True) as talk:
        assert talk.run(ask) == ("news", None)
        assert talk.event("news")["response_length"] == len("news\n")
        assert {failure for _, failure in talk.outcomes} == {None}


def test_a_read_function_keeps_what_is_not_the_reply() -> None:
    def read(connection: Connection) -> bytes:
        while (line := connection.read_until()) == b"news\n":
            connection.keep(line)
        return line

    with conversation(pushing, pushes=True) as talk:
        assert talk.run(lambda user: user.client.request("b", name="b", read=read, expect=b"B\n")) == b"B\n"
        assert talk.run(lambda user: user.client.receive(name="news", read=read)) == b"news\n"
        assert talk.event("b")["response_length"] == len("B\n")


def test_kept_messages_do_not_fill_the_memory() -> None:
    def flood(sock: socket.socket) -> None:
        sock.recv(100)
        while True:
            sock.sendall(b"news\n" * 1000)

    def read(connection: Connection) -> bytes:
        while True:
            connection.keep(connection.read_until())

    with conversation(flood, pushes=True, max_reply=10_000) as talk:
        talk.run(lambda user: user.client.request("word", name="word", read=read))
        assert talk.outcomes[-1] == ("word", "reply: too long")


# send


def test_a_message_without_a_reply_has_no_response_time() -> None:
    received: list[bytes] = []

    def collect(sock: socket.socket) -> None:
        while data := sock.recv(100):
            received.append(data)

    with conversation(collect) as talk:
        assert talk.run(lambda user: user.client.send("metric 1", name="metric"))
        assert talk.event("metric")["response_time"] is None
        kit.eventually(lambda: b"".join(received) == b"metric 1\n")


@pytest.mark.parametrize(("behave", "how"), [(peers.answering_once(b""), "closed"), (peers.resetting, "reset")])
def test_a_message_on_a_dead_connection_fails(behave: peers.Behaviour, how: str) -> None:
    def twice(user: Any) -> Any:
        user.client.send("one", name="one")
        await_unread(user.client._turns.connection)
        return user.client.send("two", name="two")

    with conversation(behave) as talk:
        assert talk.run(twice) is False
        assert talk.outcomes == [("connect", None), ("one", None), ("two", f"send: {how}")]
        assert talk.event("two")["response_time"] is None


def test_a_message_that_is_not_read_fails_at_the_deadline() -> None:
    done = threading.Event()
    with conversation(lambda _: done.wait(kit.PATIENCE), timeout=0.2) as talk:
        talk.run(lambda user: user.client.send(b"x" * 30_000_000, name="big"))
        done.set()
        assert talk.outcomes == [("connect", None), ("big", "send: timed out")]


# transaction


def test_a_transaction_is_one_event_with_the_sum_of_the_times() -> None:
    def slow(sock: socket.socket) -> None:
        while data := sock.recv(100):
            threading.Event().wait(PAUSE)
            sock.sendall(data.upper())

    def buy(user: Any) -> None:
        with user.client.transaction("buy"):
            user.client.request("one", name="one", expect="ONE")
            gevent.sleep(2 * PAUSE)  # is the user's, not the service's
            user.client.request("two!", name="two", expect="TWO!")
            user.client.send("three", name="three")

    with conversation(slow) as talk:
        talk.run(buy)
        assert talk.outcomes == [("connect", None), ("buy", None)]
        assert 2000 * PAUSE - 1 <= talk.event("buy")["response_time"] < 2000 * (PAUSE + MORE)
        assert talk.event("buy")["response_length"] == len("ONE\nTWO!\n")


def test_the_first_failure_is_that_of_the_transaction_and_the_rest_is_not_made() -> None:
    received = []

    def behave(sock: socket.socket) -> None:
        with sock.makefile("rb") as lines:
            for line in lines:
                received.append(line)
                sock.sendall(line.upper())

    def buy(user: Any) -> None:
        with user.client.transaction("buy"):
            user.client.request("one", expect="ONE")
            reply = user.client.request("two", expect="three")
            assert user.client.request("three") is None
            assert user.client.start_tls() is False
            reply.split()
        user.client.request("four", name="four", expect="FOUR")

    with conversation(behave) as talk:
        talk.run(buy)
        assert talk.outcomes == [("connect", None), ("buy", "reply: wrong"), ("connect", None), ("four", None)]
        assert received == [b"one\n", b"two\n", b"four\n"]


def test_a_mistake_in_a_transaction_fails_it_and_reaches_locust() -> None:
    def buy(user: Any) -> None:
        with user.client.transaction("buy"):
            user.client.request("one")
            raise LookupError

    with conversation(peers.capitalizing) as talk:
        for _ in range(2):
            with pytest.raises(LookupError):
                talk.run(buy)
        assert talk.outcomes == [("connect", None), ("buy", "reply: wrong")] * 2


def test_a_transaction_without_a_connection_makes_no_event() -> None:
    def buy(user: Any) -> None:
        with user.client.transaction("buy"):
            replies.append(user.client.request("one"))
            replies.append(user.client.request("two"))

    replies: list[Any] = []
    with conversation(peers.capitalizing) as talk:
        talk.user.client._endpoint.port = kit.free_port()
        talk.run(buy)
        assert talk.outcomes == [("connect", "connect: refused")]
        assert replies == [None, None]


def test_a_user_that_is_stopped_in_a_transaction_reports_nothing() -> None:
    def buy(user: Any) -> None:
        with user.client.transaction("buy"):
            user.client.request("one")
            reached.set()
            gevent.sleep(kit.PATIENCE)

    reached = gevent.event.Event()
    with conversation(peers.capitalizing) as talk:
        greenlet = gevent.spawn(buy, talk.user)
        assert reached.wait(kit.PATIENCE)
        greenlet.kill(timeout=kit.PATIENCE)
        assert talk.outcomes == [("connect", None)]
        assert talk.run(lambda user: user.client.request("two", expect="TWO")) == "TWO"
        assert talk.outcomes[1:] == [("connect", None), ("request", None)], "the connection was used again"


def test_a_transaction_is_one_connection_with_a_connection_for_each_request() -> None:
    def buy(user: Any) -> None:
        with user.client.transaction("buy"):
            user.client.request("one")
            user.client.request("two")

    with conversation(peers.capitalizing, connection="per-request") as talk:
        talk.run(buy)
        talk.run(buy)
        assert talk.outcomes == [("connect", None), ("buy", None)] * 2


def test_a_transaction_in_on_connect_is_one_event_of_it() -> None:
    def on_connect(user: Any) -> None:
        with user.client.transaction("login"):
            user.client.request("user", expect="USER")
            user.client.request("password", expect=secret)
        user.client.request("database", name="database")

    secret = "PASSWORD"
    with conversation(peers.capitalizing, on_connect=on_connect) as talk:
        talk.run(lambda user: user.client.request("word", name="word"))
        assert talk.outcomes == [("connect", None), ("login", None), ("database", None), ("word", None)]
        talk.run(lambda user: user.client.close())
        secret = "wrong"
        talk.run(lambda user: user.client.request("word", name="word"))
        assert talk.outcomes[4:] == [("connect", None), ("login", "reply: wrong")]


def test_a_transaction_in_another_one_is_refused() -> None:
    def buy(user: Any) -> None:
        with user.client.transaction("buy"), user.client.transaction("pay"):
            pass

    with conversation(peers.capitalizing) as talk, pytest.raises(RuntimeError, match="a transaction in another one"):
        talk.run(buy)


@pytest.mark.parametrize("control", [StopUser, InterruptTaskSet, RescheduleTask, RescheduleTaskImmediately])
def test_what_ends_a_task_ends_a_transaction_as_it_stands(control: type[Exception]) -> None:
    def buy(user: Any) -> None:
        with user.client.transaction("buy"):
            user.client.request("one")
            raise control

    with conversation(peers.capitalizing) as talk:
        with pytest.raises(control):
            talk.run(buy)
        assert talk.outcomes == [("connect", None), ("buy", None)]


# pipeline


def test_each_request_of_a_pipeline_is_an_event() -> None:
    with conversation(peers.capitalizing) as talk:
        replies = talk.run(lambda user: user.client.pipeline(["a", "b", "c"], name="letter", expect=["A", "X", "C"]))
        assert replies == ["A", None, "C"]
        assert talk.outcomes == [("connect", None), ("letter", None), ("letter", "reply: wrong"), ("letter", None)]
        assert [event["response"] for event in talk.events[1:]] == ["A", "B", "C"]
        talk.run(lambda user: user.client.request("word"))
        assert talk.outcomes[4] == ("connect", None), "after a failure the connection was not closed"


def test_the_replies_of_a_pipeline_may_be_matched_by_a_key() -> None:
    def backwards(sock: socket.socket) -> None:
        sock.sendall(b"".join(reversed(sock.recv(100).upper().splitlines(keepends=True))))
        peers.mute(sock)

    def ask(user: Any) -> Any:
        return user.client.pipeline(
            ["1 a", "2 b"],
            expect=["1 A", "2 B"],
            key=lambda payload: payload[0],
            reply_key=lambda reply: reply[0],
        )

    with conversation(backwards) as talk:
        assert talk.run(ask) == ["1 A", "2 B"]


def test_a_reply_with_an_unknown_key_fails_all_that_are_not_answered() -> None:
    with conversation(peers.answering(b"3 C\n")) as talk:
        options: Any = {"key": lambda payload: payload[0], "reply_key": lambda reply: reply[0]}
        assert talk.run(lambda user: user.client.pipeline(["1 a", "2 b"], **options)) == [None, None]
        assert talk.outcomes[1:] == [("request", "reply: wrong")] * 2


def test_when_the_connection_fails_each_request_that_is_not_answered_fails() -> None:
    with conversation(peers.answering_once(b"A\nB")) as talk:
        assert talk.run(lambda user: user.client.pipeline(["a", "b", "c"])) == ["A", None, None]
        assert talk.outcomes[1:] == [("request", None), *[("request", "reply: closed halfway")] * 2]


def test_more_than_the_last_reply_of_a_pipeline_fails_it() -> None:
    with conversation(peers.answering(b"A\nB\nC\n")) as talk:
        assert talk.run(lambda user: user.client.pipeline(["a", "b"])) == ["A", None]
        assert talk.outcomes[2:] == [("request", "reply: more than was asked for")]


def test_a_pipeline_in_a_transaction_takes_as_long_as_its_last_reply() -> None:
    def slow(sock: socket.socket) -> None:
        while sock.recv(100):
            threading.Event().wait(PAUSE)
            sock.sendall(b"A\nB\nC\n")

    def ask(user: Any) -> None:
        with user.client.transaction("all"):
            user.client.pipeline(["a", "b", "c"])

    with conversation(slow) as talk:
        talk.run(ask)
        assert 1000 * PAUSE - 1 <= talk.event("all")["response_time"] < 1000 * (PAUSE + MORE)


def test_a_wrong_reply_of_a_pipeline_fails_its_transaction_also_where_the_others_are_right() -> None:
    def ask(user: Any) -> None:
        with user.client.transaction("all"):
            user.client.pipeline(["a", "b", "c"], expect=["A", "X", "C"])

    with conversation(peers.capitalizing) as talk:
        talk.run(ask)
        assert talk.outcomes == [("connect", None), ("all", "reply: wrong")]


@pytest.mark.parametrize("options", [{"expect": ["A"]}, {"key": len}, {"key": len, "reply_key": len}])
def test_a_pipeline_that_makes_no_sense_is_refused_before_it_is_sent(options: dict[str, Any]) -> None:
    with conversation(peers.capitalizing) as talk:
        with pytest.raises(ValueError, match="pipeline: "):
            talk.run(lambda user: user.client.pipeline(["a", "b"], **options))
        assert talk.events == []


# reading


def test_a_reply_may_end_with_the_connection_and_its_time_ends_with_its_last_byte() -> None:
    def behave(sock: socket.socket) -> None:
        sock.recv(100)
        sock.sendall(b"all that there is")
        threading.Event().wait(PAUSE)

    with conversation(behave) as talk:
        for _ in range(2):
            reply = talk.run(lambda user: user.client.request("all", name="all", read=lambda c: c.read_to_end()))
            assert reply == b"all that there is"
        assert talk.outcomes == [("connect", None), ("all", None)] * 2
        if Connection.kernel_times:
            assert talk.events[3]["response_time"] < 1000 * PAUSE


@pytest.mark.parametrize("says_goodbye", [True, False])
def test_with_tls_the_end_must_be_said(files: Certificates, says_goodbye: bool) -> None:
    def behave(tls: ssl.SSLSocket) -> None:
        tls.recv(100)
        tls.sendall(b"all that there is")
        if says_goodbye:
            tls.unwrap()
        else:
            socket.socket.shutdown(tls, socket.SHUT_WR)

    whole = inside(service(files.good), behave)
    with conversation(whole, scheme="tls", name="localhost", tls_ca=str(files.ca)) as talk:
        talk.run(lambda user: user.client.request("all", name="all", read=lambda c: c.read_to_end()))
        assert talk.outcomes[-1] == ("all", None if says_goodbye else "reply: closed halfway")


def test_a_line_ends_with_the_users_eol() -> None:
    with conversation(peers.answering(b"one\r\ntwo;"), eol=b";") as talk:
        assert talk.run(lambda user: user.client.request("x", read=lambda c: c.read_until())) == b"one\r\ntwo;"
        assert talk.run(lambda user: user.client.request("x")) == "one\r\ntwo"


def test_a_request_may_have_a_timeout_of_its_own() -> None:
    def slow(sock: socket.socket) -> None:
        while data := sock.recv(100):
            threading.Event().wait(0.3)
            sock.sendall(data)

    with conversation(slow, timeout=0.1) as talk:
        assert talk.run(lambda user: user.client.request("x", timeout=kit.PATIENCE)) == "x"
        assert talk.run(lambda user: user.client.request("x", name="short")) is None
        assert talk.outcomes[-1] == ("short", "reply: timed out")


MISTAKES = [struct.error, KeyError, IndexError, TypeError, AttributeError, ZeroDivisionError, AssertionError]


@pytest.mark.parametrize("error", MISTAKES)
@pytest.mark.parametrize("where", ["read", "expect"])
def test_an_exception_of_a_parser_is_a_wrong_reply_and_in_the_log_once(
    error: type[Exception], where: str, caplog: pytest.LogCaptureFixture
) -> None:
    errors._logged.clear()

    def parse(_: Any) -> Any:
        raise error

    parser: Any = {where: parse}
    with conversation(peers.capitalizing) as talk:
        for _ in range(3):
            assert talk.run(lambda user: user.client.request("word", name="word", **parser)) is None
        assert talk.outcomes == [("connect", None), ("word", "reply: wrong")] * 3
        assert len([record for record in caplog.records if record.exc_info]) == 1


@pytest.mark.parametrize("where", ["read", "expect"])
def test_an_error_of_the_service_has_the_text_that_the_parser_chose(
    where: str, caplog: pytest.LogCaptureFixture
) -> None:
    def parse(_: Any) -> Any:
        raise ServiceError("out  of\nstock" + " " * 9 + "x" * 99)

    parser: Any = {where: parse}
    with conversation(peers.capitalizing) as talk:
        assert talk.run(lambda user: user.client.request("buy", name="buy", **parser)) is None
        assert talk.outcomes == [("connect", None), ("buy", f"reply: out of stock {'x' * 47}")]
        assert not [record for record in caplog.records if record.exc_info]


@pytest.mark.parametrize("control", [StopUser, InterruptTaskSet, RescheduleTask, RescheduleTaskImmediately])
def test_what_ends_a_task_passes_through_a_parser(control: type[Exception]) -> None:
    def parse(_: Any) -> Any:
        raise control

    with conversation(peers.capitalizing) as talk:
        with pytest.raises(control):
            talk.run(lambda user: user.client.request("word", expect=parse))
        assert talk.outcomes == [("connect", None)]


def test_a_read_function_can_not_send(caplog: pytest.LogCaptureFixture) -> None:
    errors._logged.clear()

    def read(connection: Connection) -> bytes:
        first = connection.read_until()
        connection.send(b"more\n", 1.0)
        return first + connection.read_until()

    with conversation(peers.capitalizing) as talk:
        talk.run(lambda user: user.client.request("word", name="word", read=read))
        assert talk.outcomes[-1] == ("word", "reply: wrong")
        assert "a read function can't send" in caplog.text


def echoing(sock: socket.socket) -> None:
    while data := sock.recv(65536):
        sock.sendall(data)


def is_short(reply: str) -> bool:
    return len(reply) < 3


@pytest.mark.parametrize(
    ("sent", "expect", "says"),
    [
        ("hello", "HELLO", "expected 'HELLO', received 'hello'"),
        ("\x1b[2J\r", "word", r"expected 'word', received '\x1b[2J\r'"),
        ("hello", is_short, "expected one that is_short accepts, received 'hello'"),
        ("a" * 500, "b" * 500, f"expected '{'b' * 79}... (502 characters), received '{'a' * 79}... (502 characters)"),
    ],
)
def test_the_first_wrong_reply_of_each_run_is_in_the_log(
    sent: str, expect: Any, says: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert forget_wrong_replies in events.test_start._handlers
    with conversation(echoing) as talk:
        for runs in (1, 2):
            forget_wrong_replies()
            for _ in range(2):
                talk.run(lambda user: user.client.request(sent, name="word", expect=expect))
            lines = [message for message in caplog.messages if "wrong reply" in message]
            assert lines == [f"The first wrong reply of this run, to 'word': {says}"] * runs


def test_a_wrong_reply_reaches_the_listeners_with_the_host() -> None:
    with conversation(peers.capitalizing) as talk:
        assert talk.run(lambda user: user.client.request("word", name="word", expect="X")) is None
        event = talk.event("word")
        assert (event["response"], event["url"]) == ("WORD", talk.user.host)


def test_a_connection_that_was_dead_before_has_no_response_time() -> None:
    with conversation(peers.answering_once(b"HELLO\n")) as talk:
        talk.run(lambda user: user.client.request("one", name="one"))
        talk.run(lambda user: await_unread(user.client._turns.connection))
        talk.run(lambda user: user.client.request("two", name="two"))
        assert talk.outcomes[-1] == ("two", "send: closed")
        assert talk.event("two")["response_time"] is None


# TLS


def starting_tls(files: Certificates, injected: bytes = b"") -> peers.Behaviour:
    """Agree to TLS on an open connection, and answer in capitals from then on."""

    def behave(sock: socket.socket) -> None:
        assert sock.recv(100) == b"STARTTLS\n"
        sock.sendall(b"go on\n" + injected)
        inside(service(files.good), peers.capitalizing)(sock)

    return behave


def start_tls(user: Any) -> Any:
    user.client.request("STARTTLS", name="STARTTLS", expect="go on")
    return user.client.start_tls(), user.client.request("word", name="word", expect="WORD")


def test_tls_starts_on_an_open_connection(files: Certificates) -> None:
    with conversation(starting_tls(files), name="localhost", tls_ca=str(files.ca)) as talk:
        assert talk.run(start_tls) == (True, "WORD")
        names = ["connect", "STARTTLS", "starttls", "word"]
        assert talk.outcomes == [(name, None) for name in names]
        assert 0 < talk.event("starttls")["response_time"] < 1000


def test_a_certificate_that_is_not_trusted_ends_the_change_to_tls(files: Certificates) -> None:
    with conversation(starting_tls(files), name="localhost", tls_ca=str(files.other_ca)) as talk:
        assert talk.run(lambda user: (user.client.request("STARTTLS"), user.client.start_tls())) == ("go on", False)
        assert talk.outcomes[-1] == ("starttls", "starttls: certificate not trusted")
        assert talk.run(lambda user: user.client.start_tls()) is False
        assert len(talk.events) == 3, "there is no connection that could change to TLS"


def test_what_comes_in_plain_text_after_the_agreement_is_refused(files: Certificates) -> None:
    def wait_and_start(user: Any) -> Any:
        user.client.request("STARTTLS", expect="go on")
        await_unread(user.client._turns.connection)
        return user.client.start_tls()

    # As a man in the middle would say it: CVE-2011-0411. It may come with the reply or after it.
    def behave(sock: socket.socket) -> None:
        sock.recv(100)
        sock.sendall(b"go on\n")
        threading.Event().wait(PAUSE)
        sock.sendall(b"250 injected\n")
        peers.mute(sock)

    with conversation(behave, name="localhost", tls_ca=str(files.ca)) as talk:
        assert talk.run(wait_and_start) is False
        assert talk.outcomes[-1] == ("starttls", "reply: more than was asked for")


def test_a_client_shows_its_certificate(files: Certificates) -> None:
    context = service(files.good)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(files.ca)
    options: dict[str, Any] = {"scheme": "tls", "name": "localhost", "tls_ca": str(files.ca)}
    behave = inside(context, peers.capitalizing)
    with conversation(behave, **options, tls_cert=str(files.cert), tls_key=str(files.key)) as talk:
        assert talk.run(lambda user: user.client.request("word", expect="WORD")) == "WORD"
    with conversation(behave, **options, tls_cert=str(files.good)) as talk:
        assert talk.run(lambda user: user.client.request("word", expect="WORD")) == "WORD"
    with conversation(behave, **options) as talk:
        talk.run(lambda user: user.client.request("word", name="word"))
        assert talk.outcomes[0] == ("connect", None)
        assert re.fullmatch("(send|reply): client certificate refused", talk.outcomes[-1][1] or "")


@pytest.mark.parametrize(
    ("cert", "key", "reason"),
    [
        ("cert", "other_key", "the TLS key belongs to another certificate"),
        ("cert", None, "not a certificate and its private key"),
        ("good", "locked_key", "has a password"),
        (None, "key", "goes with a certificate"),
        ("nothing", None, "can't be read: No such file"),
    ],
)
def test_files_that_can_not_be_used_fail_the_connect_and_the_log_says_why(
    files: Certificates, caplog: pytest.LogCaptureFixture, cert: str | None, key: str | None, reason: str
) -> None:
    errors.warn_once.cache_clear()
    paths: Any = {"tls_cert": cert and str(getattr(files, cert, cert)), "tls_key": key and str(getattr(files, key))}
    with conversation(peers.mute, scheme="tls", **paths) as talk:
        talk.run(lambda user: user.client.request("word"))
        assert talk.outcomes == [("connect", "connect: Locust can't use its TLS files")]
        assert reason in caplog.text


def test_closing_says_goodbye(files: Certificates) -> None:
    goodbyes: list[bytes] = []

    def behave(tls: Any) -> None:
        tls.suppress_ragged_eofs = False  # the end without a goodbye raises
        while data := tls.recv(100):
            tls.sendall(data)
        goodbyes.append(data)

    with conversation(
        inside(service(files.good), behave), scheme="tls", name="localhost", tls_ca=str(files.ca)
    ) as talk:
        talk.run(lambda user: user.client.request("word"))
        talk.run(lambda user: user.client.close())
        kit.eventually(lambda: goodbyes)


def test_an_empty_eol_is_refused_with_a_sentence() -> None:
    with pytest.raises(ValueError, match="eol is empty: write what ends a line"), conversation(peers.mute, eol=b""):
        pass
