"""Services that are made up, and searches for their capacity."""

from collections import Counter
from collections.abc import Callable

from locust_tcp.metrics.capacity import MOST_STEPS, CapacitySearch, LoadStep
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
) -> LoadStep:
    """A step with `rate` successful requests per second, and `failed` failures in all."""
    good = round(rate * SECONDS)
    errors = Counter({how: failed} if failed else {})
    interval = Interval(SECONDS, good + failed, failed, Counter({p95: good + failed}), errors)
    broken = THRESHOLDS.broken(interval) if interval.requests else ["there were no requests"]
    verdict = Verdict(level, f"The evidence at {users}.")
    return LoadStep(users, interval, broken, verdict, generator_bound, machine_cpu)


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
    """Run a search to its end. Each number of users that it tries must be allowed, and new."""
    search = CapacitySearch(start, most)
    while (users := search.next_users()) is not None:
        assert 1 <= users <= most
        assert users not in tried(search)
        search.steps.append(service(users))
        assert len(search.steps) <= MOST_STEPS, tried(search)
    search.is_over = True
    return search


def tried(search: CapacitySearch) -> list[int]:
    """Return the users of each step."""
    return [each.users for each in search.steps]
