"""One connection to a service: the exchange and its framing. Knows nothing of Locust.

The clock of an exchange: `sent` is CLOCK_REALTIME just before the request's send call; `arrived` is
the kernel's timestamp of the reply's last byte, on the same clock; `noticed` is the clock when the
user's code resumes. The response time is `arrived - sent`; `noticed - arrived` is Locust's own lag.
stream.py takes the first two, Connection.times the third.
"""

import logging
import time

from locust_tcp.transport import timestamps
from locust_tcp.transport.endpoint import Endpoint
from locust_tcp.transport.errors import (
    CLOSED,
    CONNECT,
    CUT_SHORT,
    NO_CA,
    REPLY,
    TIMED_OUT,
    TOO_LONG,
    TOO_MUCH,
    WRONG,
    TcpError,
    warn_once,
)
from locust_tcp.transport.stream import CHUNK, Stream, connect

logger = logging.getLogger(__name__)

CLOCK_STEP = 0.001  # seconds by which the realtime clock may disagree with the monotonic one in an exchange


class Connection:
    """One connection, over which one exchange at a time is made.

    Every method that sends or reads raises TcpError. After an error only close() may be called.

    Args:
        stream: The connection's bytes.
        max_reply: How many bytes the reply to one request may have.

    Attributes:
        kernel_times: Whether to ask the kernel when replies arrive; the same for all connections.
        connect_time: Seconds that connecting took, without the look-up of the name.
        begun: When the exchange began, on time.perf_counter's clock.
        sent: When its request was sent, in seconds since the epoch.
        received: Bytes of its reply that have arrived.
    """

    kernel_times = timestamps.SUPPORTED

    def __init__(self, stream: Stream, max_reply: int) -> None:
        self._stream = stream
        self._max_reply = max_reply
        self._buffer = bytearray()
        self._timeout = 0.0
        self._is_new = True
        self.connect_time = stream.connect_time
        self.begun = self.sent = 0.0
        self.received = 0

    @classmethod
    def open(cls, endpoint: Endpoint, timeout: float, max_reply: int) -> "Connection":
        """Connect to a service.

        Args:
            endpoint: Where the service listens.
            timeout: Seconds for the look-up, all the addresses and TLS together.
            max_reply: How many bytes the reply to one request may have.
        """
        try:
            _ = endpoint.tls
        except ValueError as error:  # checked before the test starts, but a worker has files of its own
            warn_once(str(error))
            raise TcpError(CONNECT, NO_CA) from error
        try:
            return cls(connect(endpoint, timeout, cls.kernel_times), max_reply)
        except OSError as error:
            logger.debug("connecting to %s:%s: %r", endpoint.name, endpoint.port, error)
            raise TcpError.of(CONNECT, error) from error

    def send(self, payload: bytes, timeout: float) -> None:
        """Begin an exchange: send its request.

        Args:
            payload: The request.
            timeout: Seconds for the whole exchange.
        """
        stream = self._stream
        self.received = 0
        self._timeout = timeout
        self.begun = begun = time.perf_counter()
        try:
            if stream.needs_poll:
                self._refuse_unasked()
            stream.send(payload, begun + timeout)
        except OSError as error:
            raise TcpError.of(REPLY, error) from error
        finally:
            self.sent = stream.sent

    def read_until(self, separator: bytes = b"\n") -> bytes:
        """Return the bytes up to and including the next `separator`."""
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
        return arrived - self.sent, noticed - arrived

    def end(self) -> None:
        """End the exchange. Bytes that are left over belong to no reply: TcpError."""
        if self._buffer:
            raise TcpError(REPLY, TOO_MUCH)

    def close(self) -> None:
        """Close the connection."""
        self._stream.close()

    def _refuse_unasked(self) -> None:
        """Make sure that what is read next is the reply to what is sent next."""
        self._stream.sent = time.time()  # stands where nothing is sent
        unasked = self._stream.poll()
        is_first, self._is_new = self._is_new, False
        if unasked is None:
            return
        if not unasked:
            raise TcpError(REPLY, CLOSED)
        logger.debug("the service has said unasked: %.200r", unasked)
        # Chance decides whether a new connection's greeting arrives before the request or after it.
        # So both are the same failure: the greeting is not the reply.
        raise TcpError(REPLY, WRONG if is_first else TOO_MUCH)

    def _receive(self) -> bytes:
        """Return more of the reply; wait for it, until the exchange's deadline."""
        stream = self._stream
        room = self._max_reply
        try:
            if self.received:
                stream.check_deadline()
                room -= self.received
                if room <= 0:
                    raise TcpError(REPLY, TOO_LONG)
                if stream.has_ended:  # with what was read before
                    raise TcpError(REPLY, CUT_SHORT)
            chunk = stream.receive(CHUNK if room > CHUNK else room, not self.received)
        except OSError as error:
            raise TcpError.of(REPLY, error) from error
        if not chunk:
            if stream.has_ended:
                raise TcpError(REPLY, CUT_SHORT if self.received else CLOSED)
            return chunk  # a part of a TLS record, or one that is TLS's own
        if not 0 <= stream.arrived - self.sent <= self._timeout:
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
        if arrived - self.sent > self._timeout:
            raise TcpError(REPLY, TIMED_OUT)
        if not self.received:
            raise TcpError(REPLY, TOO_MUCH)

    def _take(self, count: int) -> bytes:
        taken = bytes(self._buffer[:count])
        del self._buffer[:count]
        return taken
