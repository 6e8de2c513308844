"""The protocol apart from sockets: what a peer sends goes in, what the server does next comes out."""

import io
from collections import Counter
from collections.abc import Iterator
from typing import Literal, NamedTuple

from capserver.faults import Faults

MAX_LINE = 64 * 1024  # bytes; the limit of asyncio's streams
NOT_UTF8 = b"error: not UTF-8\n"


class Step(NamedTuple):
    """One thing to do on a connection."""

    reply: bytes = b""
    answered: int = 0  # lines that the reply answers
    errors: int = 0  # error lines in the reply
    wait: float = 0.0  # seconds before the reply
    ending: Literal["", "close", "stall", "reset"] = ""  # of the connection, after the reply


class Lines:
    """The input of one connection: lines of at most `limit` bytes. `injected` counts its faults by kind."""

    def __init__(self, limit: int, faults: Faults | None = None) -> None:
        self.injected: Counter[str] = Counter()
        self._limit = limit
        self._faults = faults
        self._begun = bytearray()  # a line without its end

    def at_once(self, received: bytes) -> bytes:
        """Return the answer to whole lines if none needs a look of its own, as is mostly so; else nothing."""
        if self._begun or self._faults or len(received) > self._limit or not received.endswith(b"\n"):
            return b""
        try:
            return received.decode().upper().encode()
        except UnicodeDecodeError:
            return b""

    def feed(self, received: bytes) -> Iterator[Step]:
        """Yield the steps that follow from any input; none follows one with an ending."""
        end = received.rfind(b"\n") + 1
        if end:
            lines = bytes(self._begun + received[:end])
            self._begun.clear()
            yield from self._answer(lines)
        self._begun += received[end:]
        if len(self._begun) > self._limit:
            yield self._too_long()

    def end(self) -> Iterator[Step]:
        """Yield the step that follows from the end of the input: an unterminated last line is answered."""
        lines = bytes(self._begun)
        self._begun.clear()
        yield from self._answer(lines)

    def forget(self) -> None:
        """Give up the memory that a line without its end takes."""
        self._begun = bytearray()

    def _answer(self, lines: bytes) -> Iterator[Step]:
        if reply := self.at_once(lines):
            yield Step(reply, lines.count(b"\n"))
            return
        for line in io.BytesIO(lines):  # which ends lines at LF alone
            if len(line.removesuffix(b"\n")) > self._limit:
                yield self._too_long()
                return
            try:
                reply = line.decode().upper().encode()
            except UnicodeDecodeError:
                yield Step(NOT_UTF8, errors=1)
            else:
                yield from self._inject(reply, self._faults) if self._faults else [Step(reply, answered=1)]

    def _too_long(self) -> Step:
        return Step(f"error: line longer than {self._limit} bytes\n".encode(), errors=1, ending="close")

    def _inject(self, reply: bytes, faults: Faults) -> Iterator[Step]:
        """Yield the answer to a line, or what a fault makes of it."""
        fault = faults.draw()
        if fault is None:
            yield Step(reply, answered=1)
            return
        self.injected[fault.kind] += 1
        wait = faults.seconds(fault)
        match fault.kind:
            case "delay":
                yield Step(reply, answered=1, wait=wait)
            case "drip":
                *first, last = (reply[i : i + 1] for i in range(len(reply)))
                yield from (Step(byte, wait=wait) for byte in first)
                yield Step(last, answered=1, wait=wait)
            case "truncate":
                yield Step(reply[: len(reply) // 2], ending="close")
            case "garble":
                yield Step(b"?" + reply)
            case "stall" | "close" | "reset" as ending:
                yield Step(ending=ending)
