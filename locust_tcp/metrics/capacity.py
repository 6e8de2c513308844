"""The search for the capacity of a service: the users of each step, and the findings.

The search doubles the users until a threshold is broken, the goodput stops growing, or the most
users are reached. If nothing has failed by then, it tries the most users too. Then it narrows the
gap between the most users without failures and the fewest with failures, likewise for the
thresholds, and last for the knee: the fewest users that reach nearly the highest goodput.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from locust_tcp.metrics.generator import Verdict
from locust_tcp.metrics.rounding import three_digits
from locust_tcp.metrics.snapshot import Interval
from locust_tcp.metrics.thresholds import percent
from locust_tcp.transport.errors import ADVICE, NO_DESCRIPTORS, NO_PORTS, SERVICES

GROWTH = 1.1  # less than a tenth more goodput with twice the users is no growth: runs differ by as much
FLAT_STEPS = 2  # doublings in a row without growth that end the doubling; a single one may be bad luck
KNEE = 0.95  # of the highest goodput
CLOSE = 0.05  # of the users; a smaller gap is not narrowed
KNEE_CLOSE = 0.25  # likewise for the knee, which is no sharp bound
MOST_STEPS = 12  # of some nine seconds each: less than two minutes
DOUBLINGS = 7  # of these steps, to reach the most users
MACHINE_BUSY = 95.0  # percent of all cores


@dataclass(frozen=True)
class LoadStep:
    """What was measured with one number of users.

    Attributes:
        users: The number of users.
        interval: The requests that were measured.
        broken: A line for each broken threshold.
        verdict: The verdict on Locust.
        generator_bound: Whether Locust, and not the service, limited the goodput.
        machine_cpu: Percent of all cores of Locust's machine that were busy.
    """

    users: int
    interval: Interval
    broken: list[str]
    verdict: Verdict
    generator_bound: bool
    machine_cpu: float

    @property
    def exhausted(self) -> str | None:
        """The resource that Locust ran out of, if any, as its failures name it."""
        return next((how for how in (NO_DESCRIPTORS, NO_PORTS) for text in self.interval.errors if how in text), None)


Reached = Callable[[LoadStep], bool]


class CapacitySearch:
    """The steps of a search, and the choice of the next one.

    Attributes:
        steps: The steps so far, in the order of time.
        is_over: Whether the findings are final.
    """

    def __init__(self, start: int, most: int) -> None:
        """Start a search.

        Args:
            start: The users of the first step.
            most: The most users of any step.
        """
        self._most = max(1, most)
        self._start = max(1, min(start, most))
        # Double, or grow faster where doubling would need more steps than there are.
        self._factor: float = max(2.0, (self._most / self._start) ** (1 / DOUBLINGS))
        self._is_doubling = True
        self.is_over = False
        self.steps: list[LoadStep] = []

    def next_users(self) -> int | None:
        """Return the users of the next step, or None if the search is over."""
        if not self.steps:
            return self._start
        last = self.steps[-1]
        if self._is_doubling and not last.broken and last.users < self._most and not self.is_flat():
            return min(round(self._factor * last.users), self._most)
        self._is_doubling = False
        if len(self.steps) >= MOST_STEPS:
            return None
        if not any(step.interval.failures or step.broken or step.users == self._most for step in self.steps):
            return self._most
        for reached, close in ((has_failed, CLOSE), (has_broken, CLOSE), (self.is_fast, KNEE_CLOSE)):
            gap = self.gap(reached)
            if gap and gap[1] - gap[0] > max(1, close * gap[1]):
                low, high = gap
                return round(math.sqrt(low * high)) if high > 2 * low > 0 else (low + high) // 2
        return None

    def is_flat(self) -> bool:
        """Return whether the last doublings have not raised the goodput."""
        before, after = self.steps[:-FLAT_STEPS], self.steps[-FLAT_STEPS:]
        return bool(before) and max(map(_goodput, after)) < GROWTH * max(map(_goodput, before))

    def grows_at(self, step: LoadStep) -> bool:
        """Return whether the goodput of a step is higher than with half of its users or fewer."""
        fewer = [_goodput(each) for each in self.steps if each.users <= step.users / 2]
        return not fewer or _goodput(step) >= GROWTH * max(fewer)

    def gap(self, reached: Reached) -> tuple[int, int] | None:
        """Return the most users below a bound (0 for none), and the fewest that have reached it."""
        high = min((step.users for step in self.steps if reached(step)), default=None)
        if high is None:
            return None
        return max((step.users for step in self.steps if step.users < high and not reached(step)), default=0), high

    def first(self, reached: Reached) -> LoadStep | None:
        """Return the step with the fewest users that has reached a bound."""
        return min(filter(reached, self.steps), key=lambda step: step.users, default=None)

    @property
    def best(self) -> LoadStep | None:
        """The step with the highest goodput that kept the thresholds."""
        return max((step for step in self.steps if not step.broken), key=_goodput, default=None)

    def is_fast(self, step: LoadStep) -> bool:
        """Return whether the goodput of a step is nearly the highest."""
        return self.best is not None and not step.broken and _goodput(step) >= KNEE * _goodput(self.best)

    def marks(self) -> dict[int, list[str]]:
        """Return the words for the steps that the findings name, by their users."""
        marks: dict[int, list[str]] = {}
        for step, words in (
            (self.first(self.is_fast), "knee"),
            (self.best, "highest goodput"),
            (self.first(has_failed), "failures begin"),
            (self.first(has_broken), "threshold broken"),
        ):
            if step:
                marks.setdefault(step.users, []).append(words)
        return marks


def _goodput(step: LoadStep) -> float:
    return step.interval.goodput


def has_failed(step: LoadStep) -> bool:
    """Return whether any request of a step failed."""
    return step.interval.failures > 0


def has_broken(step: LoadStep) -> bool:
    """Return whether a step broke a threshold."""
    return bool(step.broken)


def findings(search: CapacitySearch) -> list[str]:
    """Return a sentence or two for each limit: of users, of thresholds and of goodput."""
    if not any(step.interval.requests for step in search.steps):
        return ["There is no result: there were no requests."]
    return list(_findings(search))


def _findings(search: CapacitySearch) -> Iterator[str]:
    most = max(step.users for step in search.steps)
    failed, broken = search.first(has_failed), search.first(has_broken)
    if failed is None:
        yield f"No request failed, with up to {_users(most)}."
    else:
        low, high = search.gap(has_failed) or (0, 0)
        ((text, _),) = failed.interval.errors.most_common(1) or [("unknown", 0)]
        others = f"; {_users(low)} had none" if low else ""
        yield (
            f"Failures began at {_users(high)} ({percent(failed.interval.fail_ratio)}, mostly {text!r}){others}. "
            f"{_owner_of_failures(failed, text)}"
        )
    if broken is not None and (broken is not failed or len(broken.broken) > 1):
        yield f"The first threshold was broken at {_users(broken.users)}: {broken.broken[-1]}."
    best, knee = search.best, search.first(search.is_fast)
    if best is None or knee is None:
        yield "A threshold was broken even with the fewest users."
        return
    yield (
        f"The highest goodput with all thresholds kept was {_goodput(best):.0f} requests/s, at {_users(best.users)} "
        f"and a 95th percentile of {three_digits(best.interval.p95):g} ms; {percent(KNEE)} of it needs no more than "
        f"{_users(knee.users)}."
    )
    yield _owner_of_goodput(search, best, knee, broken or failed)


def _users(count: int) -> str:
    return f"{count} user{'s' * (count != 1)}"


def _owner_of_failures(step: LoadStep, text: str) -> str:
    if step.exhausted:
        return f"That is the limit of Locust's machine: {step.exhausted}; {ADVICE[step.exhausted]}."
    if text in SERVICES:
        return f"That is the service's limit: {SERVICES[text]}."
    return (
        "Whose limit that is, the failure does not say: look at a reply (--loglevel DEBUG). An error message of the "
        "service is its limit; a reply that the locustfile misreads is none."
    )


def _owner_of_goodput(search: CapacitySearch, best: LoadStep, knee: LoadStep, failing: LoadStep | None) -> str:
    beyond = max(search.steps, key=lambda step: step.users)
    fast = [step for step in search.steps if search.is_fast(step)]
    bound = [step for step in fast if step.generator_bound]
    if 2 * len(bound) >= len(fast):
        shown = best if best.generator_bound else max(bound, key=lambda step: step.users)
        return f"The goodput is Locust's limit, and the service's is still unknown. {shown.verdict.text}"
    if failing is None and search.grows_at(beyond):
        return f"No limit was found: the goodput still grew at {_users(beyond.users)}. Allow more: --max-users."
    if best.machine_cpu >= MACHINE_BUSY:
        return (
            f"The goodput is the limit of Locust's machine: {best.machine_cpu:.0f} % of all its cores were busy. Run "
            f"Locust and the service on different machines. {best.verdict.text}"
        )
    if knee.users < beyond.users and _goodput(beyond) < GROWTH * _goodput(best):
        return (
            f"The goodput is the service's limit: from {knee.users} to {_users(beyond.users)} it went from "
            f"{_goodput(knee):.0f} to {_goodput(beyond):.0f} requests/s, and the 95th percentile from "
            f"{three_digits(knee.interval.p95):g} to {three_digits(beyond.interval.p95):g} ms. {best.verdict.text}"
        )
    return f"The goodput is that of the most users whose requests the service took. {best.verdict.text}"
