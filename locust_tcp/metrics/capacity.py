"""How much a service takes: how many users to try next, and what all the steps come to.

The users are doubled until a promise is broken, the rate of good requests grows no more, or there are
as many as allowed. Where nothing has failed by then, the most users allowed are tried too. Then the gap
is closed between the most users without failures and the fewest with, likewise for the promises, and
last for the knee: the fewest users that reach nearly the highest rate.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from html import escape
from typing import Any

from locust_tcp.compare.chart import document, html_table, line_chart
from locust_tcp.metrics.generator import BUSY, ROOM, SATURATED, UNKNOWN, Verdict
from locust_tcp.metrics.rounding import three_digits
from locust_tcp.metrics.snapshot import Stretch
from locust_tcp.metrics.thresholds import percent
from locust_tcp.transport.errors import ADVICE, NO_DESCRIPTORS, NO_PORTS

GROWTH = 1.1  # twice the users that make less than a tenth more requests make no more: runs differ by as much
FLAT_STEPS = 2  # that many doublings in a row, as one may have had bad luck
KNEE = 0.95  # of the highest rate
CLOSE = 0.05  # of the users; a gap that small is closed
KNEE_CLOSE = 0.25  # likewise for the knee, which is no sharp bound
MOST_STEPS = 12  # of some nine seconds each: less than two minutes
DOUBLINGS = 7  # of these, to get to the most users
MACHINE_BUSY = 95.0  # percent of all cores


@dataclass(frozen=True)
class Step:
    """What so many users came to."""

    users: int
    stretch: Stretch
    broken: list[str]
    """A line for each promise that was broken."""
    load: Verdict
    """Whose limit was near, as far as the load generator can tell."""
    is_held_back: bool
    """Whether it was Locust that kept the rate from rising."""
    machine: float
    """Percent of all cores of Locust's machine that were busy."""

    @property
    def resources(self) -> str | None:
        """What Locust itself was out of, if anything."""
        return next((how for how in (NO_DESCRIPTORS, NO_PORTS) for text in self.stretch.errors if how in text), None)


Reached = Callable[[Step], bool]


class Search:
    """The steps so far. Arguments: the users of the first step, and the most there may be."""

    def __init__(self, start: int, most: int) -> None:
        self._most = max(1, most)
        self._start = max(1, min(start, most))
        # Twice the users, or more where that would take all the steps there are
        self._factor: float = max(2.0, (self._most / self._start) ** (1 / DOUBLINGS))
        self._is_doubling = True
        self.is_over = False
        self.steps: list[Step] = []

    def next_users(self) -> int | None:
        """Return the users of the next step, or None where there is nothing more to find out."""
        if not self.steps:
            return self._start
        last = self.steps[-1]
        if self._is_doubling and not last.broken and last.users < self._most and not self.is_flat():
            return min(round(self._factor * last.users), self._most)
        self._is_doubling = False
        if len(self.steps) >= MOST_STEPS:
            return None
        if not any(step.stretch.failures or step.broken or step.users == self._most for step in self.steps):
            return self._most
        for reached, close in ((has_failed, CLOSE), (has_broken, CLOSE), (self.is_fast, KNEE_CLOSE)):
            gap = self.gap(reached)
            if gap and gap[1] - gap[0] > max(1, close * gap[1]):
                low, high = gap
                return round(math.sqrt(low * high)) if high > 2 * low > 0 else (low + high) // 2
        return None

    def is_flat(self) -> bool:
        """Say whether the last doublings have brought no higher rate."""
        before, after = self.steps[:-FLAT_STEPS], self.steps[-FLAT_STEPS:]
        return bool(before) and max(map(_rate, after)) < GROWTH * max(map(_rate, before))

    def grows_at(self, step: Step) -> bool:
        """Say whether a step's rate is still that much higher than with half of its users."""
        fewer = [_rate(each) for each in self.steps if each.users <= step.users / 2]
        return not fewer or _rate(step) >= GROWTH * max(fewer)

    def gap(self, reached: Reached) -> tuple[int, int] | None:
        """Return the most users that have not reached something (0: none), and the fewest that have."""
        high = min((step.users for step in self.steps if reached(step)), default=None)
        if high is None:
            return None
        return max((step.users for step in self.steps if step.users < high and not reached(step)), default=0), high

    def first(self, reached: Reached) -> Step | None:
        """Return the step with the fewest users that has reached something."""
        return min(filter(reached, self.steps), key=lambda step: step.users, default=None)

    @property
    def best(self) -> Step | None:
        """The step with the highest rate that kept the promises."""
        return max((step for step in self.steps if not step.broken), key=_rate, default=None)

    def is_fast(self, step: Step) -> bool:
        """Say whether a step's rate is nearly the highest."""
        return self.best is not None and not step.broken and _rate(step) >= KNEE * _rate(self.best)


def _rate(step: Step) -> float:
    return step.stretch.rate


def has_failed(step: Step) -> bool:
    """Say whether any request of a step failed."""
    return step.stretch.failures > 0


def has_broken(step: Step) -> bool:
    """Say whether a step broke a promise."""
    return bool(step.broken)


def findings(search: Search) -> list[str]:
    """Return what was found out, a sentence or two for each limit: of the users, of the promises and of the rate."""
    if not any(step.stretch.requests for step in search.steps):
        return ["Nothing was found out: there were no requests."]
    return list(_findings(search))


def _findings(search: Search) -> Iterator[str]:
    most = max(step.users for step in search.steps)
    failed, broken = search.first(has_failed), search.first(has_broken)
    if failed is None:
        yield f"No request failed, with up to {_users(most)}."
    else:
        low, high = search.gap(has_failed) or (0, 0)
        ((text, _),) = failed.stretch.errors.most_common(1) or [("unknown", 0)]
        others = f"; {_users(low)} had none" if low else ""
        yield (
            f"Failures began at {_users(high)} ({percent(failed.stretch.fail_ratio)}, mostly {text!r}){others}. "
            f"{_owner_of_failures(failed)}"
        )
    if broken is not None and (broken is not failed or len(broken.broken) > 1):
        yield f"The first promise was broken at {_users(broken.users)}: {broken.broken[-1]}."
    best, knee = search.best, search.first(search.is_fast)
    if best is None or knee is None:
        yield "Not even the fewest users had their promises kept."
        return
    yield (
        f"The highest rate with all promises kept was {_rate(best):.0f} requests/s, at {_users(best.users)} and a 95th "
        f"percentile of {three_digits(best.stretch.p95):g} ms; {percent(KNEE)} of it take no more than "
        f"{_users(knee.users)}."
    )
    yield _owner_of_rate(search, best, knee, broken or failed)


def _users(count: int) -> str:
    return f"{count} user{'s' * (count != 1)}"


def _owner_of_failures(step: Step) -> str:
    if step.resources:
        return f"That is the limit of Locust's machine: {step.resources}; {ADVICE[step.resources]}."
    return "That is the service's limit: the requests were sent, and its answers were not right or not there."


def _owner_of_rate(search: Search, best: Step, knee: Step, failing: Step | None) -> str:
    beyond = max(search.steps, key=lambda step: step.users)
    fast = [step for step in search.steps if search.is_fast(step)]
    held_back = [step for step in fast if step.is_held_back]
    if 2 * len(held_back) >= len(fast):
        told = best if best.is_held_back else max(held_back, key=lambda step: step.users)
        return f"The rate is Locust's limit, and the service's is still unknown. {told.load.text}"
    if failing is None and search.grows_at(beyond):
        return f"No limit was found: the rate still grew at {_users(beyond.users)}. Allow more: --max-users."
    if best.machine >= MACHINE_BUSY:
        return (
            f"The rate is the limit of Locust's machine: {best.machine:.0f} % of all its cores were busy. Run Locust "
            f"and the service on different machines. {best.load.text}"
        )
    if knee.users < beyond.users and _rate(beyond) < GROWTH * _rate(best):
        return (
            f"The rate is the service's limit: from {knee.users} to {_users(beyond.users)} it went from "
            f"{_rate(knee):.0f} to {_rate(beyond):.0f} requests/s, and the 95th percentile from "
            f"{three_digits(knee.stretch.p95):g} to {three_digits(beyond.stretch.p95):g} ms. {best.load.text}"
        )
    return f"The rate is that of the most users that the service took. {best.load.text}"


COLUMNS = {
    "users": "Users",
    "seconds": "Measured (s)",
    "rate": "Good requests/s",
    "failures": "Failures (%)",
    "p50": "p50 (ms)",
    "p95": "p95 (ms)",
    "p99": "p99 (ms)",
    "machine": "All cores (%)",
    "note": "What was found out",
    "load": "Load generator",
}
LEVELS = {UNKNOWN: "unknown", ROOM: "room", BUSY: "little room", SATURATED: "saturated"}


def table(search: Search) -> list[dict[str, Any]]:
    """Return the steps, by users, as rows of COLUMNS."""
    return [
        {
            "users": step.users,
            "seconds": round(step.stretch.seconds, 1),
            "rate": round(step.stretch.rate, 1),
            "failures": three_digits(100 * step.stretch.fail_ratio),
            "p50": three_digits(step.stretch.percentile(0.5)),
            "p95": three_digits(step.stretch.p95),
            "p99": three_digits(step.stretch.percentile(0.99)),
            "machine": round(step.machine),
            "note": "; ".join([*_marks(search).get(step.users, []), *step.broken]),
            "load": LEVELS[step.load.level],
        }
        for step in sorted(search.steps, key=lambda step: step.users)
    ]


def csv_table(search: Search) -> list[dict[str, Any]]:
    """Return the same rows, and the findings in rows of their own."""
    empty = dict.fromkeys(COLUMNS, "")
    return [*table(search), *({**empty, "note": finding} for finding in findings(search))]


def _marks(search: Search) -> dict[int, list[str]]:
    marks: dict[int, list[str]] = {}
    for step, word in (
        (search.first(search.is_fast), "knee"),
        (search.best, "highest rate"),
        (search.first(has_failed), "failures begin"),
        (search.first(has_broken), "promise broken"),
    ):
        if step:
            marks.setdefault(step.users, []).append(word)
    return marks


def pictures(search: Search) -> list[str]:
    """Return the findings in HTML, and pictures of rate and 95th percentile against users, in which they are marked."""
    if not search.steps:
        return []
    marks = {float(users): ", ".join(words) for users, words in _marks(search).items()}
    rates = {"good": [(float(step.users), step.stretch.rate) for step in search.steps]}
    p95s = {"p95": [(float(step.users), step.stretch.p95) for step in search.steps if step.stretch.p95]}
    told = findings(search) if search.is_over else ["Still looking."]
    return [
        *(f"<p>{escape(finding)}</p>" for finding in told),
        line_chart("Good requests per second", "users", rates, log_x=True, marks=marks),
        line_chart("95th percentile of the response times (ms)", "users", p95s, log_x=True, log_y=True, marks=marks),
    ]


def report(search: Search) -> str:
    """Return a page with all of that."""
    steps = [[str(row[key]) for key in COLUMNS] for row in table(search)]
    return document("No mercy", [*pictures(search), html_table(list(COLUMNS.values()), steps)])
