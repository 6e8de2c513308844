"""The threaded server: a few threads, each of which serves as many connections as come.

A thread for each connection would be simpler, and was tried: ten thousand that all have something to
do at once spend their time passing the interpreter's lock around.
"""

import contextlib
import heapq
import itertools
import os
import selectors
import socket
import ssl
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Sequence
from typing import Any

from capserver.connection import READ, WRITE, Connection, Pause, Wait
from capserver.faults import Fault, Faults
from capserver.lines import MAX_LINE, Lines

BACKLOG = 4096  # connections that wait to be accepted; Linux grants no more (net.core.somaxconn)
ACCEPTS = 64  # connections accepted at a time, so that a burst does not keep the others waiting
IDLE = 600.0  # seconds: longer than people think and Locust's users wait
DRAIN = 5.0  # seconds that open connections get for their last replies when the server stops
POLL = 0.1  # seconds; how soon a stop is noticed, or a free descriptor
STOPPING_POLL = 0.005  # seconds; the same when there is little left to wait for
SWEEP = 0.5  # seconds between two looks for peers whose time is over
RESERVE = 512 * 1024  # bytes that a serving thread keeps for bad times
TRAFFIC = 5.0  # seconds between traffic lines


def default_threads() -> int:
    """Return how many threads serve best.

    It is one where the interpreter has a lock that all threads need: handing it from processor to
    processor costs more than a second thread brings.
    """
    has_lock = getattr(sys, "_is_gil_enabled", lambda: True)()
    return 1 if has_lock else os.cpu_count() or 1


def say(text: str) -> None:
    """Print one line. That nobody reads it any more is no reason to stop serving."""
    with contextlib.suppress(OSError):
        print(f"capserver: {text}\n", end="", flush=True)  # in one write, which other threads' lines can't cut


def address_text(address: tuple[Any, ...]) -> str:
    """Write a socket address as people do: `127.0.0.1:59898`, `[::1]:59898`."""
    host, port = address[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class CapitalizationServer:
    """A threaded TCP server that answers each line in upper case (see the package's docstring).

    Arguments: `host` and `port` (0 picks one) to listen on; `pool`, how many connections are served
    at a time while the others wait unanswered (None: all at once); `max_connections`, beyond which
    a peer is told that the server is full (None: no limit); `max_line` in bytes; `idle` in seconds,
    after which a peer that does nothing is let go; `threads` that serve; `verbose` for a line per
    connection opened and closed; `faults` and `seed` for what is to go wrong; `tls` for a TLS
    server's context. Raises OSError where it can't listen.

    `serve_forever` returns after `stop`, when what was received by then has been answered; `totals`
    then tells the whole run.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        pool: int | None = None,
        max_connections: int | None = None,
        max_line: int = MAX_LINE,
        idle: float = IDLE,
        threads: int | None = None,
        verbose: bool = False,
        faults: Sequence[Fault] = (),
        seed: int = 0,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.stopping = False
        self._pool = pool or sys.maxsize
        self._max_connections = max_connections or sys.maxsize
        self._max_line = max_line
        self._idle = idle
        self._threads = threads or default_threads()
        self._verbose = verbose
        self._faults = faults
        self._seed = seed
        self._tls = tls
        self._lock = threading.Lock()  # for all that follows
        self._open: set[Connection] = set()
        self._refused = 0  # of the open ones
        self._waiting: deque[Connection] = deque()  # for their turn in the pool
        self._served = 0  # at the moment
        self._short = False  # of descriptors
        self._connections = 0
        self._answered = 0  # on connections that are closed: the open ones keep their own counts,
        self._errors = 0  # because threads that share a count lose some of it
        self._noted: Counter[str] = Counter()  # faults that have struck and idle peers, likewise
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        self.listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            if os.name == "posix":  # a restart must not wait for the last run's connections to expire
                self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self.listener.bind(address)
            self.listener.listen(BACKLOG)
            self.listener.setblocking(False)
            self.address: tuple[Any, ...] = self.listener.getsockname()
        except BaseException:
            self.listener.close()
            raise

    def stop(self) -> None:
        """Have `serve_forever` return. For signal handlers and other threads."""
        self.stopping = True

    def serve_forever(self) -> None:
        """Serve until `stop`, and print the traffic every now and then."""
        threads = [ServingThread(self) for _ in range(self._threads)]
        self.listener.close()  # each has its own
        for thread in threads:
            thread.start()
        told_at, told = time.monotonic(), 0
        while not self.stopping:
            time.sleep(POLL)
            if not all(thread.is_alive() for thread in threads) and not self.stopping:
                raise RuntimeError("a serving thread has died")  # and has said why; half a server is worse than none
            now = time.monotonic()
            if now - told_at < TRAFFIC:
                continue
            connections, _, answered, _, noted = self.counts()
            if answered != told:
                rate = (answered - told) / (now - told_at)
                say(f"{connections} connections open, {answered} lines answered, {rate:.0f} lines/s{self._list(noted)}")
            told_at, told = now, answered
        for thread in threads:
            thread.join()

    def accept(self, listener: socket.socket) -> Connection | None:
        """Return who has come, if it is their turn. Raises OSError."""
        sock, peer = listener.accept()
        try:
            sock.setblocking(False)
            # A reply that is sent in pieces must not wait until the first is acknowledged.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._tls:
                sock = self._tls.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
        except OSError:  # they have gone already
            sock.close()
            return None
        if self._verbose:
            say(f"{address_text(peer)} opened")
        with self._lock:
            self._short = False
            self._connections += 1
            faults = Faults(self._faults, self._seed, self._connections) if self._faults else None
            is_full = len(self._open) - self._refused >= self._max_connections
            error = f"error: server full: {self._max_connections} connections are open\n" if is_full else ""
            connection = Connection(sock, peer, Lines(self._max_line, faults), self._idle, error.encode())
            self._open.add(connection)
            self._refused += connection.is_refused
            if connection.is_refused:
                return connection
            if self._served < self._pool:
                self._served += 1
                return connection
            self._waiting.append(connection)
            return None

    def next_waiting(self, leaving: Connection | None = None) -> Connection | None:
        """Return who takes the place of a connection that leaves; when the server stops, anybody who waits."""
        with self._lock:
            if leaving and leaving.is_refused:
                return None
            if self._waiting:
                return self._waiting.popleft()
            self._served -= leaving is not None
            return None

    def closed(self, connection: Connection) -> None:
        """Add the counts of a closed connection to the totals."""
        with self._lock:
            self._open.discard(connection)
            self._refused -= connection.is_refused
            self._answered += connection.answered
            self._errors += connection.errors
            self._noted += connection.lines.struck
            self._noted["idle"] += connection.ending == "idle"
        if self._verbose:
            say(f"{address_text(connection.peer)} {connection.ending}, {connection.answered} lines answered")

    def cannot_accept(self, error: OSError | MemoryError) -> None:
        """Say once that who comes now has to wait."""
        with self._lock:
            told, self._short = self._short, True
        if not told:
            why = error.strerror if isinstance(error, OSError) else "Out of memory"
            say(f"{why}: new connections wait until others are closed")

    def counts(self) -> tuple[int, int, int, int, Counter[str]]:
        """Return connections open and so far, lines answered, errors sent, and faults and idle peers by kind."""
        with self._lock:
            answered = self._answered + sum(connection.answered for connection in self._open)
            errors = self._errors + sum(connection.errors for connection in self._open)
            noted = self._noted.copy()
            for connection in self._open:
                noted.update(connection.lines.struck.copy())  # which a serving thread may be adding to
            return len(self._open), self._connections, answered, errors, noted

    def totals(self) -> str:
        """Return the whole run in a sentence."""
        _, connections, answered, errors, noted = self.counts()
        return f"answered {answered} lines on {connections} connections, {errors} errors{self._list(noted)}"

    @staticmethod
    def _list(noted: Counter[str]) -> str:
        return "".join(f", {count} {kind}" for kind, count in sorted(noted.items()) if count)


class ServingThread(threading.Thread):
    """Accepts connections and serves those that it has accepted, all at once."""

    def __init__(self, server: CapitalizationServer) -> None:
        super().__init__(daemon=True)  # what nobody foresaw must not keep the process alive
        self._server = server
        self._connections: set[Connection] = set()
        self._timers: list[tuple[float, int, Connection]] = []
        self._number = itertools.count()  # so that timers due at the same time are in order
        self._selector = selectors.DefaultSelector()
        self._listener = server.listener.dup()  # of its own to close: the others may not have seen the stop yet
        self._accepts_at: float | None = None  # where it pauses, so as not to spin
        self._sweeps_at = 0.0
        self._reserve = bytes(RESERVE)  # given up when there is no memory left, to go on with

    def run(self) -> None:
        """Serve until the server stops; then give the last replies."""
        self._selector.register(self._listener, READ)
        while not self._server.stopping:
            try:
                self._turn(POLL)
            except MemoryError as error:
                self._pause_accepting(error)
        while self._accept():
            pass
        if self._accepts_at is None:
            self._selector.unregister(self._listener)
        self._listener.close()
        while waiting := self._server.next_waiting():
            self._begin(waiting)
        end = time.monotonic() + DRAIN
        while self._connections and time.monotonic() < end:
            for connection in tuple(self._connections):
                connection.stopping = True
                if connection.waits_for != WRITE:
                    self._go_on(connection)
            self._turn(STOPPING_POLL)

    def _turn(self, patience: float) -> None:
        """Serve whoever has something to do, or wait for that."""
        if self._timers:
            patience = min(patience, max(0.0, self._timers[0][0] - time.monotonic()))
        for key, _ in self._selector.select(patience):
            if key.data is None:
                self._accept()
            else:
                self._go_on(key.data)
        now = time.monotonic()
        while self._timers and self._timers[0][0] <= now:
            _, _, connection = heapq.heappop(self._timers)
            if connection in self._connections:
                self._go_on(connection)
        if now >= self._sweeps_at:
            self._sweeps_at = now + SWEEP
            for connection in [each for each in self._connections if each.deadline < now]:
                self._close(connection, connection.late)
        if self._accepts_at and now >= self._accepts_at and not self._server.stopping:
            with contextlib.suppress(MemoryError):
                self._reserve = bytes(RESERVE)
            self._accepts_at = None
            self._selector.register(self._listener, READ)

    def _accept(self) -> bool:
        """Accept some of those who have come; return whether there may be more."""
        for _ in range(ACCEPTS):
            try:
                connection = self._server.accept(self._listener)
            except (BlockingIOError, ConnectionAbortedError):  # nobody, or somebody who has left again
                return False
            except (OSError, MemoryError) as error:  # descriptors, mostly (accept(2))
                self._pause_accepting(error)
                return False
            if connection:
                self._begin(connection)
        return True

    def _pause_accepting(self, error: OSError | MemoryError) -> None:
        """Accept nobody for a while."""
        self._reserve = b""
        if self._accepts_at is None:
            self._selector.unregister(self._listener)
        self._accepts_at = time.monotonic() + POLL
        self._server.cannot_accept(error)

    def _begin(self, connection: Connection) -> None:
        self._connections.add(connection)
        self._go_on(connection)

    def _go_on(self, connection: Connection) -> None:
        """Have a connection go on, until it waits for something else."""
        try:
            wait = next(connection.story)
        except StopIteration:
            self._close(connection, connection.ending)
        except OSError as error:
            self._close(connection, f"lost ({error.strerror or error})")
        except Exception as error:  # nobody else is to suffer from what nobody foresaw
            say(f"{address_text(connection.peer)} dropped: {error!r}")
            self._close(connection, "dropped")
        else:
            if wait is not connection.waits_for:
                self._watch(connection, wait)

    def _watch(self, connection: Connection, wait: Wait | None) -> None:
        if connection.waits_for in (READ, WRITE):
            self._selector.unregister(connection.sock)
        connection.waits_for = wait
        if isinstance(wait, Pause):
            heapq.heappush(self._timers, (time.monotonic() + wait.seconds, next(self._number), connection))
        elif wait is not None:
            self._selector.register(connection.sock, wait, connection)

    def _close(self, connection: Connection, ending: str) -> None:
        """Close a connection, and begin with whoever has waited for its place."""
        self._watch(connection, None)
        connection.ending = ending
        connection.story.close()
        connection.sock.close()
        self._connections.discard(connection)
        self._server.closed(connection)
        if follower := self._server.next_waiting(connection):
            self._begin(follower)
