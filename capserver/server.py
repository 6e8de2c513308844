"""The threaded server: one thread accepts; each connection has a thread, which blocks in `recv`.

With a pool, a fixed number of threads take the connections from a queue instead. The blocking calls
have no timeouts: Python's cost two more system calls for each line. Instead the accepting thread
looks at all connections twice a second, and shuts down the socket of each one whose time is over. A
call that blocks there then returns at once.
"""

import _thread
import argparse
import contextlib
import ipaddress
import math
import os
import queue
import select
import socket
import ssl
import sys
import threading
import time
from collections import Counter
from typing import Any

from capserver.connection import CHUNK, GRACE, Connection

BACKLOG = 4096  # connections that wait to be accepted; Linux grants no more (net.core.somaxconn)
STACK = 128 * 1024  # bytes of each thread; the usual 8 MB would make 80 GB of 10,000 threads
DRAIN = 5.0  # seconds that open connections get for their last replies when the server stops
POLL = 0.1  # seconds until the accepting thread sees a stop
SWEEP = 0.5  # seconds between two looks for peers whose time is over
TRAFFIC = 5.0  # seconds between traffic lines

_printing = threading.Lock()
_unprinted = 0  # lines since the last one that was printed


def say(text: str) -> None:
    """Print one line. One that would have to wait for its reader is dropped and counted instead."""
    global _unprinted
    with _printing:
        note = f" ({_unprinted} lines before this one were dropped)" if _unprinted else ""
        try:
            if sys.platform != "win32" and not select.select([], [1], [], 0)[1]:
                raise BlockingIOError
            os.write(1, f"capserver: {text}{note}\n".encode())
            _unprinted = 0
        except OSError:  # a console without a reader, or without room, is no reason to stop serving
            _unprinted += 1


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
        self.options, self.tls = options, tls
        self.stopping = threading.Event()
        self._waiting: queue.SimpleQueue[Connection] = queue.SimpleQueue()  # for a thread of the pool
        self._open: set[Connection] = set()
        self._closed: Counter[str] = Counter()  # what the closed connections have counted
        self._lock = threading.Lock()  # for these two
        self._connections = 0
        self._swept = self._reported = time.monotonic()
        self._short = -math.inf  # when descriptors, memory or threads were short
        self._answered = 0  # lines, by the last traffic line
        found = socket.getaddrinfo(options.host, options.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        self._listener = socket.create_server(found[0][4], family=found[0][0], backlog=BACKLOG)
        self._listener.settimeout(POLL)
        threading.stack_size(STACK)
        for _ in range(options.pool or 0):
            _thread.start_new_thread(self._serve_waiting, ())

    def serve_forever(self) -> None:
        """Accept connections until `stopping` is set; return when what was received by then is answered."""
        options, address = self.options, self._listener.getsockname()
        served = f", {options.pool} connections at a time" if options.pool else ""
        say(f"listening on {address_text(address)}{' with TLS' if self.tls else ''}{served}; Ctrl-C stops it")
        if not ipaddress.ip_address(address[0]).is_loopback:
            say("warning: other machines can reach this address")
        while not self.stopping.is_set():
            try:
                self._accept()
                self._look_round()
            except MemoryError:
                with contextlib.suppress(MemoryError):
                    self.make_room("out of memory")
        self._listener.settimeout(0)
        while self._accept():  # connections that only the system has accepted so far
            pass
        self._listener.close()
        end = time.monotonic() + DRAIN
        while self._open and time.monotonic() < end:
            for connection in tuple(self._open):
                connection.shut_down(socket.SHUT_RD)  # Linux leaves what has been received to be read
            time.sleep(POLL / 10)
            self._look_round()
        answered, errors, others = self._counts()
        say(f"answered {answered} lines on {self._connections} connections, {errors} errors{others}")

    def close(self, connection: Connection, ending: str) -> None:
        """Close a connection and add to the totals what it has counted. `ending` is why, in words."""
        connection.sock.close()
        with self._lock:
            if connection not in self._open:
                return
            is_news = ending.startswith(("dropped", "greedy"))
            if self.options.verbose or is_news:  # before the totals, for which a stop waits until none is open
                say(f"{connection.peer} {ending}, {connection.counts['answered']} lines answered")
            self._closed.update(connection.counts)
            if ending in ("idle", "greedy"):
                self._closed[ending] += 1
            self._open.discard(connection)

    def make_room(self, why: str) -> bool:
        """Close the connection with the longest unfinished line, because something is short; return whether one has."""
        now = time.monotonic()
        if now - self._short > TRAFFIC:
            say(f"{why}: new connections wait until others are closed, or are closed themselves")
        self._short = now
        with self._lock:
            greediest = max(self._open, key=lambda each: 0 if each.ending else len(each.lines.unfinished), default=None)
        is_greedy = greediest is not None and len(greediest.lines.unfinished) > CHUNK
        if greediest and is_greedy:
            greediest.shut_down(socket.SHUT_RDWR, "greedy")
        time.sleep(POLL / 10 if is_greedy else POLL)  # what has failed would fail again at once
        return is_greedy

    def _accept(self) -> bool:
        """Accept a connection, if one comes in time; return whether there may be more."""
        try:
            sock, address = self._listener.accept()
        except (TimeoutError, BlockingIOError):
            return False
        except OSError as error:  # out of descriptors, mostly (accept(2))
            self.make_room(str(error.strerror))
            return False
        options = self.options
        self._connections += 1
        connection = Connection(self, sock, address_text(address), self._connections)
        if options.verbose:
            say(f"{connection.peer} opened")
        with self._lock:
            is_full = options.max_connections and sum(each.has_place for each in self._open) >= options.max_connections
            self._open.add(connection)
        is_refused = connection.faults and connection.faults.refused
        if is_full:
            connection.error = f"error: server full: {options.max_connections} connections are open\n"
        if is_full or is_refused:
            connection.has_place = False
        elif options.pool:
            connection.deadline = math.inf
            self._waiting.put(connection)
            return True
        while True:
            try:
                # Not by threading.Thread, which waits until the thread runs: that costs a third of the connections/s.
                _thread.start_new_thread(connection.run, ())
                return True
            except RuntimeError:
                if not self.make_room("no more threads"):
                    self.close(connection, "closed")
                    return True

    def _serve_waiting(self) -> None:
        while True:
            connection = self._waiting.get()
            if self.stopping.is_set():
                self.close(connection, "closed")
            else:
                connection.run()

    def _look_round(self) -> None:
        """Every now and then, cut off the peers whose time is over, and print the traffic."""
        now = time.monotonic()
        if now - self._swept < SWEEP:
            return
        self._swept = now
        for connection in tuple(self._open):
            if connection.deadline == math.inf:  # it waits for the pool
                connection.has_place = connection.has_place and not connection.has_ended()
            elif connection.deadline < now - GRACE:  # its thread has no memory to begin with, or to end with
                self.close(connection, "closed")
                self.make_room("out of memory")
            elif connection.deadline < now:
                connection.shut_down(socket.SHUT_RDWR, "idle")
        if now - self._reported >= TRAFFIC:
            answered, _, others = self._counts()
            if answered > self._answered:
                rate = (answered - self._answered) / (now - self._reported)
                say(f"{len(self._open)} connections open, {answered} lines answered, {rate:.0f} lines/s{others}")
            self._reported, self._answered = now, answered

    def _counts(self) -> tuple[int, int, str]:
        """Return how many lines were answered, how many were errors, and all else in words."""
        with self._lock:
            counts = sum((Counter(each.counts) for each in self._open), self._closed)
        others = sorted(kind for kind in counts if kind not in ("", "answered", "errors"))
        return counts["answered"], counts["errors"], "".join(f", {counts[kind]} {kind}" for kind in others)
