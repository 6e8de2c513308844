"""What can be made to go wrong on purpose, so that every kind of failure can be seen and learned.

`KIND=RATE[:DETAIL]`, with RATE a share of the replies from 0 to 1 (for `refuse`: of the connections):

- `delay=0.1:200` answers after 200 ms; `delay=0.1:200~50` after 150 to 250 ms at random
- `stall=0.1` never answers, and says nothing more on that connection
- `drip=0.1:1500` answers a byte at a time, one each 1500 ms
- `truncate=0.1` sends half of the answer, then closes
- `garble=0.1` sends a wrong answer
- `close=0.1` closes instead of answering
- `reset=0.1` resets the connection instead of answering
- `refuse=0.1` resets a new connection at once

Which replies they strike is drawn for each connection from the seed and the connection's number, so
that the same seed strikes the same ones again, whatever the threads do.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

DELAY = 100.0  # milliseconds; a wait that people notice
DRIP = 1500.0  # milliseconds between two bytes: a word of five letters takes longer than most timeouts
DETAILS = {"delay": DELAY, "drip": DRIP}
KINDS = ("delay", "stall", "drip", "truncate", "garble", "close", "reset", "refuse")


@dataclass(frozen=True)
class Fault:
    """One kind of fault: how often, and in milliseconds how long, give or take `jitter`."""

    kind: str
    rate: float
    milliseconds: float = 0.0
    jitter: float = 0.0

    @classmethod
    def parse(cls, text: str) -> "Fault":
        """Return the fault that `KIND=RATE[:DETAIL]` names. Raises ValueError with what is wrong."""
        kind, separator, rest = text.partition("=")
        if kind not in KINDS or not separator:
            raise ValueError(f"{text!r} is not KIND=RATE[:DETAIL] with a kind out of {', '.join(KINDS)}")
        rate_text, _, detail = rest.partition(":")
        rate = _number(rate_text)
        if rate is None or rate > 1:
            raise ValueError(f"{text!r}: the rate is a share of the replies, from 0 to 1")
        if kind not in DETAILS:
            if detail:
                raise ValueError(f"{text!r}: {kind} takes no detail")
            return cls(kind, rate)
        milliseconds, _, jitter = (detail or str(DETAILS[kind])).partition("~")
        length, spread = _number(milliseconds), _number(jitter or "0")
        if length is None or spread is None or spread > length:
            raise ValueError(f"{text!r}: the detail is in milliseconds, such as 200 or 200~50")
        return cls(kind, rate, length, spread)


def _number(text: str) -> float | None:
    """Return a number from 0, or None for what is not one."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if 0 <= number < float("inf") else None


class Faults:
    """The faults of one connection, drawn one after the other."""

    def __init__(self, faults: Sequence[Fault], seed: int, connection: int) -> None:
        self._faults = faults
        self._random = random.Random(f"{seed}/{connection}")
        self.refused = any(self._random.random() < fault.rate for fault in faults if fault.kind == "refuse")

    def draw(self) -> Fault | None:
        """Return the fault that strikes the next reply, or None."""
        place = self._random.random()
        for fault in self._faults:
            if fault.kind != "refuse":
                place -= fault.rate
                if place < 0:
                    return fault
        return None

    def seconds(self, fault: Fault) -> float:
        """Return how long a fault takes this time."""
        return self._random.uniform(fault.milliseconds - fault.jitter, fault.milliseconds + fault.jitter) / 1000


def check(faults: Sequence[Fault]) -> None:
    """Raise ValueError where the rates can't all be kept."""
    if sum(fault.rate for fault in faults if fault.kind != "refuse") > 1 + 1e-9:
        raise ValueError("the rates of the faults add up to more than 1")
