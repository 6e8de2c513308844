"""The search for the capacity of a service: the users of each step, and the findings.

The search doubles the users until a threshold is broken, the goodput stops growing, or the most
users are reached. If nothing has failed by then, it tries the most users too. Then it narrows the
gap between the most users without failures and the fewest with failures, likewise for the
thresholds, and last for the knee: the fewest users that reach nearly the highest goodput. A step
that alone decides a finding is tried again: of two steps with the same users the better one counts.

The goodput has a 95 % confidence interval by batch means: the step is divided into parts of about a
second, whose rates are taken for independent, and Student's t-distribution gives the rest (Law,
Simulation Modeling and Analysis, on batch means).
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from locust_tcp.metrics.evidence import margin
from locust_tcp.metrics.generator import BUSY, SATURATED, Verdict
from locust_tcp.metrics.rounding import three_digits
from locust_tcp.metrics.snapshot import Interval
from locust_tcp.metrics.thresholds import nothing_succeeded, percent
from locust_tcp.transport.errors import (
    ADVICE,
    CONNECT,
    NO_DESCRIPTORS,
    NO_PORTS,
    REPLY,
    SEND,
    SERVICES,
    TIMED_OUT,
    UNKNOWN_HOST,
    UNREACHABLE,
)

GROWTH = 1.1  # less than a tenth more goodput with twice the users is no growth: runs differ by as much
FLAT_USERS = 1.5  # times the users of the knee: with fewer a goodput that still grows would look flat
FLAT_STEPS = 2  # doublings in a row without growth that end the doubling; a single one may be bad luck
KNEE = 0.95  # of the highest goodput
CLOSE = 0.05  # of the users; a smaller gap is not narrowed
KNEE_CLOSE = 0.25  # likewise for the knee, which is no sharp bound
MOST_STEPS = 12  # with different users, of some nine seconds each: less than two minutes
MOST_REPEATS = 4  # of these steps: where failures begin and where a threshold is broken, twice each
DOUBLINGS = 7  # of these steps, to reach the most users
MACHINE_BUSY = 95.0  # percent of all cores

# Failures of Locust's machine, by their resource, which has advice.
EXHAUSTED = {f"{CONNECT}: {how}": how for how in (NO_DESCRIPTORS, NO_PORTS)}
# Failures that the network causes too. Where it is found to lose packets or to be slow, they are not the service's.
NETWORKS = {f"{what}: {TIMED_OUT}" for what in (CONNECT, SEND, REPLY)}
# Failures with several causes, and what they are. For others: OTHER_CAUSES.
CAUSES = {
    f"{CONNECT}: {TIMED_OUT}": "the service's backlog may be full, or a firewall or the network drops the packets",
    f"{CONNECT}: {UNREACHABLE}": "the network is broken, or the address is wrong",
    f"{CONNECT}: {UNKNOWN_HOST}": "the name is wrong, or its name server does not answer",
}
OTHER_CAUSES = (
    "look at a reply (--loglevel DEBUG). An error message of the service is its limit; a reply that the locustfile "
    "misreads is none"
)


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
        rates: The goodput in each part of the interval.
    """

    users: int
    interval: Interval
    broken: list[str]
    verdict: Verdict
    generator_bound: bool
    machine_cpu: float
    rates: tuple[float, ...] = ()

    @property
    def exhausted(self) -> str | None:
        """The resource that Locust ran out of, if any, as its failures name it."""
        return next((how for text, how in EXHAUSTED.items() if text in self.interval.errors), None)

    @property
    def is_about_service(self) -> bool:
        """Whether the goodput depends on the service alone, as far as is known."""
        return not (self.generator_bound or self.verdict.network or self.interval.errors - Counter(_services(self)))

    @property
    def margin(self) -> float | None:
        """Half the width of the goodput's 95 % confidence interval; None for too few parts."""
        return margin(self.rates)


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

    @property
    def outcomes(self) -> list[LoadStep]:
        """The steps by their users. Of two with the same users the better one: the other may have had bad luck."""
        better: dict[int, LoadStep] = {}
        for step in sorted(self.steps, key=lambda step: (bool(step.broken), has_failed(step), -_goodput(step))):
            better.setdefault(step.users, step)
        return sorted(better.values(), key=lambda step: step.users)

    def next_users(self) -> int | None:
        """Return the users of the next step, or None if the search is over."""
        if not self.steps:
            return self._start
        outcomes = self.outcomes
        last = outcomes[-1]
        if self._is_doubling:
            if last.broken and self._is_alone(last):
                return last.users
            if not last.broken and last.users < self._most and not self.is_flat():
                return min(round(self._factor * last.users), self._most)
        self._is_doubling = False
        may_go_on = len(outcomes) < MOST_STEPS
        if may_go_on and not any(has_failed(step) or step.broken or step.users == self._most for step in outcomes):
            return self._most
        for reached, close in ((has_failed, CLOSE), (has_broken, CLOSE), (self.is_fast, KNEE_CLOSE)):
            first, gap = self.first(reached), self.gap(reached)
            if first is None or gap is None:
                continue
            low, high = gap
            is_wide = may_go_on and high - low > max(1, close * high)
            is_only_evidence = not is_wide or not any(reached(step) for step in outcomes if step.users > high)
            if reached != self.is_fast and is_only_evidence and self._is_alone(first):
                return high  # a bad second must neither be reported nor send the search the wrong way
            if is_wide:
                return round(math.sqrt(low * high)) if high > 2 * low > 0 else (low + high) // 2
        if outcomes[-2:-1] == [self.best] and not self.grows_at(last) and self._is_alone(last):
            return last.users  # it alone says that the goodput no longer grows
        return None

    def _is_alone(self, step: LoadStep) -> bool:
        """Return whether a step was tried once, and may be tried again."""
        tried = [each.users for each in self.steps]
        return tried.count(step.users) == 1 and len(tried) - len(set(tried)) < MOST_REPEATS

    def is_flat(self) -> bool:
        """Return whether the last doublings have not raised the goodput."""
        outcomes = self.outcomes
        before, after = outcomes[:-FLAT_STEPS], outcomes[-FLAT_STEPS:]
        return bool(before) and max(map(_goodput, after)) < GROWTH * max(map(_goodput, before))

    def may_compare(self, step: LoadStep) -> bool:
        """Return whether there are steps with half of a step's users or fewer."""
        return self.outcomes[0].users <= step.users / 2

    def grows_at(self, step: LoadStep) -> bool:
        """Return whether the goodput of a step is higher than with half of its users or fewer, or may be."""
        fewer = [_goodput(each) for each in self.outcomes if each.users <= step.users / 2]
        return not fewer or _goodput(step) >= GROWTH * max(fewer)

    def gap(self, reached: Reached) -> tuple[int, int] | None:
        """Return the most users below a bound (0 for none), and the fewest that have reached it."""
        first = self.first(reached)
        if first is None:
            return None
        return max((step.users for step in self.outcomes if step.users < first.users), default=0), first.users

    def first(self, reached: Reached) -> LoadStep | None:
        """Return the step with the fewest users that has reached a bound."""
        return next(filter(reached, self.outcomes), None)

    @property
    def best(self) -> LoadStep | None:
        """The step with the highest goodput that kept the thresholds."""
        return max((step for step in self.outcomes if not step.broken), key=_goodput, default=None)

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
    made = [step.interval for step in search.steps if step.interval.requests]
    if not made:
        return ["There is no result: there were no requests."]
    if not has_result(search):
        return [f"There is no result: {nothing_succeeded(made[-1])}. That is no limit: look at that failure first."]
    return list(_findings(search))


def has_result(search: CapacitySearch) -> bool:
    """Return whether any request succeeded."""
    return any(_goodput(step) for step in search.steps)


def _findings(search: CapacitySearch) -> Iterator[str]:
    outcomes = search.outcomes
    most = outcomes[-1]
    failed, broken = search.first(has_failed), search.first(has_broken)
    if failed is None:
        once = (
            "No request failed"
            if not any(map(has_failed, search.steps))
            else "No failure came again when its step was repeated"
        )
        yield f"{once}, with up to {_users(most.users)}."
    else:
        yield f"{_where_failures_began(search, failed)} {_owner_of_failures(search, failed)}"
    for step in search.steps:
        if step not in outcomes and (has_failed(step) or step.broken):
            better = next(each for each in outcomes if each.users == step.users)
            if not has_failed(better) or (step.broken and not better.broken):
                yield f"At {_users(step.users)} one of two steps was worse: {_trouble(step)}."
    if broken is not None and (broken is not failed or len(broken.broken) > 1):
        yield f"The first threshold was broken at {_users(broken.users)}: {'; '.join(broken.broken)}."
    best, knee = search.best, search.first(search.is_fast)
    if best is None or knee is None:
        yield "A threshold was broken even with the fewest users."
        return
    yield (
        f"The highest goodput with all thresholds kept was {goodput_text(best)}, at {_users(best.users)} and a 95th "
        f"percentile of {three_digits(best.interval.p95):g} ms; {percent(KNEE)} of it needs no more than "
        f"{_users(knee.users)}."
    )
    owner = owner_of_goodput(search)
    assert owner
    yield owner[1]


def _users(count: int) -> str:
    return f"{count} user{'s' * (count != 1)}"


def goodput_text(step: LoadStep) -> str:
    """Return the goodput of a step with its uncertainty, where that is known."""
    margin = f" +- {float(f'{step.margin:.2g}'):g}" if step.margin is not None else ""
    return f"{_goodput(step):.0f}{margin} requests/s"


def _trouble(step: LoadStep) -> str:
    return "; ".join(step.broken) or f"{percent(step.interval.fail_ratio)} of the requests failed"


def _where_failures_began(search: CapacitySearch, failed: LoadStep) -> str:
    """Return a sentence on the most users without failures and the fewest with some."""
    low, high = search.gap(has_failed) or (0, 0)
    interval = failed.interval
    text, _ = _main_failure(failed)
    share = f"{percent(interval.fail_ratio)} of {interval.requests} requests"
    if not low:
        return f"Failures began at {_users(high)}, the fewest: {share}, mostly {text!r}."
    without = next(step for step in search.outcomes if step.users == low).interval.requests
    return (
        f"Failures began between {low} and {_users(high)}: {share} with {high}, mostly {text!r}, and none of {without} "
        f"with {low}."
    )


def _main_failure(step: LoadStep) -> tuple[str, int]:
    return next(iter(step.interval.errors.most_common(1)), ("unknown", 0))


def _services(step: LoadStep) -> dict[str, int]:
    """Return the failures of a step that only the service causes, and how often each occurred."""
    return {text: count for text, count in step.interval.errors.items() if text in SERVICES}


def _owner_of_failures(search: CapacitySearch, step: LoadStep) -> str:
    text, _ = _main_failure(step)
    # A step with few users may have too few packets for a finding, and the network is the same for all.
    networks = [each.verdict.network for each in (step, *reversed(search.steps)) if each.verdict.network]
    if step.exhausted:
        return f"That is the limit of Locust's machine: {step.exhausted}; {ADVICE[step.exhausted]}."
    if text in NETWORKS and networks:
        return f"That is not known to be the service's limit. {networks[0]}"
    if text not in SERVICES:
        return f"The failure does not say whose limit that is: {CAUSES.get(text, OTHER_CAUSES)}."
    owner = f"That is the service's limit: {SERVICES[text]}."
    if step.machine_cpu >= MACHINE_BUSY:
        busy = f"{step.machine_cpu:.0f} % of all cores were busy"
        owner += f" If it runs on Locust's machine, it had little time to run: {busy}."
    return owner


def owner_of_goodput(search: CapacitySearch) -> tuple[str, str] | None:
    """Return whose limit the highest goodput is, in a word or two and in a sentence; None where there is none."""
    best, knee = search.best, search.first(search.is_fast)
    if best is None or knee is None:
        return None
    most = search.outcomes[-1]
    fast = [step for step in search.outcomes if search.is_fast(step)]
    bound = [step for step in fast if step.generator_bound]
    if 2 * len(bound) >= len(fast):
        shown = best if best.generator_bound else bound[-1]
        why = shown.verdict.text if shown.verdict.level in (BUSY, SATURATED) else f"{shown.verdict.evidence}."
        with_users = f"With {_users(shown.users)}: {why}"
        return "Locust's", f"The goodput is Locust's limit, and the service's is still unknown. {with_users}"
    if best is most and search.grows_at(most):
        grew = f"the goodput still grew at {_users(most.users)}"
        why = f": {grew}" if search.may_compare(most) else ""
        return "no limit was found", f"No limit was found{why}. Allow more: --max-users."
    if best.verdict.network:
        return "not known", f"The goodput is not known to be the service's limit. {best.verdict.network}"
    if best.machine_cpu >= MACHINE_BUSY:
        return "Locust's machine's", (
            f"The goodput is the limit of Locust's machine: {best.machine_cpu:.0f} % of all its cores were busy. Run "
            f"Locust and the service on different machines."
        )
    beyond = next((step for step in reversed(search.outcomes) if step.is_about_service), None)
    shown = max((step for step in fast if not step.generator_bound), key=_goodput)
    evidence = f"Meanwhile, with {_users(shown.users)}: {shown.verdict.evidence}."
    if beyond and beyond.users >= FLAT_USERS * knee.users and _goodput(beyond) < GROWTH * _goodput(best):
        return "the service's", (
            f"The goodput is the service's limit: from {knee.users} to {_users(beyond.users)} it went from "
            f"{_goodput(knee):.0f} to {_goodput(beyond):.0f} requests/s, and the 95th percentile from "
            f"{three_digits(knee.interval.p95):g} to {three_digits(beyond.interval.p95):g} ms. {evidence}"
        )
    grew = ""
    if search.may_compare(best):
        grew = f": at {_users(best.users)} it {'still grew' if search.grows_at(best) else 'no longer grew'}"
    return "not known", f"It is not known whose limit the goodput is{grew}. {evidence}"
