"""Do the client and the server survive what peers and networks do to them, and do their counts still agree?

Each row is an attack: random input cut at every place, peers that are silent, slow, huge, or gone, and too few
descriptors. It holds where every answer was the right one, and both sides have counted the same. Linux only.

python benchmarks/hostile.py
"""

import contextlib
import json
import os
import platform
import random
import socket
import struct
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1]))
os.environ["LOCUST_SKIP_MONKEY_PATCH"] = "1"  # the peers are threads of this process
from tests import kit, peers, wire
from tests.conversation import conversation

del os.environ["LOCUST_SKIP_MONKEY_PATCH"]

INPUTS = 300  # random ones, each of which is cut at every place
LETTERS = [b"a", b"Z", b" ", b"\0", b"\r", "ß".encode(), "ﬁ".encode(), "😀".encode(), b"\xff", b"\xc3", b"\xf0\x9f"]
SECONDS = 8  # of each swarm, and of each siege
SILENT, SLOW, RESETTING, HUGE, LEAVING, WELL_BEHAVED = 1000, 50, 500, 20, 500, 4  # clients in a siege
DESCRIPTORS = 64  # of a process that has too few
USERS = 5  # of each hostile service


class Row(NamedTuple):
    """What came of one attack. `counted` are pairs: what this side has counted, and the other."""

    attack: str
    inputs: int
    connections: int
    faults: int
    counted: tuple[int, int]
    is_right: bool = True

    @property
    def held(self) -> bool:
        """Whether every answer was right, and both sides have counted the same."""
        return self.is_right and self.counted[0] == self.counted[1]

    def __str__(self) -> str:
        cells = self.attack, self.inputs, self.connections, self.faults, *self.counted, "yes" if self.held else "NO"
        return f"| {' | '.join(map(str, cells))} |"


def random_lines(rng: random.Random) -> bytes:
    """Return bytes of which some are text, some are lines, and some are neither."""
    return b"".join(rng.choices([*LETTERS, b"\n", b"\r\n"], k=rng.randrange(1, 8)))


def capitalized(data: bytes) -> tuple[bytes, int, int]:
    """Return the right answer to some input, the lines that are answered, and the errors."""
    reply, answered, errors = b"", 0, 0
    for line in data.removesuffix(b"\n").split(b"\n"):
        end = b"\n" if len(line) < len(data) else b""
        data = data[len(line) + 1 :]
        try:
            reply += line.decode().upper().encode() + end
            answered += 1
        except UnicodeDecodeError:
            reply += b"error: not UTF-8\n"
            errors += 1
    return reply, answered, errors


def cut_requests(folder: Path) -> Row:
    """Send random input to the server, cut at every place."""
    rng = random.Random(1)
    cases = [(data, place) for data in (random_lines(rng) for _ in range(INPUTS)) for place in range(len(data))]
    with kit.server(output=folder / "cut") as server:

        def is_answered(case: tuple[bytes, int]) -> bool:
            data, place = case
            with wire.connect(server) as sock:
                for piece in filter(None, (data[:place], data[place:])):
                    sock.sendall(piece)
                sock.shutdown(socket.SHUT_WR)
                return wire.read(sock) == capitalized(data)[0]

        with ThreadPoolExecutor(8) as pool:
            is_right = all(pool.map(is_answered, cases))
        lines, connections, errors = server.totals()
    expected = [capitalized(data) for data, _ in cases]
    is_right = is_right and errors == sum(bad for _, _, bad in expected)
    counted = sum(good for _, good, _ in expected), lines
    return Row("server: random input, cut at every place", len(cases), connections, errors, counted, is_right)


def siege(folder: Path) -> Row:
    """Besiege the server with all kinds of bad clients, while some well-behaved ones are served."""
    replies = Counter[str]()
    ended = threading.Event()

    with kit.server("--max-line", "100000", output=folder / "siege") as server, contextlib.ExitStack() as stack:

        def well_behaved(_: int) -> bool:
            with wire.connect(server) as sock:
                while not ended.is_set():
                    if wire.ask(sock, b"word\n") != b"WORD\n":
                        return False
                    replies["right"] += 1
            return True

        def slow(_: int) -> bool:
            with wire.connect(server) as sock:
                for byte in b"slow":
                    sock.sendall(bytes((byte,)))
                    ended.wait(SECONDS / 5)
                replies["right"] += 1
                return wire.ask(sock, b"\n") == b"SLOW\n"

        def huge(_: int) -> bool:
            with wire.connect(server) as sock, contextlib.suppress(OSError):  # the server resets what it does not read
                while True:
                    sock.sendall(b"x" * 65536)
            return True

        def resetting(_: int) -> bool:
            with wire.connect(server) as sock:
                sock.sendall(b"half a li")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return True

        def leaving(_: int) -> bool:
            wire.connect(server).close()
            return True

        for _ in range(SILENT):
            stack.enter_context(wire.connect(server))
        pool = stack.enter_context(ThreadPoolExecutor(WELL_BEHAVED + SLOW + HUGE + 8))
        kinds: list[tuple[Callable[[int], bool], int]] = [
            *((well_behaved, WELL_BEHAVED), (slow, SLOW), (huge, HUGE), (resetting, RESETTING), (leaving, LEAVING))
        ]
        results = [pool.map(act, range(count)) for act, count in kinds]
        time.sleep(SECONDS)
        ended.set()
        is_right = all(all(result) for result in results)
        lines, connections, errors = server.totals()
    bad = sum(count for _, count in kinds) - WELL_BEHAVED - SLOW + SILENT
    is_right = is_right and errors == HUGE
    attack = "server: silent, slow, huge, resetting and leaving clients"
    return Row(attack, bad + SLOW, connections, bad, (replies["right"], lines), is_right)


def leavers(folder: Path) -> Row:
    """Fill the server's pool, and let clients that wait for it leave again with their lines unanswered."""
    pool, most = 2, 20
    with kit.server("--pool", str(pool), "--max-connections", str(most), output=folder / "leavers") as server:
        with contextlib.ExitStack() as stack:
            holding = [stack.enter_context(wire.connect(server)) for _ in range(pool)]
            for sock in holding:
                wire.ask(sock, b"hold\n")
            for _ in range(3 * most):
                with wire.connect(server) as sock:
                    sock.sendall(b"gone\n")
                time.sleep(0.01)

        def is_served() -> bool:
            with wire.connect(server) as sock:
                return wire.ask(sock, b"word\n") == b"WORD\n"

        kit.eventually(is_served)  # their places are free again, a moment later
        lines, connections, _ = server.totals()
    attack = "server: clients that leave the queue of the pool"
    return Row(attack, 3 * most, connections, 3 * most, (pool + 1, lines))


def few_descriptors(folder: Path) -> Row:
    """Open more connections than the server has descriptors for; then it serves again."""
    few = ("-c", f'ulimit -n {DESCRIPTORS}; exec "{sys.executable}" -m capserver "$0" "$@"')
    tried, answered = 4 * DESCRIPTORS, 0
    with kit.server(output=folder / "few", python="/bin/sh", code=few) as server:
        with contextlib.ExitStack() as stack:
            for _ in range(tried):
                stack.enter_context(wire.connect(server))
            time.sleep(1)
        served = 0
        end = time.monotonic() + kit.PATIENCE
        while served < 10 and time.monotonic() < end:
            with contextlib.suppress(OSError, AssertionError), wire.connect(server) as sock:
                served += wire.ask(sock, b"word\n") == b"WORD\n"
                answered += 1
        lines, connections, _ = server.totals()
    return Row("server: few descriptors", tried, connections, tried, (answered, lines), served == 10)


def cut_replies(_: Path) -> Row:
    """Answer the client with random lines, cut at every place, of which some are not finished."""
    rng = random.Random(2)
    endings = [b"\n", b"\n", b""]
    replies = [b"".join([*rng.choices(LETTERS, k=rng.randrange(8)), rng.choice(endings)]) for _ in range(INPUTS)]
    cases = [(reply, place) for reply in replies for place in range(len(reply) + 1)]
    heard = Counter[str]()

    def behave(sock: socket.socket) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with sock.makefile("rb") as lines:
            for line in lines:
                heard["requests"] += 1
                reply, place = cases[int(line)]
                for piece in filter(None, (reply[:place], reply[place:])):
                    sock.sendall(piece)
                    time.sleep(0.0002)  # the client reads it
                if not reply.endswith(b"\n"):
                    return

    def expected(reply: bytes) -> str | None:
        if not reply.endswith(b"\n"):
            return "reply: closed halfway" if reply else "reply: closed"
        return None if reply.decode(errors="ignore").encode() == reply else "reply: not text"

    with conversation(behave) as talk:
        answers = talk.run(lambda user: [user.client.request(str(each), name="line") for each in range(len(cases))])
    outcomes = [failure for name, failure in talk.outcomes if name == "line"]
    connections = len(talk.outcomes) - len(outcomes)
    is_right = outcomes == [expected(sent) for sent, _ in cases]
    is_right &= all(got is None or got.encode() + b"\n" == sent for got, (sent, _) in zip(answers, cases, strict=True))
    faults = sum(failure is not None for failure in outcomes)
    attack = "client: random replies, cut at every place"
    return Row(attack, len(cases), connections, faults, (len(outcomes), heard["requests"]), is_right)


def hostile_services(folder: Path) -> Iterator[Row]:
    """Let a swarm loose on services that are silent, slow, huge, gone, or do not read."""
    heard, connections = Counter[str](), Counter[str]()
    replies = {
        "silent": b"",
        "cutting": b"WO",
        "chatty": b"WORD\nWORD\n",
        "endless": b"x" * 20_000,
        "binary": b"\xff\n",
    }

    def behaviour(kind: str) -> peers.Behaviour:
        def behave(sock: socket.socket) -> None:
            connections[kind] += 1
            if kind == "deaf":
                heard[kind] += 1
                threading.Event().wait(3)
                return
            with sock.makefile("rb") as lines:
                for _ in lines:
                    heard[kind] += 1
                    if kind == "resetting":
                        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                        return
                    if kind == "dripping":
                        peers.dripping(sock)
                    sock.sendall(replies[kind])
                    if kind == "cutting":
                        return

        return behave

    kinds = [*replies, "resetting", "dripping", "deaf"]
    with contextlib.ExitStack() as stack:
        ports = {kind: stack.enter_context(peers.peer(behaviour(kind))) for kind in kinds}
        hosts = {kind: f"tcp://127.0.0.1:{port}" for kind, port in ports.items()}
        command = (kit.LOCUST, "-f", "benchmarks/hostile_locustfile.py", "--headless", "--csv", folder / "hostile")
        swarm = ("-u", str(USERS * len(kinds)), "-r", "100", "-t", str(SECONDS), "--stop-timeout", "10")
        environment = os.environ | {"SERVICES": json.dumps(hosts)}
        with kit.program(*command, *swarm, output=folder / "swarm", environment=environment) as locust:
            locust.ends()
            is_right = "Traceback" not in locust.output
    rows = {row["Name"]: row for row in kit.rows(folder / "hostile_stats.csv")}
    for kind in kinds:
        made, failed = (int(rows[kind][column]) for column in ("Request Count", "Failure Count"))
        yield Row(f"client: {kind} service", made, connections[kind], failed, (made, heard[kind]), is_right)


def few_descriptors_for_users(folder: Path) -> Row:
    """Run more users than Locust has descriptors for."""
    few = f'ulimit -n {DESCRIPTORS}; exec "$@"'
    with kit.server(output=folder / "served") as server:
        command = ("/bin/sh", "-c", few, "sh", kit.LOCUST, "-f", "locustfile.py", "--headless", "--host", server.host)
        swarm = ("-u", str(4 * DESCRIPTORS), "-r", "1000", "-t", str(SECONDS), "--wait", "0.1", "--csv", folder / "few")
        with kit.program(*command, *swarm, output=folder / "few_users") as locust:
            locust.ends()
            is_right = "Traceback" not in locust.output and "Locust out of file descriptors" in locust.output
        lines, connections, _ = server.totals()
    rows = {row["Name"]: row for row in kit.rows(folder / "few_stats.csv")}
    connects, total = (rows[name] for name in ("connect", "Aggregated"))
    made = int(total["Request Count"]) - int(connects["Request Count"])
    failed = int(total["Failure Count"])
    return Row("client: few descriptors", 4 * DESCRIPTORS, connections, failed, (made, lines), is_right)


def attacks(folder: Path) -> Iterator[Row]:
    """Make all attacks."""
    for attack in (cut_requests, siege, leavers, few_descriptors, cut_replies):
        yield attack(folder)
    yield from hostile_services(folder)
    yield few_descriptors_for_users(folder)


def main() -> int:
    """Attack, and print a table; return 1 where an attack did not hold."""
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}\n")
    print("| attack | inputs | connections | faults survived | counted here | counted there | held |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as name:
        rows = []
        for row in attacks(Path(name)):
            rows.append(row)
            print(row, flush=True)
    return 0 if all(row.held for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
