"""TcpUser and its TcpClient: time each exchange, and fire Locust's `request` event for it, once.

A reply's time is taken in transport/stream.py, by the kernel; transport/connection.py says how.
"""

import logging
import time
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

from gevent.pool import Group
from locust import User
from locust.env import Environment
from locust.user.task import LOCUST_STATE_STOPPING, LOCUST_STATE_WAITING

from locust_tcp.metrics.generator import LoadGenerator
from locust_tcp.metrics.snapshot import REQUEST_TYPE
from locust_tcp.patches.request_event import RequestEvent
from locust_tcp.patches.task_set import TaskSetAttribute
from locust_tcp.transport.connection import Connection
from locust_tcp.transport.endpoint import Endpoint
from locust_tcp.transport.errors import CONNECT, NOT_TEXT, REPLY, WRONG, TcpError

logger = logging.getLogger(__name__)

DEFAULT_NAME = "request"  # the Name column of requests that were given no name

Reply = str | bytes

_endpoints: dict[tuple[str | None, str | None, bool], Endpoint] = {}  # shared by all users of this process


def forget_addresses(**_: Any) -> None:
    """Look every host up again: a service may have moved since the last test."""
    _endpoints.clear()


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
    """Makes a TcpUser's requests. Locust's users find it at `self.client`."""

    def __init__(self, user: "TcpUser") -> None:
        self._user = user
        self._fire = RequestEvent(user, REQUEST_TYPE, user.direct_statistics).fire
        self._generator = LoadGenerator.of(user.environment)
        self._count_lag = self._generator.pending_lags.append
        self._connection: Connection | None = None
        service = user.host, user.tls_ca, user.tls_verify
        if service not in _endpoints:
            _endpoints[service] = Endpoint.parse(*service)
        self._endpoint = _endpoints[service]

    def request(
        self,
        payload: Reply,
        *,
        name: str | None = None,
        expect: Reply | Callable[[Any], object] | None = None,
        read: Callable[[Connection], Reply] | None = None,
    ) -> Reply | None:
        """Send a request, wait for its reply, and fire one `request` event, of type TCP.

        For a success nothing but Locust's statistics may hear of, see `direct_statistics`.

        Without a connection, open one first, with an event of its own named `connect`; if that
        fails, no exchange takes place. A user that is stopped meanwhile fires nothing.

        Args:
            payload: The request. A str is sent as UTF-8 followed by the user's `eol`, bytes as
                they are.
            name: The row of the statistics that the exchange counts for.
            expect: The right reply, or a function of the reply that returns whether it is right.
            read: A function that reads one reply with the Connection's `read_until` and
                `read_exactly`, and returns str or bytes. A ValueError that it raises is a wrong
                reply. Without `read` the reply is one line.

        Returns:
            The reply; a line is a str without its `eol`. None where no reply came, or a wrong one.
            The network and the service cause failures, which are events, and no exceptions.
        """
        connection = self._connection or self._connect()
        if connection is None:
            return None
        user = self._user
        data = payload.encode() + user.eol if isinstance(payload, str) else payload
        reply: Reply | None = None
        failure: TcpError | None = None
        taken: float | None = None  # seconds, once there is a reply
        delay = self._scheduled_delay() if user.scheduled_send else 0.0
        try:
            connection.send(data, user.timeout)
            reply = read(connection) if read else connection.read_until(user.eol)
            taken, lag = connection.times()
            self._count_lag(lag)
            connection.end()
            if read is None and isinstance(reply, bytes):
                reply = reply[: -len(user.eol)].decode()
            if expect is not None and reply != expect and not (callable(expect) and expect(reply)):
                logger.debug("%s: not the expected reply: %.200r", name, reply)
                raise TcpError(REPLY, WRONG)
        except TcpError as error:
            logger.debug("%s: %s: %r", name, error, error.__cause__)
            failure = error
        except UnicodeDecodeError:
            failure = TcpError(REPLY, NOT_TEXT)
        except ValueError as error:
            logger.debug("%s: %r", name, error)
            failure = TcpError(REPLY, WRONG)
        except BaseException:
            self.close()  # a stopped user, or a mistake in the locustfile: no event
            raise
        if taken is None:
            taken = time.perf_counter() - connection.begun
        if failure:
            reply = None
        if failure or user.connection == "per-request":
            self.close()
        time_taken = (delay + taken) * 1000
        self._fire(name or DEFAULT_NAME, connection.sent, time_taken, connection.received, reply, failure)
        return reply

    def close(self) -> None:
        """Close the connection, if there is one. The next request opens another."""
        if self._connection:
            self._connection.close()
            self._connection = None

    def _scheduled_delay(self) -> float:
        """Take the scheduled send; return the seconds by which the exchange before delays it."""
        scheduled = self._user.scheduled_send
        assert scheduled
        self._user.scheduled_send = None
        late = time.perf_counter() - scheduled.due
        self._generator.stats.observe_schedule(late, scheduled.gap)
        return late if scheduled.overdue else 0.0

    def _connect(self) -> Connection | None:
        """Open a connection and fire an event for that."""
        user = self._user
        failure = None
        start_time = time.time()
        begun = time.perf_counter()
        try:
            self._connection = Connection.open(self._endpoint, user.connect_timeout, user.max_reply)
        except TcpError as error:
            failure = error
        taken = self._connection.connect_time if self._connection else time.perf_counter() - begun
        self._fire(CONNECT, start_time, taken * 1000, 0, None, failure)
        return self._connection


class TcpUser(User):
    """A Locust user of a raw TCP service. Subclass it, set `host`, write tasks.

    The class attributes below are its configuration.

    Attributes:
        client: Makes the user's requests.
        due: On a schedule, when the last task was due, by time.perf_counter.
        scheduled_send: On a schedule, when the next request is due; that request takes it.
    """

    abstract = True

    eol: bytes = b"\n"
    """Ends a request that is given as str, and the line that is read as its reply."""

    timeout: float = 5.0
    """Seconds for a whole exchange, however slowly a reply drips in."""

    connect_timeout: float = 5.0
    """Seconds for the look-up of the name, connecting and TLS. Two lost SYNs delay a connect by 3 s
    (RFC 6298)."""

    connection: Literal["persistent", "per-request"] = "persistent"
    """How long a connection lives: as long as its user, or for one request."""

    max_reply: int = 1024 * 1024
    """Bytes that the reply to one request may have: one without end must not fill the memory."""

    tls_ca: str | None = None
    """With a tls:// host: a file of authorities (PEM), one of which has signed the service's
    certificate. None: those that the system trusts, or the environment's SSL_CERT_FILE."""

    tls_verify: bool = True
    """With a tls:// host: whether the service's certificate has to be trusted and for its name."""

    direct_statistics: bool = True
    """Whether a success skips the `request` event where only Locust's statistics listen to it, and is written to them
    directly: 2 microseconds instead of 5, of the 14 that a request takes. With False, every request is an event."""

    _taskset_instance: Any = TaskSetAttribute()

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        self.client = TcpClient(self)
        self.due: float | None = None
        self.scheduled_send: ScheduledSend | None = None

    def start(self, group: Group) -> Any:
        """Start the user's greenlet, and close its connection when that ends. Called by Locust."""
        greenlet = super().start(group)
        greenlet.rawlink(lambda _: self.client.close())
        return greenlet

    def stop(self, force: bool = False) -> bool:
        """Stop the user: at once with `force`, else when its exchange is over. Called by Locust.

        Locust kills a user that waits between two tasks, but only in the next turn of the event
        loop. Meanwhile the user may begin another exchange, which the service counts and no event
        reports. So it is marked as stopping here, and ends by itself when its wait is over. A
        second call does nothing, because Locust's own would end in a traceback: it makes one when a
        run ends while it is being stopped.
        """
        if self._state == LOCUST_STATE_STOPPING and not force:
            return False
        if force or self._state != LOCUST_STATE_WAITING:
            return bool(super().stop(force))
        self._state = LOCUST_STATE_STOPPING
        self.group.killone(self.greenlet)
        return True
