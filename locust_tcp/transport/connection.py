"""One connection to a service: the exchange and its framing. Knows nothing of Locust.

The clock of an exchange: `sent` is CLOCK_REALTIME just before the request's send call; `arrived` is
the kernel's timestamp of the reply's last byte, on the same clock; `noticed` is the clock when the
user's code resumes. The response time is `arrived - sent`; `noticed - arrived` is Locust's own lag.
stream.py takes the first two, Connection.times the third.
"""

import errno
import logging
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from locust_tcp.transport import timestamps
from locust_tcp.transport.endpoint import Endpoint
from locust_tcp.transport.errors import (
    CLOSED,
    CONNECT,
    CUT_SHORT,
    NO_FILE,
    REPLY,
    SEND,
    STARTTLS,
    TIMED_OUT,
    TOO_LONG,
    TOO_MUCH,
    WRONG,
    TcpError,
    warn_once,
)
from locust_tcp.transport.stream import CHUNK, Connected, connect
from locust_tcp.transport.tls import Tls

logger = logging.getLogger(__name__)

CLOCK_STEP = 0.001  # seconds by which the realtime clock may disagree with the monotonic one in an exchange


class Kept(NamedTuple):
    """A message that was read while another one was looked for.

    Attributes:
        message: What the `read` function has returned for it.
        arrived: When its last byte arrived, in seconds since the epoch; 0.0 if that is unknown.
        size: Its bytes.
    """

    message: Any
    arrived: float
    size: int


class Connection:
    """One connection, over which one exchange at a time is made.

    Every method that sends or reads raises TcpError. After an error only close() may be called.

    Args:
        connected: The connected stream.
        max_reply: How many bytes the reply to one request may have, and all kept messages together.
        eol: Where `read_until` stops if it is not given a separator.
        pushes: Whether the service says things unasked, which are kept for `receive`.

    Attributes:
        kernel_times: Whether to ask the kernel for its times; the same for all connections.
        connected: What connecting took.
        begun: When the exchange began, on time.perf_counter's clock.
        sent: When its request was sent, in seconds since the epoch. Its response time counts from here.
        received: Bytes of its reply that have arrived.
        kept: The messages for the next `receive`.
        is_over: Whether a reply has ended with the connection.
        on_close: Called with the connection just before it is closed.
    """

    kernel_times = timestamps.SUPPORTED

    def __init__(self, connected: Connected, max_reply: int, eol: bytes = b"\n", pushes: bool = False) -> None:
        self.connected = connected
        self.begun = self.sent = 0.0
        self.received = 0
        self.kept: list[Kept] = []
        self.is_over = False
        self.on_close: Callable[[Connection], None] | None = None
        self._stream = connected.stream
        self._stream.most_early = self._max_reply = max_reply
        self._eol = eol
        self._pushes = pushes
        self._buffer = bytearray()
        self._latest = 0.0  # when the reply may arrive, in seconds since the epoch
        self._is_new = True
        self._is_reading = self._is_listening = False

    @classmethod
    def open(
        cls, endpoint: Endpoint, timeout: float, max_reply: int, eol: bytes = b"\n", pushes: bool = False
    ) -> "Connection":
        """Connect to a service.

        Args:
            endpoint: Where the service listens.
            timeout: Seconds for the look-up, all the addresses and TLS together.
            max_reply: See the class; so are `eol` and `pushes`.
        """
        try:
            _ = endpoint.tls
        except ValueError as error:  # checked before the test starts, but a worker has files of its own
            warn_once(str(error))
            raise TcpError(CONNECT, NO_FILE) from error
        try:
            return cls(connect(endpoint, timeout, cls.kernel_times), max_reply, eol, pushes)
        except OSError as error:
            logger.debug("connecting to %s:%s: %r", endpoint.name, endpoint.port, error)
            raise TcpError.of(CONNECT, error) from error

    def send(self, payload: bytes, timeout: float, one_way: bool = False) -> None:
        """Begin an exchange: send its request.

        Args:
            payload: The request.
            timeout: Seconds for the whole exchange.
            one_way: Whether no reply is read. What has come unasked is then left for `receive`.

        Raises:
            RuntimeError: A `read` function calls it. The exchange would be several, timed as one.
        """
        if self._is_reading:
            raise RuntimeError("a read function can't send: make two requests, or a transaction of them")
        stream = self._stream
        self.received = 0
        try:
            if one_way or stream.needs_poll or self._buffer:  # of an end that goes unnoticed, no reply would tell
                self._look_for_unasked(keep=one_way or self._pushes)
            stream.send(payload, timeout)
        except OSError as error:
            if error.errno == errno.EMSGSIZE:
                raise TcpError(REPLY, TOO_LONG) from error
            raise TcpError.of(SEND, error) from error
        finally:
            self.begun, self.sent = stream.begun, stream.sent
        self._latest = self.sent + timeout

    def listen(self, timeout: float) -> bool:
        """Begin an exchange that only reads.

        Args:
            timeout: Seconds for the whole of it.

        Returns:
            Whether it reads the greeting, which counts from the end of the handshake.
        """
        self.begun, self.sent = time.perf_counter(), time.time()
        self.received = len(self._buffer)
        self._latest = self.sent + timeout
        self._stream.set_deadline(self.begun + timeout)
        self._is_listening = True
        is_greeting, self._is_new = self._is_new, False
        if is_greeting:
            self.begun -= self.sent - self.connected.at
            self.sent = self.connected.at
        return is_greeting

    def next_reply(self) -> None:
        """Go on to the next of several replies to what was sent."""
        self.received = len(self._buffer)

    def run(self, read: "Callable[[Connection], Any]") -> Any:
        """Return what a `read` function reads. Meanwhile nothing can be sent."""
        self._is_reading = True
        try:
            return read(self)
        finally:
            self._is_reading = False

    def read_until(self, separator: bytes | None = None) -> bytes:
        """Return the bytes up to and including the next `separator`; None stands for the user's `eol`."""
        separator = separator or self._eol
        if not self._buffer:
            chunk = self._receive()
            if 0 <= chunk.find(separator) == len(chunk) - len(separator):
                return chunk  # the usual case: a reply in one piece
            self._buffer += chunk
        searched = 0
        while (found := self._buffer.find(separator, searched)) < 0:
            searched = max(0, len(self._buffer) - len(separator) + 1)
            self._buffer += self._receive()
        return self._take(found + len(separator))

    def read_exactly(self, count: int) -> bytes:
        """Return the next `count` bytes."""
        if count - len(self._buffer) > self._max_reply - self.received:
            raise TcpError(REPLY, TOO_LONG)
        while len(self._buffer) < count:
            self._buffer += self._receive()
        return self._take(count)

    def read_to_end(self) -> bytes:
        """Return all bytes until the service closes its side, which ends the connection. With TLS it must say so.

        The response time ends with the last byte, not with the end itself.
        """
        while not self._stream.has_ended:
            self._buffer += self._receive(may_end=True)
        if self._stream.is_cut:
            raise TcpError(REPLY, CUT_SHORT)
        self.is_over = True
        return self._take(len(self._buffer))

    def keep(self, message: Any) -> None:
        """Keep a message that is not the reply for the next `receive`. For `read` functions, with `pushes`."""
        self.kept.append(Kept(message, self._stream.arrived, self.size))
        self.received = len(self._buffer)  # the rest belongs to the reply
        if sum(kept.size for kept in self.kept) > self._max_reply:
            raise TcpError(REPLY, TOO_LONG)

    @property
    def came_before(self) -> bool:
        """Whether the message that was read last had arrived before the request was sent."""
        return 0.0 < self._stream.arrived < self.sent

    @property
    def arrived(self) -> float:
        """When the message that was read last had arrived, in seconds since the epoch; 0.0 if that is unknown."""
        return self._stream.arrived

    @property
    def size(self) -> int:
        """The bytes of the message that was read last, or of what has come of it."""
        return self.received - len(self._buffer)

    def times(self) -> tuple[float, float | None]:
        """Return the times of the reply that has just been read.

        Returns:
            The response time and Locust's lag, in seconds. Where the kernel gives no arrival time
            (another system, the first packets after it was asked) or the clock was stepped during
            the exchange, the response time contains the lag, and the lag is None.
        """
        arrived = self._stream.arrived
        noticed = time.time()
        elapsed = time.perf_counter() - self.begun
        if not self.sent <= arrived <= noticed or abs(noticed - self.sent - elapsed) > CLOCK_STEP:
            return elapsed, None
        # What had come before the request was sent whole has waited for that, and not for Locust.
        return arrived - self.sent, noticed - arrived if arrived >= self._stream.sent_whole else 0.0

    def end(self) -> bool:
        """End the exchange. Bytes that are left over belong to no reply: TcpError, unless there may be pushes.

        Returns:
            Whether another exchange may follow.
        """
        if self._buffer and not self._pushes:
            raise TcpError(REPLY, TOO_MUCH)
        return not self.is_over

    def end_listening(self) -> None:
        """End an exchange that only reads. Bytes that are left over are for the next one."""
        self._is_listening = False

    def start_tls(self, tls: Tls, timeout: float) -> float:
        """Agree on TLS; return the seconds until the handshake's last byte arrived.

        Args:
            tls: Our side of TLS, before its handshake.
            timeout: Seconds for the handshake.
        """
        if self._stream.is_tls:
            raise RuntimeError("this connection has TLS already")
        self.begun = time.perf_counter()
        self.sent = time.time()
        self.received = 0
        try:
            # What came in plain text before must not count as protected (CVE-2011-0411).
            self._look_for_unasked(keep=False)
            self._stream.start_tls(tls, self.begun + timeout)
        except OSError as error:
            raise TcpError.of(STARTTLS, error) from error
        return self.times()[0]

    def path(self) -> timestamps.Path | None:
        """Return what the kernel knows about the network path; None where it does not say."""
        return self._stream.path()

    def close(self) -> None:
        """Close the connection."""
        if self.on_close:
            self.on_close(self)
        self._stream.close()

    def _look_for_unasked(self, keep: bool) -> None:
        """Look for what the service has said or done since the last exchange.

        Args:
            keep: Whether what it has said is left to be read. Otherwise it would be taken for the reply.
        """
        self._stream.begun, self._stream.sent = time.perf_counter(), time.time()  # stand where nothing is sent
        is_first, self._is_new = self._is_new, False
        if not self._buffer:
            unasked = self._stream.poll()
            if unasked is None:
                return
            if not unasked:
                raise TcpError(SEND, CLOSED)
            self._buffer += unasked
        self.received = len(self._buffer)
        if not keep:
            logger.debug("the service has said unasked: %.200r", bytes(self._buffer))
            if self._stream.poll() == b"":  # a goodbye, such as SMTP's 421 or PostgreSQL's FATAL, and then the end
                raise TcpError(SEND, CLOSED)
            # Chance decides whether a new connection's greeting arrives before the request or after it.
            # So both are the same failure: the greeting is not the reply.
            raise TcpError(REPLY, WRONG if is_first else TOO_MUCH)

    def _receive(self, may_end: bool = False) -> bytes:
        """Return more of the reply; wait for it, until the exchange's deadline.

        Args:
            may_end: Whether the service may close its side now.
        """
        stream = self._stream
        room = self._max_reply
        try:
            if self.received:
                stream.check_deadline()
                room -= self.received
                if room <= 0:
                    if not may_end:
                        raise TcpError(REPLY, TOO_LONG)
                    room = 1  # to see the end, or that there is more
                if stream.has_ended:  # with what was read before
                    raise TcpError(REPLY, CUT_SHORT)
            chunk = stream.receive(CHUNK if room > CHUNK else room, not self.received)
        except OSError as error:
            raise TcpError.of(REPLY, error) from error
        if not chunk:
            if stream.has_ended and not may_end:
                if self.received:
                    raise TcpError(REPLY, CUT_SHORT)
                was_dead = not self._is_listening and stream.was_refused()
                raise TcpError(SEND if was_dead else REPLY, CLOSED)
            return chunk  # a part of a TLS record, or one that is TLS's own
        if not self.sent <= stream.arrived <= self._latest:
            self._check_arrival()
        self.received += len(chunk)
        if self.received > self._max_reply:  # which a TLS record may take it to
            raise TcpError(REPLY, TOO_LONG)
        return chunk

    def _check_arrival(self) -> None:
        """Refuse what arrived before the request, or after the deadline."""
        arrived = self._stream.arrived
        if not arrived or abs((time.time() - self.sent) - (time.perf_counter() - self.begun)) > CLOCK_STEP:
            return  # the kernel gave no time, or the clock was stepped
        if arrived > self._latest:
            raise TcpError(REPLY, TIMED_OUT)
        if not (self.received or self._is_listening or self._pushes):
            raise TcpError(REPLY, TOO_MUCH)

    def _take(self, count: int) -> bytes:
        taken = bytes(self._buffer[:count])
        del self._buffer[:count]
        return taken
