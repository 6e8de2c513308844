"""A connected socket in gevent: connecting, TLS, sending and receiving, waits and deadlines.

It knows no framing and no exchange. The two ends of a response time are taken here: `sent` in
Stream.send, `arrived` in Stream.receive.
"""

import contextlib
import errno
import ssl
import struct
import sys
import time
from dataclasses import dataclass
from typing import Any, NamedTuple

import gevent
import gevent.monkey
from gevent import socket

from locust_tcp.transport import timestamps
from locust_tcp.transport.endpoint import Address, Endpoint
from locust_tcp.transport.errors import SourceAddressError
from locust_tcp.transport.tls import Tls

CHUNK = 16 * 1024  # bytes that one read asks for
OURS = (errno.EMFILE, errno.ENFILE)  # no address is to blame for these
IP_BIND_ADDRESS_NO_PORT = 24  # from Linux's in.h: connect() chooses the port, so that two destinations may share one

# The waits are ours: with gevent's own sockets each call would cost more.
PlainSocket: Any = gevent.monkey.get_original("socket", "socket")


class _Early(NamedTuple):
    """What was read before a send was complete: as `Stream.receive` returns it, with what it sets then."""

    data: bytes
    arrived: float
    has_ended: bool
    is_cut: bool


class Stream:
    """One TCP connection, with TLS from `start_tls` on, used by one greenlet at a time.

    Every method that sends or receives raises OSError: TimeoutError after the deadline,
    ssl.SSLError where TLS fails. After an error only close() may be called.

    Args:
        sock: A connected socket. The stream closes it.
        kernel_times: Whether to ask the kernel for arrival times.

    Attributes:
        begun: When the last send began, on time.perf_counter's clock.
        sent: The same moment in seconds since the epoch.
        sent_whole: When the last send that had to wait ended, in seconds since the epoch.
        most_early: How many bytes to read while a send is not complete yet. What is more is left in the kernel.
        arrived: When the last bytes received arrived, on the same clock; 0.0 where the kernel gives
            no time.
        has_ended: Whether the peer has closed its side.
        is_cut: Whether it did so without TLS's goodbye (close_notify): what came before may be incomplete.
        was_reset: Whether the peer has reset the connection already.
        needs_poll: Whether something may have arrived that the event loop has not reported.
    """

    def __init__(self, sock: Any, kernel_times: bool = timestamps.SUPPORTED) -> None:
        self.begun = self.sent = self.sent_whole = self.arrived = 0.0
        self.most_early = CHUNK
        self.has_ended = self.is_cut = self.was_reset = False
        self.needs_poll = True
        sock.setblocking(False)
        if kernel_times:
            timestamps.ask_for_arrival_times(sock)
        self._sock = sock
        self._tls: Tls | None = None
        self._kernel_times = kernel_times
        self._receive = timestamps.receive if kernel_times else timestamps.receive_untimed
        self._early: list[_Early] = []
        # One watcher lives as long as the connection, and one timer serves many exchanges. With
        # new ones for each, as gevent's sockets have them, an exchange takes half as long again.
        self._hub = gevent.get_hub()
        self._watcher = self._hub.loop.io(sock.fileno(), 1)  # 1: to read
        self._is_watching = False
        self._waiter: Any = None  # the greenlet that waits for the socket
        self._deadline = self._timer_ends = 0.0  # on time.perf_counter's clock
        self._timer: Any = None

    @property
    def is_tls(self) -> bool:
        """Whether TLS was started."""
        return self._tls is not None

    def start_tls(self, tls: Tls, deadline: float) -> None:
        """Agree on TLS. `sent` is then when that began, and `arrived` when the handshake's last byte arrived.

        Args:
            tls: Our side of TLS, before its handshake.
            deadline: By time.perf_counter.
        """
        self.set_deadline(deadline)
        self._tls = tls
        self.needs_poll = True
        begun = time.time()
        try:
            while not tls.shake_hands():
                self._send_all(tls.to_send())
                tls.received(self._handshake_bytes())
            self._send_all(tls.to_send())
        except ssl.SSLError:
            with contextlib.suppress(OSError):
                self._sock.send(tls.to_send())  # the reason, for the service's log
            raise
        finally:
            self.sent = begun

    def set_deadline(self, deadline: float) -> None:
        """Set the deadline of what is received from now on, by time.perf_counter."""
        self._deadline = deadline
        if self._timer is None or deadline < self._timer_ends:
            self._set_timer()

    def send(self, data: bytes, timeout: float) -> None:
        """Send data.

        Args:
            data: The data. All of it is sent; the peer need not have read it.
            timeout: Seconds. They hold until the next send, for receiving too.
        """
        if self._tls:
            data = self._tls.encrypt(data)
        # Side by side: what passes between them looks like a step of the clock.
        self.begun, self.sent = time.perf_counter(), time.time()
        self._deadline = deadline = self.begun + timeout  # as set_deadline, which each exchange would have to call
        if self._timer is None or deadline < self._timer_ends:
            self._set_timer()
        try:
            sent = self._sock.send(data)
        except BlockingIOError:
            sent = 0
        if sent < len(data):
            self._send_all(data[sent:], self.most_early)
            self.sent_whole = time.time()

    def receive(self, most: int, wait: bool) -> bytes:
        """Return what has arrived; wait where nothing has.

        Args:
            most: How many bytes to read from the network at most.
            wait: Whether to wait before the first read, because it would find nothing.

        Returns:
            The data. It is empty where the peer has closed its side, which sets `has_ended`, and
            where no TLS record of data is complete yet.
        """
        if self._early:
            return self._take_early()
        if not self._is_watching:
            self._watch()
        if wait:
            self._wait()
        while True:
            try:
                received, arrived = self._receive(self._sock, most)
                break
            except BlockingIOError:
                self._wait()
        if received:  # the peer's end has no time of its own
            self.arrived = arrived
        return self._decrypted(received) if self._tls or not received else received

    def poll(self) -> bytes | None:
        """Return what has arrived without waiting: None for nothing, b"" for the peer's end."""
        if self.was_reset:
            raise ConnectionResetError(errno.ECONNRESET, "reset before it was used")
        if self._early:
            return self._take_early()
        while not self.has_ended:
            try:
                received, self.arrived = self._receive(self._sock, CHUNK)
            except BlockingIOError:
                # From now on the event loop reports what arrives. That is not enough with TLS,
                # whose own messages arrive unasked, nor without arrival times, which show what
                # arrived before the request but after the loop's last look.
                self.needs_poll = self._tls is not None or not self._kernel_times
                self._watch()
                return None
            if data := self._decrypted(received):
                return data
        return b""

    def check_deadline(self) -> None:
        """Raise TimeoutError after the deadline."""
        if time.perf_counter() >= self._deadline:
            raise TimeoutError(errno.ETIMEDOUT, "the deadline is over")

    def was_refused(self) -> bool:
        """Return whether the peer had closed the connection before it got what was sent, as far as is known yet."""
        return timestamps.was_refused(self._sock)

    def path(self) -> timestamps.Path | None:
        """Return what the kernel knows about the network path; None where it does not say."""
        return timestamps.path(self._sock) if self._kernel_times else None

    def close(self) -> None:
        """Close the connection. A greenlet that waits for it ends, without a failure: it was stopped."""
        if self._tls:
            with contextlib.suppress(OSError):
                self._sock.send(self._tls.goodbye())
        if self._waiter is not None:
            self._hub.loop.run_callback(self._waiter.throw, gevent.GreenletExit)
        self._watcher.close()
        if self._timer is not None:
            self._timer.close()
            self._timer = None
        self._sock.close()

    def _handshake_bytes(self) -> bytes:
        """Wait for more of the peer's handshake."""
        while True:
            self._watch()
            self._wait()
            with contextlib.suppress(BlockingIOError):
                received, self.arrived = self._receive(self._sock, CHUNK)
                if received:
                    return received
                raise ssl.SSLEOFError(ssl.SSL_ERROR_EOF, "closed during the handshake")

    def _decrypted(self, received: bytes) -> bytes:
        """Return the data in what was received, and note the peer's end."""
        if self._tls and received:
            received = self._tls.decrypt(received)
            self.has_ended = self._tls.has_ended
        elif not received:
            self.has_ended = self.needs_poll = True  # the next poll reports the end
            self.is_cut = self._tls is not None
        return received

    def _send_all(self, data: bytes, most_early: int = 0) -> None:
        """Send, and wait where the kernel takes no more.

        Read meanwhile: a peer that answers while it reads may read no more until its answer is read.

        Args:
            data: What to send.
            most_early: How many bytes may arrive meanwhile, before they are left in the kernel.
        """
        left = memoryview(data)
        early = 0
        while left:
            try:
                left = left[self._sock.send(left) :]
            except BlockingIOError:
                early += self._read_early(most_early - early)
                reads = early < most_early and not (self._early and self._early[-1].has_ended)
                self._is_watching = False
                self._watcher.stop()
                watcher = self._hub.loop.io(self._sock.fileno(), 3 if reads else 2)  # 1: to read, 2: to write
                try:
                    watcher.start(self._on_ready)
                    self._wait()
                except TimeoutError:
                    if early >= most_early > 0:
                        raise OSError(errno.EMSGSIZE, "too much has arrived before all was sent") from None
                    raise
                finally:
                    watcher.close()

    def _read_early(self, most: int) -> int:
        """Read what has arrived before all is sent, for `receive` and `poll`; return how many bytes."""
        count = 0
        with contextlib.suppress(BlockingIOError):
            while count < most and not (self._early and self._early[-1].has_ended):
                received, arrived = self._receive(self._sock, CHUNK)
                data = self._decrypted(received)
                if data or self.has_ended:
                    self._early.append(_Early(data, arrived, self.has_ended, self.is_cut))
                    self.has_ended = self.is_cut = False  # until what came before the end is received
                    self.needs_poll = True
                count += len(data)
        return count

    def _take_early(self) -> bytes:
        """Return the first piece that was read early."""
        data, arrived, self.has_ended, self.is_cut = self._early.pop(0)
        if data:
            self.arrived = arrived
        return data

    def _wait(self) -> None:
        """Let other greenlets run until the socket is ready or the deadline is over."""
        if self._timer is None and self._deadline:  # a handshake has none: its time is that of the whole connect
            self.check_deadline()
            self._set_timer()
        self._waiter = gevent.getcurrent()
        try:
            self._hub.switch()
        finally:
            self._waiter = None

    def _watch(self) -> None:
        """Let the event loop look for something to read."""
        if not self._is_watching:
            self._is_watching = True
            self._watcher.start(self._on_ready)

    def _on_ready(self) -> None:
        """Wake the greenlet that waits for the socket. Called by the event loop."""
        if self._waiter is not None:
            self._waiter.switch()
        else:  # it arrives unasked, or the greenlet is busy elsewhere
            self.needs_poll = True
            self._is_watching = False
            self._watcher.stop()

    def _set_timer(self) -> None:
        # Create a new timer: restarting a libev timer resumes its remaining time.
        if self._timer is not None:
            self._timer.close()
        self._timer_ends = self._deadline
        self._timer = self._hub.loop.timer(max(0.0, self._deadline - time.perf_counter()))
        self._timer.start(self._on_timer)

    def _on_timer(self) -> None:
        """End the wait after its deadline, or set the timer again. Called by the event loop."""
        self._timer.close()
        self._timer = None
        if self._waiter is None:  # the next wait sets it again
            return
        if time.perf_counter() < self._deadline:
            self._set_timer()
        else:  # the greenlet finds nothing to read, and _wait raises TimeoutError
            self._waiter.switch()


@dataclass(frozen=True)
class Connected:
    """A connected stream, and what connecting took.

    Attributes:
        stream: The stream.
        seconds: How long the handshake took, TLS included, by the kernel where `by_kernel` is set.
        at: When it was complete, in seconds since the epoch.
        by_kernel: Whether the kernel has measured it. Otherwise `seconds` contains Locust's own lag.
    """

    stream: Stream
    seconds: float
    at: float
    by_kernel: bool


def connect(endpoint: Endpoint, timeout: float, kernel_times: bool = timestamps.SUPPORTED) -> Connected:
    """Connect to one of the endpoint's addresses, each of which gets a share of the time that is left.

    Args:
        endpoint: Where the service listens.
        timeout: Seconds for the look-up, all the addresses and TLS together.
        kernel_times: Whether to ask the kernel for its times.

    Raises:
        OSError: TimeoutError among them, and ssl.SSLError.
        ValueError: One of the endpoint's TLS files can't be used.
    """
    context = endpoint.tls
    deadline = time.perf_counter() + timeout
    with gevent.Timeout(timeout, TimeoutError()):
        addresses = endpoint.addresses()
    failure: OSError = TimeoutError()
    for tried, address in enumerate(addresses):
        begun, started = time.perf_counter(), time.time()
        share = (deadline - begun) / (len(addresses) - tried)
        if share <= 0:
            break
        try:
            with gevent.Timeout(share, TimeoutError()):
                sock, was_reset = _connected(address, endpoint.next_source(address[0]))
        except OSError as error:
            if error.errno in OURS:
                raise
            endpoint.failed(address)
            failure = error
            continue
        endpoint.worked(address)
        elapsed = time.perf_counter() - begun
        seconds = timestamps.handshake_time(sock, elapsed) if kernel_times else None
        stream = Stream(sock, kernel_times)
        stream.was_reset = was_reset
        if context is None:
            by_kernel = seconds is not None
            return Connected(stream, elapsed if seconds is None else seconds, started + (seconds or elapsed), by_kernel)
        try:
            stream.start_tls(Tls(context, endpoint.name), deadline)
        except BaseException:
            stream.close()
            raise
        now = time.time()
        by_kernel = started <= stream.arrived <= now
        return Connected(stream, (stream.arrived if by_kernel else now) - started, now, by_kernel)
    endpoint.forget_addresses()
    raise failure


def _connected(address: Address, source: str | None) -> tuple[Any, bool]:
    """Return a socket connected to a numeric address, and whether it has been reset since."""
    family, where = address
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # no delay for the end of a long request
        if source:
            _bind(sock, source)
        was_reset = False
        try:
            sock.connect(where)
        except ConnectionResetError:  # after TCP's handshake; before its end, a reset is a refusal
            was_reset = True
        if sock.getsockname()[:2] == where[:2]:
            # No service listens on this port, but the kernel chose it for our own end (RFC 9293,
            # 3.5). An orderly close would block the port for a minute: no service could start.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            raise ConnectionRefusedError(errno.ECONNREFUSED, "connected to itself")
    except BaseException:
        sock.close()
        raise
    return PlainSocket(fileno=sock.detach()), was_reset


def _bind(sock: Any, source: str) -> None:
    """Let a connection start at a source address. Without the option, bind() would choose the port."""
    try:
        if sys.platform == "linux":
            sock.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
        sock.bind((source, 0))
    except OSError as error:
        raise SourceAddressError(error.errno, f"{source}: {error.strerror}") from error
