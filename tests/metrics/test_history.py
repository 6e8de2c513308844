"""locust_tcp/metrics/history.py: a sample for each period, and a bounded number of them."""

import time

import pytest
from locust.env import Environment

from locust_tcp.metrics import history as module
from locust_tcp.metrics.generator import LoadGenerator
from locust_tcp.metrics.history import MOST, History


@pytest.fixture
def environment() -> Environment:
    environment = Environment()
    environment.create_local_runner()
    return environment


def pass_time(environment: Environment, requests: int, milliseconds: float = 1.0) -> None:
    """Make requests in a period, and take its sample."""
    for _ in range(requests):
        environment.stats.log_request("TCP", "word", milliseconds, 6)  # type: ignore[arg-type]  # Locust says int
    time.sleep(0.001)  # a period has a length
    History.of(environment)._observe(users=7)


def test_a_sample_has_the_figures_of_its_period_alone(environment: Environment) -> None:
    pass_time(environment, 5)
    pass_time(environment, 100, 2.0)
    LoadGenerator.of(environment).stats.users = 7
    LoadGenerator.of(environment).pending_lags += [0.003] * 100
    pass_time(environment, 10, 4.0)
    first, second = History.of(environment).samples
    assert (first.p50, first.p95, second.p50, second.p95) == (2.0, 2.0, 4.0, 4.0)
    assert (first.lag, second.lag, second.users) == (0.0, 3.0, 7)
    assert 0 < first.at < second.at
    assert list(second.cpu) == ["Locust"]


def test_a_period_without_requests_has_no_response_time(environment: Environment) -> None:
    pass_time(environment, 5)
    pass_time(environment, 0)
    (sample,) = History.of(environment).samples
    assert (sample.rate, sample.p95) == (0.0, 0.0)


def test_the_number_of_samples_is_bounded_and_the_first_and_last_remain(environment: Environment) -> None:
    for _ in range(3 * MOST):
        pass_time(environment, 1)
        assert len(History.of(environment).samples) <= MOST
    history = History.of(environment)
    assert history._period > module.PERIOD
    assert history.samples[0].at < history.samples[-1].at / 10


def test_a_new_test_has_a_new_history(environment: Environment) -> None:
    pass_time(environment, 5)
    pass_time(environment, 5)
    History.of(environment).reset()
    assert History.of(environment).samples == []
