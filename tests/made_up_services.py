"""Services that are made up, and searches for their capacity."""

from collections import Counter
from collections.abc import Callable

from locust_tcp.metrics.capacity import MOST_REPEATS, MOST_STEPS, CapacitySearch, LoadStep
from locust_tcp.metrics.generator import ROOM, Verdict
from locust_tcp.metrics.snapshot import Interval
from locust_tcp.metrics.thresholds import Thresholds

SECONDS = 5.0  # during which a step is measured
PAUSE = 0.1  # seconds between two requests of a user
THRESHOLDS = Thresholds(max_fail_ratio=0.01, max_p95=100.0)
TIMED_OUT = "reply: timed out"

Service = Callable[[int], LoadStep]


def step(
    users: int,
    rate: float,
    failed: int = 0,
    *,
    p95: float = 10.0,
    how: str = TIMED_OUT,
    level: int = ROOM,
    generator_bound: bool = False,
    machine_cpu: float = 20.0,
    network: str = "",
    rates: tuple[float, ...] = (),
) -> LoadStep:
    """A step with `rate` successful requests per second, and `failed` failures in all."""
    good = round(rate * SECONDS)
    errors = Counter({how: failed} if failed else {})
    interval = Interval(SECONDS, good + failed, failed, Counter({p95: good + failed}), errors)
    broken = THRESHOLDS.broken(interval) if interval.requests else ["there were no requests"]
    verdict = Verdict(level, f"The verdict at {users}.", f"the evidence at {users}", network, "The claim")
    return LoadStep(users, interval, broken, verdict, generator_bound, machine_cpu, rates)


def fine(users: int) -> LoadStep:
    """No limit: each user adds as much as the first."""
    return step(users, users / PAUSE)


def pool_of(size: int, timeout: float = 0.4) -> Service:
    """Serve `size` users; the others wait until they time out."""

    def service(users: int) -> LoadStep:
        served = min(users, size)
        return step(users, served / PAUSE, round((users - served) * SECONDS / timeout))

    return service


def capped(rate: float) -> Service:
    """Answer at most `rate` requests per second, later with more users."""
    return lambda users: step(users, min(users / PAUSE, rate), p95=max(10.0, 1000 * (users / rate - PAUSE)))


def failing_from(first: int) -> Service:
    """Fail a tenth of the requests from `first` users on."""
    return lambda users: step(users, users / PAUSE, round(users * SECONDS) if users >= first else 0)


def explore(start: int, most: int, service: Service) -> CapacitySearch:
    """Run a search to its end. Each number of users that it tries must be allowed, and is tried twice at most."""
    search = CapacitySearch(start, most)
    while (users := search.next_users()) is not None:
        assert 1 <= users <= most
        assert [step.users for step in search.steps].count(users) <= 1
        search.steps.append(service(users))
        assert len(tried(search)) <= MOST_STEPS, tried(search)
        assert len(search.steps) <= MOST_STEPS + MOST_REPEATS
    search.is_over = True
    return search


def tried(search: CapacitySearch) -> list[int]:
    """Return the numbers of users that were tried, in the order of time."""
    return list(dict.fromkeys(step.users for step in search.steps))


def repeated(search: CapacitySearch) -> list[int]:
    """Return the numbers of users that were tried a second time."""
    users = [step.users for step in search.steps]
    return [each for place, each in enumerate(users) if each in users[:place]]


def at_first(users: int, bad: LoadStep, service: Service) -> Service:
    """Let one number of users have a bad second when it is tried for the first time."""
    has_been_bad = False

    def unlucky(now: int) -> LoadStep:
        nonlocal has_been_bad
        if now == users and not has_been_bad:
            has_been_bad = True
            return bad
        return service(now)

    return unlucky
