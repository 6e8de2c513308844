"""TcpClient: times each exchange of a TcpUser, and fires Locust's `request` event for it, once.

A reply's time is taken in transport/stream.py, by the kernel; transport/connection.py says how.
"""

import contextlib
import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from gevent import GreenletExit
from locust import exception

from locust_tcp.metrics.generator import LoadGenerator
from locust_tcp.metrics.snapshot import REQUEST_TYPE
from locust_tcp.patches.request_event import RequestEvent
from locust_tcp.transport.connection import Connection
from locust_tcp.transport.endpoint import Endpoint
from locust_tcp.transport.errors import (
    CONNECT,
    NO_FILE,
    NOT_TEXT,
    REPLY,
    SEND,
    STARTTLS,
    TIMED_OUT,
    WRONG,
    TcpError,
    log_once,
    warn_once,
)
from locust_tcp.transport.tls import Tls
from locust_tcp.turns import Scope, Turns

if TYPE_CHECKING:
    from locust_tcp.user import TcpUser

logger = logging.getLogger(__name__)

MOST_SHOWN = 80  # characters of a reply in the log: two of them are a line or two

Payload = str | bytes
Read = Callable[[Connection], Any]

# With these exceptions a task ends itself. A parser that raises one has made no mistake.
CONTROL = (
    exception.InterruptTaskSet,
    exception.RescheduleTask,
    exception.RescheduleTaskImmediately,
    exception.StopUser,
    getattr(exception, "StopTest", exception.StopUser),  # not in all releases
)


class ScheduledSend(NamedTuple):
    """When a request is due, on a schedule.

    Attributes:
        due: The time by time.perf_counter.
        gap: Seconds from one request to the next, on average.
        overdue: Whether the exchange before this one ended after the due time.
    """

    due: float
    gap: float
    overdue: bool


class TcpClient:
    """Makes a TcpUser's exchanges. Locust's users find it at `self.client`.

    Each exchange fires one `request` event, of type TCP. Without a connection, the client opens one
    first, with an event of its own named `connect`, and calls the user's `on_connect`. If one of
    the two fails, no exchange takes place. A user that is stopped meanwhile fires nothing.

    The network and the service cause failures, which are events, and no exceptions. After a failure
    the connection is closed. Greenlets that use one client take turns: an exchange each, or a
    transaction.

    The arguments mean the same in all methods:

    - `payload` is what is sent. A str is sent as UTF-8 followed by the user's `eol`, bytes as they are.
    - `name` is the row of the statistics.
    - `read` is a function of the Connection that reads one reply with `read_until`, `read_exactly`
      and `read_to_end`, and returns it. Without it the reply is a line: a str without its `eol`.
    - `expect` is the right reply, or a function of the reply that returns whether it is right. Any
      Exception that `read` or `expect` raises makes the reply wrong, and is logged once.
    - `timeout` is the number of seconds for the whole exchange; None stands for the user's.
    """

    def __init__(self, user: "TcpUser", endpoint: Endpoint) -> None:
        self._user = user
        self._endpoint = endpoint
        self._fire = RequestEvent(user, REQUEST_TYPE, user.direct_statistics).fire
        self._generator = LoadGenerator.of(user.environment)
        self._count_lag = self._generator.pending_lags.append
        self._turns = Turns(self._connect)
        self._is_over = False

    def request(
        self,
        payload: Payload,
        *,
        name: str = "request",
        expect: Any = None,
        read: Read | None = None,
        timeout: float | None = None,
    ) -> Any:
        """Send a request, and wait for its reply.

        For a success nothing but Locust's statistics may hear of, see `direct_statistics`.

        Returns:
            The reply. None where no reply came, or a wrong one.
        """
        with self._turns as connection:
            if connection is None:
                return None
            user = self._user
            reply = failure = seconds = None
            goes_on = False
            delay = self._scheduled_delay() if user.scheduled_send else 0.0
            try:
                data = payload.encode() + user.eol if isinstance(payload, str) else payload
                connection.send(data, user.timeout if timeout is None else timeout)
                reply = connection.run(read) if read else connection.read_until()
                if user.pushes:
                    reply = self._keep_early(connection, read, reply)
                seconds, lag = connection.times()
                self._count_lag(lag)
                goes_on = connection.end() and user.connection == "persistent"
                if read is None:
                    reply = reply[: -len(user.eol)].decode()
                if expect is not None and reply != expect and not (callable(expect) and expect(reply)):
                    raise _wrong(name, expect, reply)
            except Exception as error:
                failure = _failure(error)
                if seconds is None and _was_sent(failure):
                    seconds = time.perf_counter() - connection.begun
            if delay and seconds is not None:
                seconds += delay
            if goes_on and seconds is not None and failure is None and self._turns.scope is None and not user.pushes:
                # As below, in the shortest way: nearly all requests come here.
                self._fire(name, connection.sent, seconds * 1000, connection.received, reply, None)
                return reply
            self._conclude(connection, name, connection.sent, seconds, connection.size, reply, failure)
            return None if failure else reply

    def receive(
        self,
        *,
        name: str = "receive",
        read: Read | None = None,
        expect: Any = None,
        timeout: float | None = None,
        since: float | Callable[[Any], float] | None = None,
        required: bool = True,
    ) -> Any:
        """Read what the service says by itself.

        The response time of a greeting, which is the first thing on a connection, counts from the
        end of the connection's handshake. Other messages have none unless `since` gives one.

        Args:
            since: When the message was caused, in seconds since the epoch, or a function of the
                message that returns this. The response time counts from there.
            required: Whether silence is a failure. Otherwise it is no event, and the connection
                stays open. Half a message is a failure all the same.

        Returns:
            The message. None where none came, or a wrong one.
        """
        with self._turns as connection:
            if connection is None:
                return None
            user = self._user
            message = failure = seconds = None
            began = time.time()
            is_greeting = connection.listen(user.timeout if timeout is None else timeout)
            start_time = connection.sent
            size = 0
            try:
                if connection.kept:
                    message, arrived, size = connection.kept.pop(0)
                else:
                    message = connection.run(read) if read else connection.read_until()
                    arrived, size = connection.arrived, connection.size
                    noticed = time.time()
                    # A message that had come before has waited for its user, and not for Locust.
                    self._count_lag((noticed - arrived if arrived >= began else 0.0) if arrived else None)
                if is_greeting:
                    seconds, _ = connection.times()
                connection.end_listening()
                if read is None:
                    message = message[: -len(user.eol)].decode()
                if expect is not None:
                    _check(name, message, expect)
                if since is not None:
                    start_time = since(message) if callable(since) else since
                    seconds = _duration(start_time, arrived or time.time())
            except Exception as error:
                failure = _failure(error)
                if failure.how == TIMED_OUT and not required and not connection.received:  # silence
                    connection.end_listening()
                    return None
                size = connection.size
                if is_greeting and seconds is None:
                    seconds = time.perf_counter() - connection.begun
            self._conclude(connection, name, start_time, seconds, size, message, failure)
            return None if failure else message

    def send(self, payload: Payload, *, name: str = "send") -> bool:
        """Send a message that is not answered. Its event has no response time.

        Returns:
            Whether the system has taken the message. The service may not have read it yet.
        """
        with self._turns as connection:
            if connection is None:
                return False
            user = self._user
            failure = None
            if user.scheduled_send:
                self._scheduled_delay()
            try:
                connection.send(self._encoded(payload), user.timeout, one_way=True)
            except TcpError as error:
                failure = error
            self._conclude(connection, name, connection.sent, None, 0, None, failure)
            return failure is None

    def pipeline(
        self,
        payloads: Sequence[Payload],
        *,
        name: str = "request",
        read: Read | None = None,
        expect: Any = None,
        key: Callable[[Any], Any] | None = None,
        reply_key: Callable[[Any], Any] | None = None,
        timeout: float | None = None,
    ) -> list[Any]:
        """Send several requests at once, and read a reply to each. Each is an event.

        When the connection fails, each request that is not answered yet fails.

        Args:
            expect: A list or tuple has what to expect for each request. Anything else is for all.
            key: A function of a payload that returns what its reply is known by; with `reply_key`,
                which returns it for a reply. Without both, the replies are in the order of the
                requests.

        Returns:
            The replies in the order of the requests: None for each that failed.
        """
        expected = expect if isinstance(expect, list | tuple) else [expect] * len(payloads)
        keys = [key(payload) for payload in payloads] if key else list(range(len(payloads)))
        if (key is None) != (reply_key is None) or len(expected) != len(payloads) or len(set(keys)) != len(keys):
            raise ValueError("pipeline: key and reply_key go together, expect has one for each, and no key comes twice")
        replies: list[Any] = [None] * len(payloads)
        with self._turns as connection:
            if connection is None or not payloads:
                return replies
            user = self._user
            waiting = dict(zip(keys, range(len(payloads)), strict=True))
            delay = self._scheduled_delay() if user.scheduled_send else 0.0
            any_failure: TcpError | None = None
            counted = 0.0  # seconds; in a transaction the requests take as long as the last of them
            try:
                data = b"".join(map(self._encoded, payloads))
                connection.send(data, user.timeout if timeout is None else timeout)
                while waiting:
                    connection.next_reply()
                    reply = connection.run(read) if read else connection.read_until()
                    if user.pushes:
                        reply = self._keep_early(connection, read, reply)
                    taken, lag = connection.times()
                    self._count_lag(lag)
                    if len(waiting) == 1:
                        connection.end()
                    if read is None:
                        reply = reply[: -len(user.eol)].decode()
                    index = waiting.pop(reply_key(reply) if reply_key else next(iter(waiting)))
                    failure = None
                    try:
                        if expected[index] is not None:
                            _check(name, reply, expected[index])
                        replies[index] = reply
                    except Exception as error:
                        any_failure = failure = _failure(error)
                    in_transaction = self._turns.scope is not None and self._turns.scope.transaction is not None
                    seconds = taken + delay - (counted if in_transaction else 0.0)
                    counted += seconds
                    self._report(name, connection.sent, seconds, connection.size, reply, failure)
            except Exception as error:
                any_failure = _failure(error)
                failed_at = time.perf_counter() - connection.begun if _was_sent(any_failure) else None
                for _ in waiting:
                    self._report(name, connection.sent, failed_at, 0, None, any_failure)
            self._settle(connection, any_failure)
            return replies

    @contextlib.contextmanager
    def transaction(self, name: str) -> Iterator[None]:
        """Make one event of the exchanges of a with-block. Its response time is the sum of theirs.

        After the first failure the rest of the exchanges is not made, and the event has that
        failure. Exceptions that follow from it, as of code that uses the reply, end the block. An
        Exception without a failure before is one failed transaction, and goes on.

        Args:
            name: The row of the statistics.
        """
        turns = self._turns
        turns.take()
        outer = turns.scope
        if outer is not None and outer.transaction is not None:
            raise RuntimeError("a transaction in another one: their times would be counted twice")
        scope = turns.scope = Scope(name)
        scope.has_failed = outer is not None and outer.has_failed
        passes: Exception | None = None
        try:
            yield
        except CONTROL as error:
            passes = error
        except Exception as error:
            if scope.has_failed:
                logger.debug("%s: after its failure: %r", name, error)
            else:
                passes = error
                scope.failure = TcpError(REPLY, WRONG)
        except BaseException:
            turns.scope = outer
            self._turns.drop()
            turns.give()
            raise
        turns.scope = outer
        try:
            if scope.failure or (outer is None and self._user.connection == "per-request"):
                self._turns.drop()
            if scope.start_time is not None and (scope.failure or not scope.has_failed):
                self._report(name, scope.start_time, scope.seconds, scope.size, None, scope.failure)
            elif outer is not None and scope.has_failed:
                outer.has_failed = True
        finally:
            turns.give()
        if passes:
            raise passes

    def start_tls(self, *, name: str = "starttls") -> bool:
        """Start TLS on the open connection, after the service has agreed to that.

        The response time ends when the handshake's last byte has arrived. The handshake gets the
        user's `connect_timeout`. The user's `tls_ca`, `tls_verify`, `tls_cert` and `tls_key` hold.

        Returns:
            Whether the connection is protected now. False without an event where none is open.
        """
        open_one = self._turns.connection
        if open_one is None:
            return False
        with self._turns as connection:
            if connection is not open_one:  # it was closed while another greenlet had its turn
                return False
            failure = seconds = None
            try:
                tls = Tls(self._endpoint.tls_context, self._endpoint.name)
                seconds = connection.start_tls(tls, self._user.connect_timeout)
            except ValueError as error:
                warn_once(str(error))
                failure = TcpError(STARTTLS, NO_FILE)
            except TcpError as error:
                failure = error
                seconds = time.perf_counter() - connection.begun if _was_sent(error) else None
            self._conclude(connection, name, connection.sent, seconds, 0, None, failure)
            return failure is None

    def close(self) -> None:
        """Close the connection, if there is one. The next exchange opens another."""
        self._turns.take()
        self._turns.drop()
        self._turns.give()

    def stop(self) -> None:
        """Close the connection for ever: the user has ended. Greenlets that still use the client end too."""
        self._is_over = True
        self._turns.drop()

    def _connect(self) -> None:
        """Open a connection, fire an event for that, and let the user log in."""
        if self._is_over:
            raise GreenletExit
        outer = self._turns.scope
        if outer is not None and outer.transaction is None:  # on_connect has closed its own connection
            outer.has_failed = True
            return
        user = self._user
        start_time, begun = time.time(), time.perf_counter()
        try:
            connection = Connection.open(
                self._endpoint, user.connect_timeout, user.max_reply, eol=user.eol, pushes=user.pushes
            )
        except TcpError as error:
            self._fire(CONNECT, start_time, (time.perf_counter() - begun) * 1000, 0, None, error)
        else:
            self._turns.connection = connection
            self._generator.paths.watch(connection)
            if not connection.connected.by_kernel:
                self._count_lag(None)
            self._fire(CONNECT, start_time, connection.connected.seconds * 1000, 0, None, None)
            self._log_in()
        if self._turns.connection is None and outer is not None:
            outer.has_failed = True

    def _log_in(self) -> None:
        """Call the user's on_connect; close the connection if one of its exchanges fails."""
        turns, user = self._turns, self._user
        outer, scheduled = turns.scope, user.scheduled_send
        scope = turns.scope = Scope()
        user.scheduled_send = None  # the time is that of the task's request
        try:
            user.on_connect()
        except CONTROL:
            raise
        except Exception as error:
            if not scope.has_failed:
                raise
            logger.debug("on_connect: after its failure: %r", error)
        finally:
            turns.scope, user.scheduled_send = outer, scheduled
        if scope.has_failed:
            self._turns.drop()

    def _scheduled_delay(self) -> float:
        """Take the scheduled send; return the seconds by which the exchange before delays it."""
        scheduled = self._user.scheduled_send
        assert scheduled
        self._user.scheduled_send = None
        late = time.perf_counter() - scheduled.due
        self._generator.stats.observe_schedule(late, scheduled.gap)
        return late if scheduled.overdue else 0.0

    def _encoded(self, payload: Payload) -> bytes:
        return payload.encode() + self._user.eol if isinstance(payload, str) else payload

    def _keep_early(self, connection: Connection, read: Read | None, reply: Any) -> Any:
        """Keep what had come before the request was sent; return the first message that had not."""
        while connection.came_before:
            connection.keep(reply)
            reply = connection.run(read) if read else connection.read_until()
        return reply

    def _conclude(
        self,
        connection: Connection,
        name: str,
        start_time: float,
        seconds: float | None,
        size: int,
        reply: Any,
        failure: TcpError | None,
    ) -> None:
        """Close the connection if nothing may follow, and report the exchange."""
        if failure:
            logger.debug("%s: %s: %r: %.200r", name, failure, failure.__cause__, reply)
        self._settle(connection, failure)
        self._report(name, start_time, seconds, size, reply, failure)

    def _settle(self, connection: Connection, failure: TcpError | None) -> None:
        """Close the connection if nothing may follow on it."""
        if failure or connection.is_over or (self._user.connection == "per-request" and self._turns.scope is None):
            self._turns.drop()

    def _report(
        self,
        name: str,
        start_time: float,
        seconds: float | None,
        size: int,
        reply: Any,
        failure: TcpError | None,
    ) -> None:
        """Fire the event of an exchange, or add it to its transaction."""
        scope = self._turns.scope
        if scope is not None:
            scope.add(start_time, seconds, size, failure)
            if scope.transaction is not None:
                return
        milliseconds = None if seconds is None else seconds * 1000
        self._fire(name, start_time, milliseconds, size, reply, failure)


def _check(name: str, reply: Any, expect: Any) -> None:
    if reply != expect and not (callable(expect) and expect(reply)):
        raise _wrong(name, expect, reply)


_wrong_names: set[str] = set()  # the rows of this run's wrong replies


def forget_wrong_replies(**_: Any) -> None:
    """Log the next wrong reply again: a test starts."""
    _wrong_names.clear()


def _wrong(name: str, expect: Any, reply: Any) -> TcpError:
    """Return the failure of a reply that is not the expected one. The first of a run is logged."""
    if not _wrong_names:
        expected = f"one that {getattr(expect, '__name__', 'expect')} accepts" if callable(expect) else _short(expect)
        text = "The first wrong reply of this run, to %r: expected %s, received %s"
        logger.warning(text, name, expected, _short(reply))
    _wrong_names.add(name)
    return TcpError(REPLY, WRONG)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}... ({len(text):,} characters)"


def _failure(error: Exception) -> TcpError:
    """Return the failure that an exception of an exchange means. Raises those that end a task."""
    if isinstance(error, TcpError):
        return error
    if isinstance(error, CONTROL):
        raise error
    if isinstance(error, UnicodeDecodeError):
        return TcpError(REPLY, NOT_TEXT)
    log_once(f"{REPLY}: {WRONG}, because read or expect raised {type(error).__name__}: {error}", error)
    return TcpError(REPLY, WRONG)


def _was_sent(failure: TcpError) -> bool:
    """Return whether the service may have had something to do: no time passes on a dead connection."""
    return failure.what != SEND or failure.how == TIMED_OUT


def _duration(since: float, until: float) -> float | None:
    """Return the seconds from a time that a message names; None where that is not in the past."""
    if not 0 <= until - since < math.inf:
        warn_once(f"receive: since is {since - until:g} s after the arrival; the clocks of two machines may differ")
        return None
    return until - since
