"""The protocol apart from sockets: what a peer sends goes in, what the server does next comes out."""

import io
import itertools
from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple

from capserver.faults import Faults

MAX_LINE = 64 * 1024  # bytes; the limit of asyncio's streams


class Step(NamedTuple):
    """One thing to do on a connection."""

    reply: bytes = b""
    counts: str = ""  # what the step counts: answered, errors or the kind of a fault
    lines: int = 1  # that it counts
    wait: float = 0.0  # seconds before the reply
    ending: Literal["", "close", "stall", "reset"] = ""  # of the connection, after the reply


class Lines:
    """The input of one connection: lines of at most `limit` bytes. `unfinished` is a line without its end."""

    def __init__(self, limit: int, faults: Faults | None = None) -> None:
        self.unfinished = bytearray()
        self._limit, self._faults = limit, faults

    def feed(self, received: bytes) -> Iterable[Step]:
        """Return the steps that follow from any input, or from its end (b""). Those after an ending do not count."""
        if not self.unfinished and received.endswith(b"\n"):
            return self._answer(received)  # as is mostly so
        return self._complete(received)

    def _complete(self, received: bytes) -> Iterator[Step]:
        end = received.rfind(b"\n") + 1
        if end or not received:
            lines = bytes(self.unfinished + received[:end])
            self.unfinished.clear()
            yield from self._answer(lines)
        self.unfinished += received[end:]
        if len(self.unfinished) > self._limit:
            yield self._too_long()

    def _answer(self, lines: bytes) -> Iterable[Step]:
        """Answer lines together, or one by one where one of them needs a look of its own."""
        count = lines.count(b"\n") or 1  # the last line may have no end
        try:
            reply = lines.decode().upper().encode()
        except UnicodeDecodeError:
            reply = b""
        if count > 1 and (not reply or self._faults or len(lines) > self._limit):
            return itertools.chain.from_iterable(map(self._answer, io.BytesIO(lines)))  # which ends lines at LF alone
        if len(lines.removesuffix(b"\n")) > self._limit:
            return [self._too_long()]
        if reply and self._faults:
            return self._inject(reply, self._faults)
        if reply:
            return [Step(reply, "answered", count)]
        return [Step(b"error: not UTF-8\n", "errors")] if lines else []

    def _too_long(self) -> Step:
        return Step(f"error: line longer than {self._limit} bytes\n".encode(), "errors", ending="close")

    def _inject(self, reply: bytes, faults: Faults) -> Iterator[Step]:
        """Yield the answer to a line, or what a fault makes of it."""
        kind, wait = faults.draw()
        if kind:
            yield Step(counts=kind)
        match kind:
            case "" | "delay":
                yield Step(reply, "answered", wait=wait)
            case "drip":
                yield from (Step(reply[i : i + 1], wait=wait) for i in range(len(reply) - 1))
                yield Step(reply[-1:], "answered", wait=wait)
            case "truncate":
                yield Step(reply[: len(reply) // 2], ending="close")
            case "garble":
                yield Step(b"?" + reply)
            case "stall" | "close" | "reset" as ending:
                yield Step(ending=ending)
