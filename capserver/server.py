"""The threaded server: a thread per connection, all of them served at once or so many at a time."""

import contextlib
import errno
import socket
import socketserver
import struct
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

from capserver.faults import Fault, Faults

MAX_LINE = 64 * 1024  # bytes; the limit of asyncio's streams, and the most a peer can make us keep
STACK_SIZE = 256 * 1024  # bytes; a handler's calls are few, and thousands of threads must fit
LINGER = 1.0  # seconds that a refused peer gets to read its error before the connection is gone
DRAIN = 5.0  # seconds that open connections get for their last answers when the server stops
POLL = 0.1  # seconds; how soon a stop is noticed
TRAFFIC = 5.0  # seconds between traffic lines

RESET = struct.pack("ii", 1, 0)  # to close with a linger time of 0 is to reset (socket(7), SO_LINGER)
OUT_OF_RESOURCES = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}  # accept(2)
TCP_CLOSE_WAIT = 8  # Linux's include/net/tcp_states.h
NOT_UTF8 = b"error: not UTF-8\n"


def say(text: str) -> None:
    """Print one line. That nobody reads it any more is no reason to stop serving."""
    with contextlib.suppress(OSError):
        print(f"capserver: {text}\n", end="", flush=True)  # in one write, which other threads' lines can't cut


def address_text(address: tuple[Any, ...]) -> str:
    """Write a socket address as people do: `127.0.0.1:59898`, `[::1]:59898`."""
    host, port = address[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class LineHandler(socketserver.StreamRequestHandler):
    """Serves one connection: reads lines, sends them back in upper case."""

    server: "CapitalizationServer"
    disable_nagle_algorithm = True  # a pipelined reply must not wait until the last one is acknowledged

    def setup(self) -> None:
        super().setup()
        self.answered = 0
        self.errors = 0
        self.faults = self.server.drawn.pop(self.request, None)
        self.struck: Counter[str] = Counter()  # replies that a fault has struck, by its kind
        self.ending = "closed"
        self.server.opened(self)

    def handle(self) -> None:
        with self.server.slots:
            try:
                self.answer_lines()
            except OSError as error:  # the peer has reset the connection or vanished
                self.ending = f"lost ({error.strerror or error})"

    def finish(self) -> None:
        super().finish()
        self.server.closed(self)

    def answer_lines(self) -> None:
        """Answer each line until the peer, the server's end or an over-long line ends it."""
        limit = self.server.max_line
        while line := self.rfile.readline(limit + 1):
            if not line.endswith(b"\n"):
                if len(line) > limit:
                    return self.refuse(f"error: line longer than {limit} bytes\n".encode())
                if self.server.stopping.is_set() and not self.peer_has_ended():
                    return None  # it was us who ended the input: the line may have gone on
            if not self.answer(line):
                return None
        return None

    def peer_has_ended(self) -> bool:
        """Say whether the peer has shut down its sending side, as far as the system tells (tcp(7), TCP_INFO)."""
        if not hasattr(socket, "TCP_INFO"):
            return False
        state: int = self.request.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]
        return state == TCP_CLOSE_WAIT

    def answer(self, line: bytes) -> bool:
        """Reply to one line, whatever its terminator; return whether the connection goes on."""
        try:
            reply = line.decode().upper().encode()
        except UnicodeDecodeError:
            self.wfile.write(NOT_UTF8)
            self.errors += 1
            return True
        if self.faults and (fault := self.faults.draw()):
            return self.suffer(fault, self.faults.seconds(fault), reply)
        self.wfile.write(reply)
        self.answered += 1
        return True

    def suffer(self, fault: Fault, seconds: float, reply: bytes) -> bool:
        """Reply as a fault has it; return whether the connection goes on."""
        self.struck[fault.kind] += 1
        match fault.kind:
            case "delay":
                pieces = [reply]
            case "drip":
                pieces = [reply[i : i + 1] for i in range(len(reply))]
            case "garble":
                self.wfile.write(b"?" + reply)
                return True
            case "stall":
                self.linger(forever=True)
                return False
            case "reset":
                self.request.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                return False
            case kind:
                if kind == "truncate":
                    self.wfile.write(reply[: len(reply) // 2])
                self.request.shutdown(socket.SHUT_WR)
                self.linger()
                return False
        for piece in pieces:
            self.server.stopping.wait(seconds)
            self.wfile.write(piece)
        self.answered += 1
        return True

    def refuse(self, error: bytes) -> None:
        """Send a last reply and let it arrive.

        Closing a socket that holds unread input resets the connection (RFC 1122, 4.2.2.13), and the
        reset may overtake the reply. So the rest of the input is read for a while, and thrown away.
        """
        self.errors += 1
        self.wfile.write(error)
        self.request.shutdown(socket.SHUT_WR)
        self.linger()

    def linger(self, *, forever: bool = False) -> None:
        """Read what still comes and throw it away, for a while or until the peer leaves."""
        end = time.monotonic() + LINGER
        self.request.settimeout(None if forever else LINGER)
        with contextlib.suppress(TimeoutError):
            while (forever or time.monotonic() < end) and self.request.recv(MAX_LINE):
                pass


class CapitalizationServer(socketserver.ThreadingTCPServer):
    """A threaded TCP server that answers each line in upper case (see the package's docstring).

    Arguments: `host` and `port` (0 picks one) to listen on; `pool`, how many connections are served
    at a time while the others wait unanswered (None: all at once); `max_line` in bytes; `verbose`
    for a line per connection opened and closed; `faults` and `seed` for what is to go wrong. Raises
    OSError where it can't listen.

    `serve_forever` runs until `shutdown`; then `drain` gives the last answers and `totals` the sum.
    """

    allow_reuse_address = True  # a restart must not wait for the last run's connections to expire
    daemon_threads = True  # a peer that never reads its answers must not keep the process alive
    request_queue_size = 4096  # with the default of 5 a burst of 1000 connects took 0.9 s and 57 failed

    def __init__(
        self,
        host: str,
        port: int,
        *,
        pool: int | None = None,
        max_line: int = MAX_LINE,
        verbose: bool = False,
        faults: Sequence[Fault] = (),
        seed: int = 0,
    ) -> None:
        self.max_line = max_line
        self.verbose = verbose
        self.drawn: dict[Any, Faults] = {}  # of connections whose handlers have not taken theirs yet
        self._faults = faults
        self._seed = seed
        self._struck: Counter[str] = Counter()
        self._short = False  # of descriptors
        self.stopping = threading.Event()
        self.slots = threading.Semaphore(pool or sys.maxsize)
        self._change = threading.Condition()
        self._handlers: set[LineHandler] = set()
        self._open = 0
        self._connections = 0
        self._answered = 0  # on connections that are closed: the open ones keep their own counts,
        self._errors = 0  # because threads that share a count lose some of it
        self._told_at, self._told = time.monotonic(), 0
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        self.address_family, _, _, _, address = found[0]
        super().__init__(address, LineHandler)  # type: ignore[arg-type]

    def get_request(self) -> Any:
        """Accept a connection. Without a descriptor for it, wait a little: the listener stays readable meanwhile."""
        try:
            accepted = super().get_request()
        except OSError as error:
            if error.errno in OUT_OF_RESOURCES:
                if not self._short:
                    say(f"{error.strerror}: new connections wait until others are closed")
                self._short = True
                time.sleep(POLL)
            raise  # which socketserver takes for nobody there
        self._short = False
        return accepted

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._change:
            self._connections += 1
            self._open += 1
        if self._faults:
            faults = Faults(self._faults, self._seed, self._connections)
            if faults.refused:
                with self._change:
                    self._struck["refuse"] += 1
                request.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                self.shutdown_request(request)
                return
            self.drawn[request] = faults
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        if request.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, len(RESET)) == RESET:
            self.close_request(request)  # without the orderly end that a reset is not to have
        else:
            super().shutdown_request(request)
        self.drawn.pop(request, None)  # where no handler came to take it
        with self._change:
            self._open -= 1
            self._change.notify_all()

    def opened(self, handler: LineHandler) -> None:
        """Take note of a connection that is about to be served, or to wait for its turn."""
        with self._change:
            self._handlers.add(handler)
            if self.stopping.is_set():
                self._end_input(handler)
        if self.verbose:
            say(f"{address_text(handler.client_address)} opened")

    def closed(self, handler: LineHandler) -> None:
        """Add a connection's counts to the totals."""
        with self._change:
            self._handlers.discard(handler)
            self._answered += handler.answered
            self._errors += handler.errors
            self._struck += handler.struck
        if self.verbose:
            peer = address_text(handler.client_address)
            say(f"{peer} {handler.ending}, {handler.answered} lines answered")

    def drain(self) -> None:
        """Answer what has been received, then close every connection. For after `serve_forever`."""
        self.socket.setblocking(False)
        with contextlib.suppress(OSError):  # BlockingIOError: nobody is left in the backlog
            while True:
                self.process_request(*self.get_request())
        self.server_close()
        with self._change:
            self.stopping.set()
            for handler in self._handlers:
                self._end_input(handler)
            if self._open:
                self.slots.release(self._open)  # nobody waits for a turn any more
            self._change.wait_for(lambda: self._open == 0, DRAIN)

    @staticmethod
    def _end_input(handler: LineHandler) -> None:
        # What the kernel has received can still be read after this; then comes the end of file.
        with contextlib.suppress(OSError):  # the peer has gone
            handler.request.shutdown(socket.SHUT_RD)

    def counts(self) -> tuple[int, int, int, int, Counter[str]]:
        """Return connections open and so far, lines answered, errors sent, and replies struck by faults."""
        with self._change:
            answered = self._answered + sum(handler.answered for handler in self._handlers)
            errors = self._errors + sum(handler.errors for handler in self._handlers)
            struck = sum((handler.struck for handler in self._handlers), self._struck.copy())
            return self._open, self._connections, answered, errors, struck

    def totals(self) -> str:
        """Return the whole run in a sentence."""
        _, connections, answered, errors, struck = self.counts()
        return f"answered {answered} lines on {connections} connections, {errors} errors{self._told_of(struck)}"

    @staticmethod
    def _told_of(struck: Counter[str]) -> str:
        return "".join(f", {count} {kind}" for kind, count in sorted(struck.items()))

    def service_actions(self) -> None:
        """Print the traffic line when it is due; called by `serve_forever` every now and then."""
        now = time.monotonic()
        if now - self._told_at < TRAFFIC:
            return
        connections, _, answered, _, struck = self.counts()
        if answered != self._told:
            rate = (answered - self._told) / (now - self._told_at)
            faults = self._told_of(struck)
            say(f"{connections} connections open, {answered} lines answered, {rate:.0f} lines/s{faults}")
        self._told_at, self._told = now, answered

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Give what no handler foresaw one line, and the other connections their peace."""
        say(f"{address_text(client_address)} dropped: {sys.exception()!r}")
