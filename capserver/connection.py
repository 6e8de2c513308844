"""One peer of the server: what the thread of its connection does, in blocking calls."""

import contextlib
import math
import socket
import ssl
import struct
import time
from collections import defaultdict
from collections.abc import Iterator
from typing import TYPE_CHECKING

from capserver.faults import Faults
from capserver.lines import Lines, Step

if TYPE_CHECKING:
    from capserver.server import CapitalizationServer

CHUNK = 16 * 1024  # bytes read at a time: a whole record of TLS
GRACE = 5.0  # seconds for a thread to begin or to end, on a busy machine too; one without memory never does
HANDSHAKE = 10.0  # seconds that a peer gets for TLS
LINGER = 1.0  # seconds that a peer gets to read its last replies
POLL = 0.01  # seconds between two looks whether its system has them
RESET = struct.pack("ii", 1, 0)  # a close with a linger time of 0 is a reset (socket(7), SO_LINGER)
TCP_INFO = struct.Struct("=B23xI116xI")  # state, segments unacknowledged, bytes not sent (Linux's linux/tcp.h)
TCP_CLOSE, TCP_CLOSE_WAIT = 7, 8  # states after a reset, and after the peer's end (linux/tcp.h)


class Connection:
    """One peer. Its thread calls `run`; the accepting thread shuts it down after `deadline`.

    `ending` is why the server has ended it, `error` what the peer gets instead of replies, and `has_place` whether
    it is one of the `--max-connections`.
    """

    def __init__(self, server: "CapitalizationServer", sock: socket.socket, peer: str, number: int) -> None:
        options = server.options
        self.sock, self.peer = sock, peer
        self.faults = Faults(options.fault, options.seed, number) if options.fault else None
        self.lines = Lines(options.max_line, self.faults)
        self.counts: dict[str, int] = defaultdict(int)  # lines answered, errors and faults
        self.deadline = time.monotonic() + GRACE
        self.ending = self.error = ""
        self.has_place = True
        self._server, self._idle = server, options.idle_timeout or math.inf

    def run(self) -> None:
        """Serve the peer until one of the two sides ends, and close the connection. Its thread does that."""
        ending = "closed"
        try:
            self._serve()
        except OSError as error:
            ending = f"lost ({error.strerror or error})"
        except MemoryError:
            ending = "greedy"  # mostly for a line that has no end
        except Exception as error:  # what nothing foresees costs this connection alone
            ending = f"dropped ({error!r})"
        finally:
            self.lines.unfinished.clear()  # its memory is needed for what follows
            try:
                self._server.close(self, self.ending or ending)
            except MemoryError:
                self.deadline = 0.0  # the accepting thread closes it

    def shut_down(self, how: int, why: str = "") -> None:
        """End the input or the output or both, whatever the connection's thread does."""
        self.ending = self.ending or why
        with contextlib.suppress(OSError):  # the peer may have been faster
            socket.socket.shutdown(self.sock, how)  # SSLSocket's own forgets that there is TLS

    def has_ended(self) -> bool:
        """Return whether the peer has ended its side. It may still read; one that has left answers with a reset."""
        return self._tcp_info()[0] in (TCP_CLOSE, TCP_CLOSE_WAIT)

    def _serve(self) -> None:
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # a reply in pieces waits for no ACK
        may_have_left = self.has_ended()
        for reply, counts, lines, wait, ending in self._steps():
            if wait:
                self.deadline = time.monotonic() + wait + self._idle
                self._server.stopping.wait(wait)
                may_have_left = self.has_ended()
            self.sock.sendall(reply)
            if may_have_left:
                self._flush()
            self.deadline = time.monotonic() + self._idle
            self.counts[counts] += lines
            if ending:
                self._end(ending)
                break

    def _steps(self) -> Iterator[Step]:
        server = self._server
        if self.faults and self.faults.refused:
            yield Step(counts="refuse", ending="reset")
        if server.tls:
            self.deadline = time.monotonic() + HANDSHAKE
            self.sock = server.tls.wrap_socket(self.sock, server_side=True, do_handshake_on_connect=False)
            self.sock.do_handshake()
        if self.error:
            yield Step(self.error.encode(), "errors", ending="close")
        self.deadline = time.monotonic() + self._idle
        while received := self.sock.recv(CHUNK):
            yield from self.lines.feed(received)
        if not self.ending and (self.has_ended() or not server.stopping.is_set()):  # the end is the peer's own
            yield from self.lines.feed(b"")
        yield Step(ending="close")

    def _end(self, how: str) -> None:
        if how == "reset":
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            return
        if how == "close":
            self.ending = self.ending or "closed"
            self.deadline = time.monotonic() + LINGER
            if isinstance(self.sock, ssl.SSLSocket):
                with contextlib.suppress(OSError, ValueError):
                    self.sock.unwrap()  # sends close_notify (RFC 8446, 6.1)
            if self._server.stopping.is_set():  # once both sides are ended, more input resets the connection
                self._flush()
            self.shut_down(socket.SHUT_WR)
        # To close a socket with unread input is to reset it (RFC 1122, 4.2.2.13); a reset may overtake replies.
        while socket.socket.recv(self.sock, CHUNK):  # SSLSocket's own refuses input after our end
            pass

    def _flush(self) -> None:
        """Wait until the peer's system has all replies. Raises ConnectionResetError where the peer has left."""
        end = time.monotonic() + LINGER
        while any(self._tcp_info()[1:]) and time.monotonic() < end:
            if self.ending:  # a peer that goes on sending may have to be rid of it before it reads
                socket.socket.recv(self.sock, CHUNK)
            time.sleep(POLL)
        if self._tcp_info()[0] == TCP_CLOSE:
            raise ConnectionResetError("left before the reply")

    def _tcp_info(self) -> tuple[int, ...]:
        with contextlib.suppress(AttributeError, OSError):  # a system without it (tcp(7)), a socket that is closed
            return TCP_INFO.unpack(self.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, TCP_INFO.size))
        return 0, 0, 0
