"""TcpUser: a Locust user of a raw TCP service. Its client is in client.py."""

from collections.abc import Sequence
from typing import Any, Literal

import gevent
from gevent import GreenletExit
from gevent.pool import Group
from locust import User
from locust.env import Environment
from locust.user.task import LOCUST_STATE_STOPPING, LOCUST_STATE_WAITING

from locust_tcp.client import ScheduledSend, TcpClient
from locust_tcp.patches.task_set import TaskSetAttribute
from locust_tcp.transport.endpoint import Endpoint

_endpoints: dict[tuple[Any, ...], Endpoint] = {}  # shared by all users of this process


def forget_addresses(**_: Any) -> None:
    """Look every host up again: a service may have moved since the last test."""
    _endpoints.clear()


def endpoint_of(user: "TcpUser | type[TcpUser]", host: str | None) -> Endpoint:
    """Return where a user, or the users of a class, connect to. All of them share it.

    Raises:
        ValueError: With a sentence that says what is wrong with the host or with the class attributes.
    """
    if not user.eol:
        raise ValueError("eol is empty: write what ends a line, such as eol = b'\\n'")
    options = user.tls_ca, user.tls_verify, user.tls_cert, user.tls_key, tuple(user.source_addresses)
    if (host, options) not in _endpoints:
        _endpoints[host, options] = Endpoint.parse(host, *options)
    return _endpoints[host, options]


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

    tls_cert: str | None = None
    """With a tls:// host: the file of the user's own certificate (PEM), for a service that asks for one."""

    tls_key: str | None = None
    """The file of its private key (PEM). None: the key is in the file of the certificate."""

    source_addresses: Sequence[str] = ()
    """Addresses of this machine at which connections start, in turn. With each of them, it has another 28,000 or so
    ports for connections to one address of the service (ip(7), ip_local_port_range). Without, the kernel chooses."""

    pushes: bool = False
    """Whether the service says things unasked, which are kept for the next `receive`. With False they are failures."""

    direct_statistics: bool = True
    """Whether a success skips the `request` event where only Locust's statistics listen to it, and is written to them
    directly: 2 microseconds instead of 5, of the 14 that a request takes. With False, every request is an event."""

    _taskset_instance: Any = TaskSetAttribute()

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        self.client = TcpClient(self, endpoint_of(self, self.host))
        self.due: float | None = None
        self.scheduled_send: ScheduledSend | None = None

    def on_connect(self) -> None:
        """Read a greeting, or log in. Called on each new connection, before its first request.

        Each exchange here is an event of its own. After one has failed the others are not made, the
        connection is closed, and the request that wanted it makes no event.
        """

    def start(self, group: Group) -> Any:
        """Start the user's greenlet, and close its connection when that ends. Called by Locust."""
        greenlet = super().start(group)
        greenlet.rawlink(lambda _: self.client.stop())
        return greenlet

    def stop(self, force: bool = False) -> bool:
        """Stop the user: at once with `force`, else when its exchange is over. Called by Locust.

        A user that waits between two tasks is interrupted here and now. Locust's own method kills it
        in the next turn of the event loop. By then the user may be in another exchange, which the
        service counts and no event reports, or in on_stop, which would be cut off. A second call does
        nothing: Locust makes one when a run ends while it is being stopped, and its own method would
        raise an exception then.
        """
        if self._state == LOCUST_STATE_WAITING:
            self._state = LOCUST_STATE_STOPPING
            gevent.get_hub().loop.run_callback(gevent.getcurrent().switch)  # to come back from the throw
            self.greenlet.throw(GreenletExit)
            if force:
                self.greenlet.join()
            return True
        if force or self._state != LOCUST_STATE_STOPPING:
            return bool(super().stop(force))
        return False
