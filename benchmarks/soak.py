"""Does the server stay as it is for as long as it runs? Peers of every kind come and go; what it takes is a table.

Some converse, some come and go, some send what is not UTF-8 or too long, some reset, some leave half a
line and some say nothing, while the server closes, resets, truncates and garbles at random. At the end what the
peers have counted must be what the server tells, and memory, threads and descriptors must be flat. Linux only.

python benchmarks/soak.py --minutes 60
"""

import argparse
import contextlib
import os
import platform
import random
import re
import socket
import struct
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests import kit

IDLE = 5  # seconds after which the server closes those who say nothing
MAX_LINE = 1000  # bytes
FAULTS = ("close", "reset", "truncate", "garble")
RATE = 0.003  # of the replies, for each of them
PAUSE = 0.04  # seconds, on average, between two things that a peer does: this is no speed test
ROW = 10.0  # seconds
GROWTH = 2048  # KB of memory from the first row on that are no leak: what the threads' allocators keep
RESET = struct.pack("ii", 1, 0)  # to close with a linger time of 0 is to reset (socket(7), SO_LINGER)


class Ended(Exception):
    """The connection has ended, as a fault or an idle timeout has it end, which has been counted."""


class Peer(threading.Thread):
    """One client after the other, all of a kind."""

    def __init__(self, kind: "Kind", port: int, seed: int) -> None:
        super().__init__(daemon=True)
        self.counts: Counter[str] = Counter()  # its own: threads that share a count lose some of it
        self.ending = threading.Event()
        self.random = random.Random(seed)
        self.wrong: str | None = None
        self._kind = kind
        self._port = port

    def run(self) -> None:
        """Go on until the end, and note what no peer should see."""
        try:
            while not self.ending.is_set():
                with socket.create_connection(("127.0.0.1", self._port), kit.PATIENCE) as sock:
                    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    self.counts["connections"] += 1
                    with contextlib.suppress(Ended):
                        self._kind(self, sock)
                self.pause()
        except Exception as error:  # whatever it is, it belongs into the report
            self.wrong = f"{self._kind.__name__}: {error!r}"

    def pause(self) -> None:
        """Do nothing for a moment."""
        self.ending.wait(self.random.uniform(0, 2 * PAUSE))

    def reply(self, sock: socket.socket) -> bytes:
        """Return the reply that comes. Raises Ended where a fault comes instead."""
        reply = b""
        while not reply.endswith(b"\n"):
            try:
                piece = sock.recv(65536)
            except ConnectionResetError:
                self.counts["reset"] += 1
                raise Ended from None
            if not piece:
                self.counts["truncate" if reply else "close"] += 1
                raise Ended
            reply += piece
        return reply

    def ask(self, sock: socket.socket) -> None:
        """Send a line, and count what comes of it."""
        line = b"line %d\n" % self.random.randrange(10**9)
        sock.sendall(line)
        reply = self.reply(sock)
        if reply == line.upper():
            self.counts["lines"] += 1
        elif reply == b"?" + line.upper():
            self.counts["garble"] += 1
        else:
            raise AssertionError(f"{line!r} was answered by {reply!r}")
        self.pause()

    def fail(self, sock: socket.socket, line: bytes) -> None:
        """Send a line that is an error."""
        sock.sendall(line)
        reply = self.reply(sock)
        assert reply.startswith(b"error: "), reply
        self.counts["errors"] += 1
        self.pause()

    def wait_for_the_end(self, sock: socket.socket) -> None:
        """Wait until the server has had enough of us."""
        assert sock.recv(1) == b""
        self.counts["idle"] += 1


Kind = Callable[[Peer, socket.socket], None]


def converses(peer: Peer, sock: socket.socket) -> None:
    """Stay until the end."""
    while not peer.ending.is_set():
        peer.ask(sock)


def comes_and_goes(peer: Peer, sock: socket.socket) -> None:
    """Say a few words."""
    for _ in range(peer.random.randrange(5)):
        peer.ask(sock)


def errs(peer: Peer, sock: socket.socket) -> None:
    """Send lines that are not UTF-8, then one that is too long."""
    for _ in range(3):
        peer.fail(sock, b"caf\xe9\n")
        peer.ask(sock)
    peer.fail(sock, b"x" * (MAX_LINE + peer.random.randrange(1, 5000)))
    assert sock.recv(1) == b""


def resets(peer: Peer, sock: socket.socket) -> None:
    """Crash in the middle of a line."""
    peer.ask(sock)
    sock.sendall(b"hal")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)


def leaves_half_a_line(peer: Peer, sock: socket.socket) -> None:
    """Begin a line, and forget about it."""
    peer.ask(sock)
    sock.sendall(b"hal")
    peer.wait_for_the_end(sock)


def says_nothing(peer: Peer, sock: socket.socket) -> None:
    """Only be there."""
    peer.wait_for_the_end(sock)


KINDS: dict[Kind, int] = {
    converses: 8,
    comes_and_goes: 8,
    errs: 3,
    resets: 3,
    leaves_half_a_line: 10,
    says_nothing: 10,
}


def total(peers: list[Peer]) -> Counter[str]:
    """Return what all peers have counted so far."""
    return sum((peer.counts.copy() for peer in peers), Counter())


def told(totals: str) -> Counter[str]:
    """Return what the server's last line tells."""
    return Counter({kind: int(count) for count, kind in re.findall(r"(\d+) (\w+)", totals)})


def main() -> int:
    """Run, print the table, and return 1 where something was not as it should be."""
    command = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    command.add_argument("--minutes", type=float, default=3.0, help="how long (default: %(default)g)")
    options = command.parse_args()
    faults = [option for kind in FAULTS for option in ("--fault", f"{kind}={RATE}")]
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}\n")
    print("| s | connections | lines answered | errors | RSS in KB | threads | descriptors |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    with (
        tempfile.TemporaryDirectory() as folder,
        kit.server(
            *("--idle-timeout", str(IDLE), "--max-line", str(MAX_LINE), *faults), output=Path(folder) / "server"
        ) as server,
    ):
        process = psutil.Process(server.process.pid)
        peers = [
            Peer(kind, server.port, 1000 * number + each)
            for number, (kind, count) in enumerate(KINDS.items())
            for each in range(count)
        ]
        rows: list[tuple[int, int, int]] = []
        begin = time.monotonic()

        def row() -> None:
            counts = total(peers)
            rows.append((process.memory_info().rss // 1024, process.num_threads(), process.num_fds()))
            cells = (round(time.monotonic() - begin), counts["connections"], counts["lines"], counts["errors"])
            print(f"| {' | '.join(str(cell) for cell in cells + rows[-1])} |", flush=True)

        row()
        for peer in peers:
            peer.start()
        while (left := begin + 60 * options.minutes - time.monotonic()) > 0:
            time.sleep(min(ROW, left))
            row()
        for peer in peers:
            peer.ending.set()
        for peer in peers:
            peer.join(kit.PATIENCE + IDLE)
        with contextlib.suppress(AssertionError):  # the row shows what is left over
            kit.eventually(lambda: process.num_fds() <= rows[0][2], IDLE)
        row()
        ended_well = server.stop() == 0
        totals = server.output.splitlines()[-1]

    counts, server_counts = total(peers), told(totals)
    wrong = [peer.wrong for peer in peers if peer.wrong]
    wrong += [f"{peer.name} has not ended" for peer in peers if peer.is_alive()]
    wrong += [
        f"{kind}: the peers counted {counts[kind]}, the server {server_counts[kind]}"
        for kind in sorted(counts | server_counts)
        if counts[kind] != server_counts[kind]
    ]
    if not ended_well:
        wrong.append(f"the server ended badly: {totals}")
    print(f"\nThe server {totals.removeprefix('capserver: ')}.")
    print("\n".join(wrong) if wrong else "The peers counted the same.")
    start, first, *_, last = rows  # the server has met nobody at the start, and has warmed up in the first row
    growth = max(memory for memory, _, _ in rows[1:]) - first[0]
    is_flat = growth <= GROWTH and last[1:] <= start[1:]
    print(
        f"Memory, threads and descriptors are {'' if is_flat else 'NOT '}flat: {growth} KB more at most than in the "
        f"first row, {last[1] - start[1]} threads and {last[2] - start[2]} descriptors left over."
    )
    return 0 if is_flat and not wrong else 1


if __name__ == "__main__":
    sys.exit(main())
