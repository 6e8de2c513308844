"""One TCP connection to a service: deadlines, framing, arrival times. Knows nothing of Locust.

The clock: `sent` is CLOCK_REALTIME just before the request's send call; `arrived` is the kernel's own
timestamp of the reply's last byte, on the same clock; `noticed` is the clock when the user's code got
its turn again. The service took `arrived - sent`; `noticed - arrived` is Locust's own lag.
"""

import contextlib
import errno
import functools
import logging
import platform
import ssl
import struct
import sys
import time
from typing import Any

import gevent
import gevent.monkey
from gevent import socket

from locust_tcp.transport.endpoint import Address, Endpoint
from locust_tcp.transport.errors import (
    CLOSED,
    CONNECT,
    CUT_SHORT,
    NO_CA,
    REPLY,
    RESET,
    TIMED_OUT,
    TOO_LONG,
    TOO_MUCH,
    WRONG,
    TcpError,
    warn_once,
)
from locust_tcp.transport.tls import Tls

logger = logging.getLogger(__name__)

CHUNK = 16 * 1024  # bytes asked of the kernel at a time
CLOCK_STEP = 0.001  # seconds by which the realtime clock may disagree with the monotonic one in an exchange

# From Linux's net_tstamp.h and socket.h (Documentation/networking/timestamping.rst), for the processors
# that number the option like this and have 64-bit times.
TIMESTAMPING_MACHINES = {"x86_64", "aarch64", "ppc64le", "riscv64", "s390x"}
SO_TIMESTAMPING = 37
SOF_TIMESTAMPING_RX_SOFTWARE = 1 << 3
SOF_TIMESTAMPING_SOFTWARE = 1 << 4
TIMESTAMPS = struct.Struct("=qq32x")  # three timespecs, of which the first is the software timestamp
ANCILLARY = socket.CMSG_SPACE(TIMESTAMPS.size)


@functools.cache
def keep_arrival_times() -> socket.socket:
    """Have the kernel give arrival times for as long as this process lives.

    By itself it ends that with the last socket that has asked for them, and begins again only some
    milliseconds after the next one asks. So one that never does anything else asks, too.
    """
    keeper = socket.socket()
    with contextlib.suppress(OSError):
        _ask_for_arrival_times(keeper)
    return keeper


def _ask_for_arrival_times(sock: socket.socket) -> None:
    flags = SOF_TIMESTAMPING_RX_SOFTWARE | SOF_TIMESTAMPING_SOFTWARE
    sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPING, flags)


Socket: Any = gevent.monkey.get_original("socket", "socket")  # gevent's own does more than we need, each time


class Connection:
    """One connection, over which one exchange at a time is made.

    Arguments: a connected gevent socket, and how many bytes the reply to one request may have.
    Every method that waits raises TcpError. After one the connection is of no use but to `close`.
    """

    kernel_times = sys.platform == "linux" and platform.machine() in TIMESTAMPING_MACHINES
    """Whether to ask the kernel when replies arrive."""

    def __init__(self, sock: socket.socket, max_reply: int, tls: Tls | None = None) -> None:
        self.connect_time = 0.0
        """Seconds that connecting took, without the look-up of the name."""
        self._sock = sock
        self._tls = tls
        self._max_reply = max_reply
        self._buffer = bytearray()
        self._timeout = self._deadline = 0.0
        self._was_reset = False
        self.sent = self.begun = 0.0
        """When the exchange began, on the clocks of time.time and time.perf_counter."""
        self._arrived = 0.0  # as the kernel says; 0 where it says nothing
        self.received = 0
        """Bytes of this exchange's reply that have arrived."""
        sock.setblocking(False)
        if self.kernel_times:
            with contextlib.suppress(OSError):
                _ask_for_arrival_times(sock)
        # The watcher lives as long as the connection, and the timer comes round every now and then: to have others
        # for each exchange, as gevent's own sockets do, takes a third of all the time that an exchange takes us.
        self._hub = gevent.get_hub()
        self._waiter: Any = None  # the greenlet that waits for the socket
        self._timer: Any = None
        self._timer_ends = 0.0
        self._watcher = self._hub.loop.io(sock.fileno(), 1)  # to read
        self._is_watching = False
        self._is_new = True
        self._is_unsure = True
        """Whether something may be there to be read that is not the reply to what is sent next."""

    @classmethod
    def open(cls, endpoint: Endpoint, timeout: float, max_reply: int) -> "Connection":
        """Connect to the first of the endpoint's addresses that answers.

        `timeout` in seconds is for the look-up, all the addresses and TLS together. Raises TcpError.
        """
        try:
            tls = endpoint.tls
        except ValueError as error:  # known before the test, but for a worker, which has files of its own
            warn_once(str(error))
            raise TcpError(CONNECT, NO_CA) from error
        try:
            with gevent.Timeout(timeout, TimeoutError()):
                failure: OSError = ConnectionRefusedError(errno.ECONNREFUSED, "no address")
                addresses = list(endpoint.addresses())
                begun = time.perf_counter()
                for address in addresses:
                    try:
                        sock, was_reset = _connected(address)
                    except TimeoutError:
                        raise
                    except OSError as error:
                        failure = error
                    else:
                        endpoint.worked(address)
                        connection = cls(sock, max_reply, Tls(tls, endpoint.name) if tls else None)
                        connection._was_reset = was_reset  # for the exchange to find, as a later one is
                        connection._shake_hands()
                        connection.connect_time = time.perf_counter() - begun
                        return connection
                raise failure
        except OSError as error:
            logger.debug("connecting to %s:%s: %r", endpoint.name, endpoint.port, error)
            raise TcpError.of(CONNECT, error) from error

    def _shake_hands(self) -> None:
        """Agree on TLS, where there is to be any. Raises OSError, of which ssl.SSLError is one."""
        if self._tls is None:
            return
        try:
            if self._was_reset:
                raise ConnectionResetError(errno.ECONNRESET, "reset before the handshake")
            while not self._tls.shake_hands():
                self._send_all(self._tls.to_send())
                self._watch()
                self._wait()
                received = self._sock.recv(CHUNK)
                if not received:
                    raise ssl.SSLEOFError(ssl.SSL_ERROR_EOF, "closed during the handshake")
                self._tls.received(received)
            self._send_all(self._tls.to_send())
        except BaseException as error:
            if isinstance(error, ssl.SSLError):
                with contextlib.suppress(OSError):
                    self._sock.send(self._tls.to_send())  # why, for the service's log
            self.close()
            raise

    def send(self, payload: bytes, timeout: float) -> None:
        """Begin an exchange: send its request. `timeout` in seconds is for the whole exchange."""
        self.received = 0
        self.begun = time.perf_counter()
        self._timeout = timeout
        self._deadline = self.begun + timeout
        if self._timer is None or self._deadline < self._timer_ends:
            self._set_timer(timeout)
        try:
            if self._is_unsure:
                self.sent = time.time()
                self._expect_silence()
            if self._tls:
                payload = self._tls.encrypt(payload)
            self.sent = time.time()
            self._send_all(payload)
        except OSError as error:
            raise TcpError.of(REPLY, error) from error

    def _send_all(self, data: bytes) -> None:
        """Send, and wait where the system takes no more."""
        sent = 0
        while sent < len(data):
            try:
                sent += self._sock.send(memoryview(data)[sent:] if sent else data)
            except BlockingIOError:
                self._is_watching = False  # what comes meanwhile is read when all is sent
                self._watcher.stop()
                watcher = self._hub.loop.io(self._sock.fileno(), 2)  # to write
                try:
                    watcher.start(self._wake)
                    self._wait()
                finally:
                    watcher.close()

    def _wait(self) -> None:
        """Give the others their turn until the socket is ready, or the deadline is over."""
        if self._timer is None and self._deadline:  # a handshake has none: its time is that of the whole connect
            self._set_timer(self._left())
        self._waiter = gevent.getcurrent()
        try:
            self._hub.switch()
        finally:
            self._waiter = None

    def _watch(self) -> None:
        """Have the event loop look for something to read."""
        if not self._is_watching:
            self._is_watching = True
            self._watcher.start(self._wake)

    def _wake(self) -> None:
        """Called by the event loop when the socket is ready."""
        if self._waiter is not None:
            self._waiter.switch()
        else:  # nobody waits for it: it comes unasked, or a reply's reader is busy with something else
            self._is_unsure = True
            self._is_watching = False
            self._watcher.stop()

    def _set_timer(self, seconds: float) -> None:
        # Always a new one: libev's that is started again goes on with what was left of it.
        if self._timer is not None:
            self._timer.close()
        self._timer_ends = time.perf_counter() + seconds
        self._timer = self._hub.loop.timer(seconds)
        self._timer.start(self._look_at_the_clock)

    def _look_at_the_clock(self) -> None:
        """Called by the event loop: end the wait if its deadline is over, or else come back then."""
        self._timer.close()
        self._timer = None
        if self._waiter is None:  # the next wait sets it again
            return
        left = self._deadline - time.perf_counter()
        if left > 0:
            self._set_timer(left)
        else:  # who finds nothing there then, waits no longer
            self._waiter.switch()

    def _expect_silence(self) -> None:
        """Make sure that what is read next is the reply to what is sent next."""
        is_first, self._is_new = self._is_new, False
        if self._was_reset:
            raise TcpError(REPLY, RESET)
        if self._tls and self._tls.has_ended:  # with the last reply
            raise TcpError(REPLY, CLOSED)
        while True:
            try:
                unasked = self._sock.recv(CHUNK)
            except BlockingIOError:
                # From now on the event loop says when something comes. That is not enough where it may be TLS's
                # own business, nor where no arrival time tells what came in the last turn of the loop.
                self._is_unsure = self._tls is not None or not self.kernel_times
                self._watch()
                return
            if unasked and self._tls:
                unasked = self._tls.decrypt(unasked)
                if not unasked and not self._tls.has_ended:
                    continue  # TLS's own business, such as a ticket for the next session
            if not unasked:
                raise TcpError(REPLY, CLOSED)
            logger.debug("before it was asked, the service said %.200r", unasked)
            # Whether a new connection's first word comes before the request or after it is chance, and no
            # reason to call it another failure: it is not the reply.
            raise TcpError(REPLY, WRONG if is_first else TOO_MUCH)

    def read_until(self, separator: bytes = b"\n") -> bytes:
        """Return the bytes up to and including the next `separator`."""
        if not self._buffer:
            chunk = self._receive()
            if 0 <= chunk.find(separator) == len(chunk) - len(separator):
                return chunk  # which is what mostly comes: a reply in one piece
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
        """Return the response time of the reply that has just been read, and Locust's lag, in seconds.

        Where the kernel has not said when the reply arrived (another system, the first packets after
        the option is switched on), or the clock was stepped meanwhile, the response time is the
        user's own, lag included, and the lag is None.
        """
        noticed = time.time()
        elapsed = time.perf_counter() - self.begun
        if not self.sent <= self._arrived <= noticed or abs(noticed - self.sent - elapsed) > CLOCK_STEP:
            return elapsed, None
        return self._arrived - self.sent, noticed - self._arrived

    def end(self) -> None:
        """End the exchange. Bytes that are left over are nobody's reply: TcpError."""
        if self._buffer:
            raise TcpError(REPLY, TOO_MUCH)

    def close(self) -> None:
        """Close the socket."""
        self._watcher.close()
        if self._timer is not None:
            self._timer.close()
            self._timer = None
        self._sock.close()

    def _take(self, count: int) -> bytes:
        taken = bytes(self._buffer[:count])
        del self._buffer[:count]
        return taken

    def _left(self) -> float:
        """Return the seconds until the exchange's deadline."""
        left = self._deadline - time.perf_counter()
        if left <= 0:
            raise TcpError(REPLY, TIMED_OUT)
        return left

    def _read(self, most: int) -> bytes:
        """Read what is there, and take note of when it arrived. Raises OSError."""
        if not self.kernel_times:
            return self._sock.recv(most)
        chunk, ancillary, _, _ = self._sock.recvmsg(most, ANCILLARY)
        self._arrived = 0.0
        for _, kind, content in ancillary:
            if kind == SO_TIMESTAMPING:
                seconds, nanoseconds = TIMESTAMPS.unpack(content)
                self._arrived = seconds + nanoseconds * 1e-9
        return chunk

    def _check_arrival(self) -> None:
        """Refuse what has arrived before the request, or after the deadline."""
        if not self._arrived or abs((time.time() - self.sent) - (time.perf_counter() - self.begun)) > CLOCK_STEP:
            return  # the kernel said nothing, or somebody has set the clock
        if self._arrived - self.sent > self._timeout:
            raise TcpError(REPLY, TIMED_OUT)
        if not self.received:
            raise TcpError(REPLY, TOO_MUCH)

    def _receive(self) -> bytes:
        """Return more of the reply; wait for it, until the exchange's deadline."""
        self._watch()
        room = self._max_reply
        if self.received:
            self._left()
            room -= self.received
            if room <= 0:
                raise TcpError(REPLY, TOO_LONG)
            if self._tls and self._tls.has_ended:  # with what was read before
                raise TcpError(REPLY, CUT_SHORT)
        else:
            self._wait()  # a look before that would find nothing
        try:
            while True:
                try:
                    chunk = self._read(CHUNK if room > CHUNK else room)
                    break
                except BlockingIOError:
                    self._wait()
            if self._tls and chunk:
                chunk = self._tls.decrypt(chunk)
                if not chunk and not self._tls.has_ended:
                    return b""  # a part of a record, or TLS's own business
        except OSError as error:
            raise TcpError.of(REPLY, error) from error
        if not chunk:
            raise TcpError(REPLY, CUT_SHORT if self.received else CLOSED)
        if not 0 <= self._arrived - self.sent <= self._timeout:
            self._check_arrival()
        self.received += len(chunk)
        if self.received > self._max_reply:  # which a record of TLS may take it to
            raise TcpError(REPLY, TOO_LONG)
        return chunk


def _connected(address: Address) -> tuple[socket.socket, bool]:
    """Return a socket connected to a numeric address, and whether it has been reset since. Raises OSError."""
    family, where = address
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # the end of a long request must not wait
        was_reset = False
        try:
            sock.connect(where)
        except ConnectionResetError:  # after the handshake: before it, a reset is a refusal
            was_reset = True
        if sock.getsockname()[:2] == where[:2]:
            # Nobody listens on this port, but the kernel chose it for our own end (RFC 9293, 3.5). An
            # orderly close would keep the port for a minute, and the service from starting there.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            raise ConnectionRefusedError(errno.ECONNREFUSED, "connected to itself")
    except BaseException:
        sock.close()
        raise
    return Socket(fileno=sock.detach()), was_reset
