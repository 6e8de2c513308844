"""The threaded server: one thread accepts; each connection has a thread, which blocks in `recv`.

With a pool, a fixed number of threads take the connections from a queue instead. The blocking calls
have no timeouts: Python's cost two more system calls for each line. Instead the accepting thread
looks at all connections twice a second, and shuts down the socket of each one whose time is over. A
call that blocks there then returns at once.
"""

import argparse
import contextlib
import math
import queue
import socket
import ssl
import struct
import threading
import time
from collections import Counter
from typing import Any

from capserver.faults import Faults
from capserver.lines import Lines, Step

BACKLOG = 4096  # connections that wait to be accepted; Linux grants no more (net.core.somaxconn)
STACK = 128 * 1024  # bytes of each thread; the usual 8 MB would make 80 GB of 10,000 threads
CHUNK = 16 * 1024  # bytes read or sent at a time: a whole record of TLS
HANDSHAKE = 10.0  # seconds that a peer gets for TLS
LINGER = 1.0  # seconds that a peer gets to read its last replies
DRAIN = 5.0  # seconds that all peers get for that when the server stops
POLL = 0.1  # seconds until the accepting thread sees a stop
SWEEP = 0.5  # seconds between two looks for peers whose time is over
TRAFFIC = 5.0  # seconds between traffic lines
RESET = struct.pack("ii", 1, 0)  # a close with a linger time of 0 is a reset (socket(7), SO_LINGER)
TCP_INFO = struct.Struct("=B23xI116xI")  # state, segments unacknowledged, bytes not sent (Linux's linux/tcp.h)
TCP_CLOSE, TCP_CLOSE_WAIT = 7, 8  # states (linux/tcp.h)


def say(text: str) -> None:
    """Print one line. A console without a reader is no reason to stop serving."""
    with contextlib.suppress(OSError):
        print(f"capserver: {text}\n", end="", flush=True)  # one write: lines of two threads never mix


def address_text(address: tuple[Any, ...]) -> str:
    """Return a socket address in its usual form: `127.0.0.1:59898`, `[::1]:59898`."""
    host, port = address[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class Connection:
    """One peer. A thread calls `serve`; the accepting thread shuts the socket down when the time is over."""

    def __init__(self, sock: socket.socket, peer: str, lines: Lines, idle: float, stopping: threading.Event) -> None:
        self.sock, self.peer, self.lines = sock, peer, lines
        self.only: Step | None = None  # all that a peer gets that is not served
        self.answered = self.errors = 0
        self.deadline = math.inf  # on time.monotonic's clock
        self.ending = ""
        self._idle, self._stopping = idle, stopping

    def serve(self) -> None:
        """Answer the peer until one of the two sides ends. Raises OSError where the connection is lost."""
        if isinstance(self.sock, ssl.SSLSocket) and (not self.only or self.only.reply):
            self._allow(HANDSHAKE)
            self.sock.do_handshake()
        if self.only:
            return self._take(self.only)
        self._allow(self._idle)
        while received := self.sock.recv(CHUNK):
            for step in self.lines.feed(received):
                self._take(step)
                if step.ending:
                    return None
        if not self._stopping.is_set() or self._tcp_info()[0] == TCP_CLOSE_WAIT:  # it is the peer's end, not ours
            for step in self.lines.end():
                self._take(step)
        return self._take(Step(ending="close"))

    def shut_down(self, how: int) -> None:
        """End the input or the output or both, whatever the connection's thread does."""
        with contextlib.suppress(OSError):  # the peer may have been faster
            socket.socket.shutdown(self.sock, how)  # SSLSocket's own forgets that there is TLS

    def _take(self, step: Step) -> None:
        if step.wait:
            self._allow(step.wait + self._idle)
            self._stopping.wait(step.wait)
        for begin in range(0, len(step.reply), CHUNK):
            self.sock.sendall(step.reply[begin : begin + CHUNK])
            self.deadline = time.monotonic() + self._idle
        if step.wait and self._tcp_info()[0] == TCP_CLOSE:
            raise ConnectionResetError("left before the reply")
        self.answered += step.answered
        self.errors += step.errors
        if step.ending == "reset":
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        elif step.ending:
            self._end(says_goodbye=step.ending == "close")

    def _end(self, says_goodbye: bool) -> None:
        if says_goodbye:
            self.ending = self.ending or "closed"
            self._allow(LINGER)
            if isinstance(self.sock, ssl.SSLSocket):
                self.sock.setblocking(False)  # send close_notify, without a wait for the peer's (RFC 8446, 6.1)
                with contextlib.suppress(OSError, ValueError):
                    self.sock.unwrap()
                self.sock.setblocking(True)
            # Once the server has ended the input, more of it resets a closed connection: the replies go first.
            while self._stopping.is_set() and any(self._tcp_info()[1:]) and time.monotonic() < self.deadline:
                socket.socket.recv(self.sock, CHUNK)
                time.sleep(POLL / 10)
            self.shut_down(socket.SHUT_WR)
        # To close a socket with unread input is to reset it (RFC 1122, 4.2.2.13); a reset may overtake replies.
        while socket.socket.recv(self.sock, CHUNK):  # SSLSocket's own refuses input after our end
            pass

    def _allow(self, seconds: float) -> None:
        self.deadline = time.monotonic() + seconds

    def _tcp_info(self) -> tuple[int, ...]:
        if not hasattr(socket, "TCP_INFO"):  # tcp(7)
            return 0, 0, 0
        return TCP_INFO.unpack(self.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, TCP_INFO.size))


class CapitalizationServer:
    """A threaded TCP server that answers each line in upper case (see the package's docstring).

    Args:
        options: Those of the command line (`__main__.py`).
        tls: The context of a TLS server.

    Raises:
        OSError: It can't listen.
        RuntimeError: It can't start the threads of its pool.
    """

    def __init__(self, options: argparse.Namespace, tls: ssl.SSLContext | None = None) -> None:
        self.stopping = threading.Event()
        self._options, self._tls = options, tls
        self._waiting: queue.SimpleQueue[Connection] = queue.SimpleQueue()  # for a thread of the pool
        self._open: set[Connection] = set()
        self._closed: Counter[str] = Counter()  # what the closed connections have counted
        self._lock = threading.Lock()  # for these two
        self._connections = 0
        self._is_short = False  # of descriptors, memory or threads
        self._swept = self._reported = time.monotonic()
        self._answered = 0  # lines, by the last traffic line
        found = socket.getaddrinfo(options.host, options.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        self._listener = socket.create_server(found[0][4], family=found[0][0], backlog=BACKLOG)
        self._listener.settimeout(POLL)
        self.address: tuple[Any, ...] = self._listener.getsockname()
        threading.stack_size(STACK)
        for _ in range(options.pool):
            threading.Thread(target=self._serve_waiting, daemon=True).start()

    def serve_forever(self) -> None:
        """Accept connections until `stopping` is set; return when what was received by then is answered."""
        while not self.stopping.is_set():
            self._accept()
            self._look_round()
        self._listener.settimeout(0)
        while self._accept():  # connections that only the system has accepted so far
            pass
        self._listener.close()
        with contextlib.suppress(queue.Empty):
            while True:
                self._close(self._waiting.get_nowait(), "closed")
        for connection in tuple(self._open):
            connection.shut_down(socket.SHUT_RD)  # Linux leaves what has been received to be read
        end = time.monotonic() + DRAIN
        while self._open and time.monotonic() < end:
            time.sleep(POLL / 10)
            self._look_round()

    def totals(self) -> str:
        """Return the whole run in a sentence."""
        counts = self._counts()
        lines = f"answered {counts['answered']} lines on {self._connections} connections"
        return f"{lines}, {counts['errors']} errors{_listed(counts)}"

    def _accept(self) -> bool:
        """Accept a connection, if one comes in time; return whether there may be more."""
        try:
            sock, peer = self._listener.accept()
        except (TimeoutError, BlockingIOError):
            return False
        except (OSError, MemoryError) as error:  # out of descriptors, mostly (accept(2))
            why = error.strerror if isinstance(error, OSError) else "Out of memory"
            self._warn(f"{why}: new connections wait until others are closed")
            time.sleep(POLL)  # the next call would fail at once
            return False
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # a reply in pieces waits for no ACK
            if self._tls:
                sock = self._tls.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
        except OSError:  # the peer has left already
            sock.close()
        else:
            self._begin(sock, address_text(peer))
        return True

    def _begin(self, sock: socket.socket, peer: str) -> None:
        options = self._options
        self._connections += 1
        faults = Faults(options.fault, options.seed, self._connections) if options.fault else None
        lines = Lines(options.max_line, faults)
        connection = Connection(sock, peer, lines, options.idle_timeout or math.inf, self.stopping)
        if options.verbose:
            say(f"{peer} opened")
        with self._lock:
            is_full = options.max_connections and sum(not each.only for each in self._open) >= options.max_connections
            self._open.add(connection)
        if is_full:
            error = f"error: server full: {options.max_connections} connections are open\n"
            connection.only = Step(error.encode(), errors=1, ending="close")
        elif faults and faults.refused:
            lines.injected["refuse"] += 1
            connection.only = Step(ending="reset")
        elif options.pool:
            return self._waiting.put(connection)
        try:
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()
            self._is_short = False
        except (RuntimeError, MemoryError):
            self._warn("no more threads: new connections are closed until others are")
            self._close(connection, "closed")

    def _serve(self, connection: Connection) -> None:
        ending = "closed"
        try:
            connection.serve()
        except OSError as error:
            ending = f"lost ({error.strerror or error})"
        except Exception as error:  # what nothing foresees must not cost more than this connection
            ending = "dropped"
            say(f"{connection.peer} dropped: {error!r}")
        self._close(connection, connection.ending or ending)

    def _serve_waiting(self) -> None:
        while True:
            self._serve(self._waiting.get())

    def _close(self, connection: Connection, ending: str) -> None:
        connection.sock.close()
        with self._lock:
            self._open.discard(connection)
            self._closed += _counted(connection)
            self._closed["idle"] += ending == "idle"
        if self._options.verbose:
            say(f"{connection.peer} {ending}, {connection.answered} lines answered")

    def _warn(self, text: str) -> None:
        """Say that something is short: once, until it no longer is."""
        if not self._is_short:
            say(text)
        self._is_short = True

    def _look_round(self) -> None:
        """Every now and then, cut off the peers whose time is over, and print the traffic."""
        now = time.monotonic()
        if now - self._swept < SWEEP:
            return
        self._swept = now
        for connection in tuple(self._open):
            if connection.deadline < now:
                connection.ending = connection.ending or "idle"
                connection.shut_down(socket.SHUT_RDWR)
        if now - self._reported < TRAFFIC:
            return
        counts = self._counts()
        lines, per_second = counts["answered"], (counts["answered"] - self._answered) / (now - self._reported)
        if per_second:
            traffic = f"{lines} lines answered, {per_second:.0f} lines/s{_listed(counts)}"
            say(f"{len(self._open)} connections open, {traffic}")
        self._reported, self._answered = now, lines

    def _counts(self) -> "Counter[str]":
        with self._lock:
            return sum(map(_counted, self._open), self._closed)


def _counted(connection: Connection) -> "Counter[str]":
    return connection.lines.injected.copy() + Counter(answered=connection.answered, errors=connection.errors)


def _listed(counts: "Counter[str]") -> str:
    return "".join(f", {n} {kind}" for kind, n in sorted(counts.items()) if kind not in ("answered", "errors") and n)
