"""One peer of the server: what the thread of its connection does, in blocking calls."""

import contextlib
import math
import socket
import ssl
import struct
import threading
import time

from capserver.lines import Lines, Step

CHUNK = 16 * 1024  # bytes read or sent at a time: a whole record of TLS
HANDSHAKE = 10.0  # seconds that a peer gets for TLS
LINGER = 1.0  # seconds that a peer gets to read its last replies
POLL = 0.01  # seconds between two looks whether its system has them
RESET = struct.pack("ii", 1, 0)  # a close with a linger time of 0 is a reset (socket(7), SO_LINGER)
TCP_INFO = struct.Struct("=B23xI116xI")  # state, segments unacknowledged, bytes not sent (Linux's linux/tcp.h)
TCP_CLOSE, TCP_CLOSE_WAIT = 7, 8  # states (linux/tcp.h)


class Connection:
    """One peer. A thread calls `serve`; the accepting thread shuts the socket down after `deadline`.

    `idle` is how many seconds the peer gets to complete a line, or to read. `stopping` is set when the server
    stops. A peer that is not served gets an `error`. `ending` is set where it is not the peer's doing.
    """

    def __init__(self, sock: socket.socket, peer: str, lines: Lines, idle: float, stopping: threading.Event) -> None:
        self.sock, self.peer, self.lines = sock, peer, lines
        self.error = b""
        self.answered = self.errors = 0
        self.deadline = math.inf  # on time.monotonic's clock
        self.ending = ""
        self.has_begun = False
        self._idle, self._stopping = idle, stopping

    def serve(self) -> None:
        """Answer the peer until one of the two sides ends. Raises OSError where the connection is lost."""
        self.has_begun = True
        if isinstance(self.sock, ssl.SSLSocket):
            self.deadline = time.monotonic() + HANDSHAKE
            self.sock.do_handshake()
        if self.error:
            return self._take(Step(self.error, errors=1, ending="close"))
        self.deadline = time.monotonic() + self._idle
        while received := self.sock.recv(CHUNK):
            if reply := self.lines.at_once(received):
                self._send(reply)
                self.answered += received.count(b"\n")
                continue
            for step in self.lines.feed(received):
                self._take(step)
                if step.ending:
                    return None
        is_ours = self.ending or (self._stopping.is_set() and self._tcp_info()[0] != TCP_CLOSE_WAIT)
        if not is_ours:  # the end of the input
            for step in self.lines.end():
                self._take(step)
        return self._take(Step(ending="close"))

    def reset_on_close(self) -> None:
        """Make a reset of the connection's end."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)

    def shut_down(self, how: int) -> None:
        """End the input or the output or both, whatever the connection's thread does."""
        with contextlib.suppress(OSError):  # the peer may have been faster
            socket.socket.shutdown(self.sock, how)  # SSLSocket's own forgets that there is TLS

    def _send(self, reply: bytes) -> None:
        unsent = memoryview(reply)
        while unsent:
            self.sock.sendall(unsent[:CHUNK])
            unsent = unsent[CHUNK:]
            self.deadline = time.monotonic() + self._idle

    def _take(self, step: Step) -> None:
        if step.wait:
            self.deadline = time.monotonic() + step.wait + self._idle
            self._stopping.wait(step.wait)
        self._send(step.reply)
        if step.wait and self._tcp_info()[0] == TCP_CLOSE:
            raise ConnectionResetError("left before the reply")
        self.answered += step.answered
        self.errors += step.errors
        if step.ending == "reset":
            self.reset_on_close()
        elif step.ending:
            self._end(says_goodbye=step.ending == "close")

    def _end(self, says_goodbye: bool) -> None:
        if says_goodbye:
            self.ending = self.ending or "closed"
            self.deadline = time.monotonic() + LINGER
            if isinstance(self.sock, ssl.SSLSocket):
                with contextlib.suppress(OSError, ValueError):
                    self.sock.unwrap()  # sends close_notify (RFC 8446, 6.1)
            # Once the server has ended the input, more of it resets a closed connection: the replies go first.
            while self._stopping.is_set() and any(self._tcp_info()[1:]) and time.monotonic() < self.deadline:
                socket.socket.recv(self.sock, CHUNK)
                time.sleep(POLL)
            self.shut_down(socket.SHUT_WR)
        # To close a socket with unread input is to reset it (RFC 1122, 4.2.2.13); a reset may overtake replies.
        while socket.socket.recv(self.sock, CHUNK):  # SSLSocket's own refuses input after our end
            pass

    def _tcp_info(self) -> tuple[int, ...]:
        if not hasattr(socket, "TCP_INFO"):  # tcp(7)
            return 0, 0, 0
        return TCP_INFO.unpack(self.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, TCP_INFO.size))
