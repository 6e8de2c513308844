"""What can be made to go wrong on purpose, so that every kind of failure can be seen and learned.

docs/server.md says what each kind does. A rate is a share of the replies; of `refuse`, of the connections.
"""

import contextlib
import random
from argparse import ArgumentTypeError
from collections.abc import Sequence
from typing import NamedTuple

# Milliseconds, where the option has no DETAIL: a wait that people notice; a word in more than most timeouts
DETAILS = {"delay": "100", "drip": "1500"}
KINDS = ("delay", "stall", "drip", "truncate", "garble", "close", "reset", "refuse")
RULE = f"a kind out of {', '.join(KINDS)}; a rate from 0 to 1; for delay and drip milliseconds, as in delay=0.1:200~50"


class Fault(NamedTuple):
    """One kind of fault: how often, and how long, give or take `jitter`, in milliseconds."""

    kind: str
    rate: float
    milliseconds: float = 0.0
    jitter: float = 0.0

    @classmethod
    def parse(cls, text: str) -> "Fault":
        """Return the fault that `KIND=RATE[:DETAIL]` names. Raises ArgumentTypeError."""
        kind, _, rest = text.partition("=")
        rate, _, detail = rest.partition(":")
        milliseconds, _, jitter = (detail or DETAILS.get(kind, "0")).partition("~")
        with contextlib.suppress(ValueError):
            fault = cls(kind, float(rate), float(milliseconds), float(jitter or 0))
            takes_detail = kind in DETAILS and 0 <= fault.jitter <= fault.milliseconds < float("inf")
            if kind in KINDS and 0 <= fault.rate <= 1 and (takes_detail or not detail):
                return fault
        raise ArgumentTypeError(f"{text!r} is not KIND=RATE[:DETAIL]: {RULE}")


class Faults:
    """The faults of one connection. The same seed and number of the connection draw the same ones again."""

    def __init__(self, faults: Sequence[Fault], seed: int, connection: int) -> None:
        self._random = random.Random(f"{seed}/{connection}")
        self.refused = any(self._random.random() < fault.rate for fault in faults if fault.kind == "refuse")
        self._faults = [fault for fault in faults if fault.kind != "refuse"]
        self._faults.append(Fault("", max(0.0, 1 - sum(fault.rate for fault in self._faults))))

    def draw(self) -> tuple[str, float]:
        """Return the kind of fault of the next reply, "" where it has none, and how many seconds it takes."""
        fault = self._random.choices(self._faults, [each.rate for each in self._faults])[0]
        return fault.kind, self._random.uniform(
            fault.milliseconds - fault.jitter, fault.milliseconds + fault.jitter
        ) / 1000
