"""The threaded server: one thread accepts; each connection has a thread, which blocks in `recv`.

With a pool, a fixed number of threads take the connections from a queue instead. The blocking calls
have no timeouts: Python's cost two more system calls for each line. Instead the accepting thread
looks at all connections twice a second, and shuts down the socket of each one whose time is over. A
call that blocks there then returns at once.
"""

import _thread
import argparse
import contextlib
import math
import queue
import socket
import ssl
import threading
import time
from collections import Counter
from typing import Any

from capserver.connection import Connection
from capserver.faults import Faults
from capserver.lines import Lines

BACKLOG = 4096  # connections that wait to be accepted; Linux grants no more (net.core.somaxconn)
STACK = 128 * 1024  # bytes of each thread; the usual 8 MB would make 80 GB of 10,000 threads
DRAIN = 5.0  # seconds that open connections get for their last replies when the server stops
POLL = 0.1  # seconds until the accepting thread sees a stop
SWEEP = 0.5  # seconds between two looks for peers whose time is over
BEGIN = 20.0  # seconds for a thread to begin, on a busy machine too; one without memory never does
TRAFFIC = 5.0  # seconds between traffic lines
NO_ROOM = "no more threads: new connections are closed until others are"


def say(text: str) -> None:
    """Print one line. A console without a reader is no reason to stop serving."""
    with contextlib.suppress(OSError):
        print(f"capserver: {text}\n", end="", flush=True)  # one write: lines of two threads never mix


def address_text(address: tuple[Any, ...]) -> str:
    """Return a socket address in its usual form: `127.0.0.1:59898`, `[::1]:59898`."""
    host, port = address[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class CapitalizationServer:
    """A threaded TCP server that answers each line in upper case (see the package's docstring).

    It takes the options of the command line (`__main__.py`) and the context of TLS. Setting `stopping` ends
    `serve_forever`. Raises OSError where it can't listen, RuntimeError where it can't start its pool.
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
        for _ in range(options.pool or 0):
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
        while not self._waiting.empty():
            with contextlib.suppress(queue.Empty):  # a thread of the pool may have been faster
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
            self._begin(sock, address_text(peer))
        except OSError:  # the peer has left already
            sock.close()
        except MemoryError:
            sock.close()
            self._warn(NO_ROOM)
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
            is_full = options.max_connections and sum(not each.error for each in self._open) >= options.max_connections
            self._open.add(connection)
        if faults and faults.refused:
            lines.injected["refuse"] += 1
            connection.reset_on_close()
            return self._close(connection, "refused")
        if is_full:
            connection.error = f"error: server full: {options.max_connections} connections are open\n".encode()
        elif options.pool:
            return self._waiting.put(connection)
        try:
            connection.deadline = time.monotonic() + BEGIN
            # Not by threading.Thread, which waits until the thread runs: that costs a third of the connections/s.
            _thread.start_new_thread(self._serve, (connection,))
            self._is_short = False
        except (RuntimeError, MemoryError):
            self._warn(NO_ROOM)
            self._close(connection, "closed")
        return None

    def _serve(self, connection: Connection) -> None:
        ending = "closed"
        try:
            connection.serve()
        except OSError as error:
            ending = f"lost ({error.strerror or error})"
        except Exception as error:  # what nothing foresees, or a lack of memory, costs this connection alone
            connection.lines.forget()
            ending = f"dropped ({error!r})"
            say(f"{connection.peer} {ending}")
        while connection in self._open:
            try:
                self._close(connection, connection.ending or ending)
            except MemoryError:
                time.sleep(POLL)  # until others have ended

    def _serve_waiting(self) -> None:
        while True:
            self._serve(self._waiting.get())

    def _close(self, connection: Connection, ending: str) -> None:
        connection.sock.close()
        if self._options.verbose:  # before the totals, for which a stop waits until none is open
            say(f"{connection.peer} {ending}, {connection.answered} lines answered")
        with self._lock:
            self._open.discard(connection)
            self._closed += _counted(connection)
            if ending == "idle":
                self._closed[ending] += 1

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
                if not connection.has_begun:  # its thread had no memory to begin with
                    self._close(connection, "closed")
        if now - self._reported < TRAFFIC:
            return
        counts = self._counts()
        rate = (counts["answered"] - self._answered) / (now - self._reported)
        if rate:
            lines = f"{counts['answered']} lines answered, {rate:.0f} lines/s"
            say(f"{len(self._open)} connections open, {lines}{_listed(counts)}")
        self._reported, self._answered = now, counts["answered"]

    def _counts(self) -> "Counter[str]":
        with self._lock:
            return sum(map(_counted, self._open), self._closed)


def _counted(connection: Connection) -> "Counter[str]":
    return connection.lines.injected.copy() + Counter(answered=connection.answered, errors=connection.errors)


def _listed(counts: "Counter[str]") -> str:
    return "".join(f", {count} {kind}" for kind, count in sorted(counts.items()) if kind not in ("answered", "errors"))
