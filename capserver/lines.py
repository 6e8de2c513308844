"""The protocol apart from sockets: what a peer sends goes in, what the server does next comes out."""

from collections import Counter
from collections.abc import Iterator
from enum import Enum
from typing import NamedTuple

from capserver.faults import Fault, Faults

MAX_LINE = 64 * 1024  # bytes; the limit of asyncio's streams, and the most a peer can make us keep

NOT_UTF8 = b"error: not UTF-8\n"


class Ending(Enum):
    """How a connection ends."""

    CLOSE = "when the peer has what was sent"
    STALL = "when the peer leaves, who is told no more"
    RESET = "at once"


class Step(NamedTuple):
    """One thing to do on a connection."""

    reply: bytes = b""
    answered: int = 0  # lines that the reply answers
    errors: int = 0  # error lines in the reply
    wait: float = 0.0  # seconds before it
    ending: Ending | None = None  # of the connection, after it


class Lines:
    """What one connection has received, and what is to be done about it.

    Arguments: the longest line that is answered, in bytes, and the faults that strike, if any.
    """

    def __init__(self, limit: int, faults: Faults | None = None) -> None:
        self._limit = limit
        self._faults = faults
        self._begun = bytearray()  # the line whose end has not come yet
        self.are_refused = faults is not None and faults.refused
        """Whether the connection is to be reset at once."""
        self.struck: Counter[str] = Counter(refuse=1) if self.are_refused else Counter()
        """What faults have struck, by their kind."""

    def feed(self, received: bytes) -> Iterator[Step]:
        """Yield what to do about some more input."""
        if self._begun:
            self._begun += received
            if b"\n" not in received:
                if len(self._begun) > self._limit:
                    yield self._too_long()
                return
            received = bytes(self._begun)
            self._begun.clear()
        end = received.rfind(b"\n") + 1
        if end:
            if step := self._answered_at_once(received[:end]):
                yield step
            else:
                yield from self._answer(received[: end - 1].split(b"\n"), b"\n")
        if end < len(received):
            self._begun += received[end:]
            if len(self._begun) > self._limit:
                yield self._too_long()

    def end(self) -> Iterator[Step]:
        """Yield what to do about the peer's end of its input: answer the last line, if it has no end."""
        if self._begun:
            yield from self._answer([bytes(self._begun)], b"")

    def _answered_at_once(self, lines: bytes) -> Step | None:
        """Return the answer to lines that nobody has to look at one by one, as most are."""
        if self._faults or len(lines) > self._limit:
            return None
        try:
            return Step(lines.decode().upper().encode(), lines.count(b"\n"))
        except UnicodeDecodeError:
            return None

    def _answer(self, lines: list[bytes], terminator: bytes) -> Iterator[Step]:
        replies: list[bytes] = []  # that leave together: a system call for each would take longer than all else
        errors = 0
        for line in lines:
            if len(line) > self._limit:
                yield Step(b"".join(replies), len(replies) - errors, errors)
                yield self._too_long()
                return
            try:
                reply = line.decode().upper().encode() + terminator
            except UnicodeDecodeError:
                replies.append(NOT_UTF8)
                errors += 1
                continue
            if self._faults and (fault := self._faults.draw()):
                yield Step(b"".join(replies), len(replies) - errors, errors)
                replies.clear()
                errors = 0
                yield from self._suffer(fault, self._faults.seconds(fault), reply)
            else:
                replies.append(reply)
        if replies:
            yield Step(b"".join(replies), len(replies) - errors, errors)

    def _too_long(self) -> Step:
        return Step(f"error: line longer than {self._limit} bytes\n".encode(), errors=1, ending=Ending.CLOSE)

    def _suffer(self, fault: Fault, seconds: float, reply: bytes) -> Iterator[Step]:
        """Yield how a fault has a reply go wrong."""
        self.struck[fault.kind] += 1
        match fault.kind:
            case "delay":
                yield Step(reply, answered=1, wait=seconds)
            case "drip":
                *first, last = (reply[i : i + 1] for i in range(len(reply)))
                yield from (Step(byte, wait=seconds) for byte in first)
                yield Step(last, answered=1, wait=seconds)
            case "truncate":
                yield Step(reply[: len(reply) // 2], ending=Ending.CLOSE)
            case "garble":
                yield Step(b"?" + reply)
            case "stall":
                yield Step(ending=Ending.STALL)
            case "close":
                yield Step(ending=Ending.CLOSE)
            case "reset":
                yield Step(ending=Ending.RESET)
