"""One peer of the server, from its first byte to its last.

A connection is a generator. It is written like a thread that blocks, and yields where it would: so a
few threads can serve as many connections as come (see `server.py`).
"""

import contextlib
import math
import selectors
import socket
import ssl
import struct
import sys
import time
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

from capserver.lines import Ending, Lines, Step

CHUNK = 16 * 1024  # bytes read at a time: all of a TLS record, or its rest would wait where no selector sees it
HANDSHAKE = 10.0  # seconds that a peer gets to agree on TLS
LINGER = 1.0  # seconds that a peer gets to read its last replies before its connection is gone

READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE


@dataclass
class Pause:
    """What a connection waits for where that is not its socket."""

    seconds: float


Wait = int | Pause
"""What a connection waits for: READ, WRITE or a Pause."""
Story = Generator[Wait, None, None]

WOULD_BLOCK = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
RESET = struct.pack("ii", 1, 0)  # to close with a linger time of 0 is to reset (socket(7), SO_LINGER)
TCP_CLOSE = 7  # Linux's include/net/tcp_states.h


class Connection:
    """A peer's socket, what is to be done with it, and what has been done.

    Arguments: a socket that does not block, the peer's address, its Lines, and the seconds that it
    may be idle: without a complete line, or without taking any of its replies. A peer with an
    `error` is told that and nothing else.
    """

    def __init__(
        self, sock: socket.socket, peer: tuple[Any, ...], lines: Lines, idle: float, error: bytes = b""
    ) -> None:
        self.sock = sock
        self.peer = peer
        self.lines = lines
        self.answered = 0
        self.errors = 0
        self.is_refused = bool(error) or lines.are_refused
        self.stopping = False
        """Whether to end as soon as what has been received is answered."""
        self.ending = "closed"
        self.deadline = math.inf  # on time.monotonic's clock
        self.late = "idle"
        """The ending when the deadline passes."""
        self.waits_for: Wait | None = None
        self.story = self._serve(error)
        """To be gone on with whenever what it waits for is there. Raises OSError where the peer is lost."""
        self._idle = idle

    def _serve(self, error: bytes) -> Story:
        if self.lines.are_refused:
            return self._reset_on_close()
        if isinstance(self.sock, ssl.SSLSocket):
            yield from self._shake_hands(self.sock)
        if error:
            yield from self._take(Step(error, errors=1, ending=Ending.CLOSE), 0)
            return
        self._make_progress()
        while True:
            yield READ
            try:
                received = self.sock.recv(CHUNK)
            except WOULD_BLOCK:
                if self.stopping:
                    yield from self._leave()
                    return
                continue
            for step in self.lines.feed(received) if received else self.lines.end():
                if step.wait or step.ending:
                    yield from self._take(step, 0)
                elif (sent := self._send(step.reply)) < len(step.reply):
                    yield from self._take(step, sent)
                else:
                    self._count(step)
                if step.ending:
                    return
                self._make_progress()
            if not received:
                self._end_tls()
                return

    def _shake_hands(self, sock: ssl.SSLSocket) -> Story:
        self.deadline = time.monotonic() + HANDSHAKE
        while True:
            yield READ  # it is the client who begins
            with contextlib.suppress(*WOULD_BLOCK):
                return sock.do_handshake()
            if self.stopping:
                self.deadline = min(self.deadline, time.monotonic() + LINGER)

    def _make_progress(self, seconds: float = 0.0) -> None:
        """Take note that the peer has done something, or that it has to wait for us."""
        self.deadline = time.monotonic() + self._idle + seconds

    def _send(self, reply: bytes) -> int:
        """Send what the system takes at once, which is mostly all; return how many bytes that was."""
        try:
            return self.sock.send(reply)
        except WOULD_BLOCK:
            return 0

    def _count(self, step: Step) -> None:
        self.answered += step.answered
        self.errors += step.errors

    def _take(self, step: Step, sent: int) -> Story:
        """Take a step for which something has to be waited for, or of whose reply so many bytes are sent."""
        if step.wait and not self.stopping:
            self._make_progress(step.wait)
            yield Pause(step.wait)
        unsent = memoryview(step.reply)[sent:]
        while unsent:
            try:
                unsent = unsent[self.sock.send(unsent) :]
            except WOULD_BLOCK:
                yield WRITE
            else:
                self._make_progress()
        if step.wait and self._is_lost():
            raise ConnectionResetError("left before the reply")
        self._count(step)
        match step.ending:
            case Ending.CLOSE:
                yield from self._leave()
            case Ending.STALL:
                yield from self._discard()
            case Ending.RESET:
                self._reset_on_close()

    def _leave(self) -> Story:
        """End our side, and let the last replies arrive.

        Closing a socket that holds unread input resets the connection (RFC 1122, 4.2.2.13), and the
        reset may overtake the replies. So the rest of the input is read for a while, and thrown away.
        """
        self._end_tls()
        socket.socket.shutdown(self.sock, socket.SHUT_WR)  # SSLSocket's own would forget that there is TLS
        self.deadline = time.monotonic() + LINGER
        self.late = "closed"
        yield from self._discard()

    def _discard(self) -> Story:
        """Read what still comes and throw it away, until the peer leaves or its time is over."""
        while True:
            yield READ
            try:
                # Not SSLSocket's own recv, for which input after our end of TLS is an error.
                if not socket.socket.recv(self.sock, CHUNK):
                    return
            except WOULD_BLOCK:
                if self.stopping and not self._has_unacknowledged():
                    return

    def _end_tls(self) -> None:
        """Say that there is no more, so that the peer can tell an end from an attack (RFC 8446, 6.1)."""
        if isinstance(self.sock, ssl.SSLSocket):
            with contextlib.suppress(OSError, ValueError):  # that the peer's own word is still to come
                self.sock.unwrap()

    def _reset_on_close(self) -> None:
        """Have the end of the connection be a reset."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)

    def _is_lost(self) -> bool:
        """Say whether the peer has answered with a reset, as far as the system tells (tcp(7), TCP_INFO)."""
        if not hasattr(socket, "TCP_INFO"):
            return False
        state: int = self.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]
        return state == TCP_CLOSE

    def _has_unacknowledged(self) -> bool:
        """Say whether some of what was sent has not arrived, as far as the system tells (tcp(7), SIOCOUTQ)."""
        if sys.platform != "linux":
            return True
        import fcntl
        import termios

        (count,) = struct.unpack("i", fcntl.ioctl(self.sock, termios.TIOCOUTQ, bytes(4)))
        return bool(count)
