"""locust_tcp/compare/welch.py: the test says what R says, and what its definition says."""

import math
import random
from collections.abc import Sequence
from statistics import fmean, variance

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from locust_tcp.compare.welch import differ
from locust_tcp.metrics.evidence import STUDENT, margin

ALPHA = 0.05

# Welch's t-test, computed from its definition, without tables.


def two_sided(t: float, freedom: float) -> float:
    """Return the probability of |T| > t. Student's density is cos^(n-1) where t is sqrt(n) tan."""

    def area(begin: float, end: float, parts: int = 400) -> float:  # Simpson's rule
        step = (end - begin) / parts
        weights = (1 if place in (0, parts) else 4 if place % 2 else 2 for place in range(parts + 1))
        heights = (math.pow(abs(math.cos(begin + place * step)), freedom - 1) for place in range(parts + 1))
        return step / 3 * sum(weight * height for weight, height in zip(weights, heights, strict=True))

    angle = math.atan(t / math.sqrt(freedom))
    return area(angle, math.pi / 2) / area(0, math.pi / 2)


def bound(freedom: float) -> float:
    """Return the t that is exceeded, on either side, in five of a hundred cases."""
    low, high = 0.0, 100.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if two_sided(middle, freedom) > ALPHA else (low, middle)
    return low


def welch(one: Sequence[float], other: Sequence[float]) -> tuple[float, float]:
    """Return t and the degrees of freedom."""
    a, b = variance(one) / len(one), variance(other) / len(other)
    freedom = (a + b) ** 2 / (a**2 / (len(one) - 1) + b**2 / (len(other) - 1))
    return (fmean(one) - fmean(other)) / math.sqrt(a + b), freedom


# Data that come with R, and the results of its t.test: Student's sleep, and fuel use of cars.
SLEEP = (
    [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0],
    [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4],
)
CARS = (
    [
        *(21.4, 18.7, 18.1, 14.3, 24.4, 22.8, 19.2, 17.8, 16.4, 17.3),
        15.2,
        10.4,
        10.4,
        14.7,
        21.5,
        15.5,
        15.2,
        13.3,
        19.2,
    ],
    [21.0, 21.0, 22.8, 32.4, 30.4, 33.9, 27.3, 26.0, 30.4, 15.8, 19.7, 15.0, 21.4],
)


@pytest.mark.parametrize(
    ("samples", "t", "freedom", "p", "says"),
    [(SLEEP, -1.8608, 17.776, 0.07939, False), (CARS, -3.7671, 18.332, 0.001374, True)],
    ids=["sleep", "cars"],
)
def test_it_says_what_r_says(
    samples: tuple[list[float], list[float]], t: float, freedom: float, p: float, says: bool
) -> None:
    assert welch(*samples) == pytest.approx((t, freedom), rel=1e-4)
    assert two_sided(abs(t), freedom) == pytest.approx(p, rel=1e-3)
    assert differ(*samples) is says


@pytest.mark.parametrize("freedom", range(1, 31))
def test_the_table_of_students_t_is_right(freedom: int) -> None:
    assert STUDENT[freedom - 1] == pytest.approx(bound(freedom), abs=0.0006)
    assert len(STUDENT) == 30


@pytest.mark.parametrize(("distance", "says"), [(2.30, False), (2.31, True), (-2.30, False), (-2.31, True)])
def test_both_sides_of_the_bound(distance: float, says: bool) -> None:
    # Five samples each, of variance 2.5: the error of the distance is 1.
    # For 8 degrees of freedom the bound is 2.306.
    one = [8.0, 9.0, 10.0, 11.0, 12.0]
    assert differ(one, [each + distance for each in one]) is says


@pytest.mark.parametrize("count", range(3, 32))
def test_where_one_side_has_no_spread_the_other_has_all_degrees_of_freedom(count: int) -> None:
    spread = [float(place) for place in range(count)]
    bounds = STUDENT[count - 2]
    for scale in (1.0, 0.1, 0.3, 0.7, 1 / 3, 1e-3, 17.0):
        samples = [each * scale for each in spread]
        error = math.sqrt(variance(samples) / count)
        assert differ(samples, [fmean(samples) + 1.003 * bounds * error] * 3) is True, scale
        assert differ(samples, [fmean(samples) + 0.997 * bounds * error] * 3) is False, scale


@pytest.mark.parametrize(("one", "other"), [(0, 0), (1, 50), (2, 50), (2, 3), (2, 2)])
def test_less_than_three_samples_are_not_tested(one: int, other: int) -> None:
    few, many = [1.0, 2.0] * 25, [100.0, 101.0] * 25
    assert differ(few[:one], many[:other]) is None
    assert differ(many[:other], few[:one]) is None
    assert differ(few[:3], many[:3]) is True


def test_without_any_spread_only_the_same_is_the_same() -> None:
    assert differ([0.1] * 3, [0.1] * 5) is False
    assert differ([0.1] * 3, [0.2] * 3) is True


some_samples = st.lists(st.integers(0, 1000).map(float), min_size=3, max_size=20)


@given(some_samples, some_samples)
def test_it_is_symmetric_and_what_the_definition_says(one: list[float], other: list[float]) -> None:
    says = differ(one, other)
    assert says is differ(other, one)
    assert says is differ(one[::-1], other)
    assert says is differ([-each for each in one], [-each for each in other])
    assume(variance(one) + variance(other) > 0)
    t, freedom = welch(one, other)
    assume(freedom % 1 < 0.999)  # where rounding decides how many degrees there are
    t_bound = bound(min(math.floor(freedom), 30))
    assume(abs(abs(t) - t_bound) > 0.001)  # the digits that the table has
    assert says is (abs(t) > t_bound)
    if says:
        assert two_sided(abs(t), freedom) < ALPHA


def alarms(draws: int, *sides: tuple[int, float, float]) -> float:
    """Return the share of draws in which two sides differ: samples, mean and spread of each."""
    source = random.Random(1947)
    found = 0
    for _ in range(draws):
        one, other = ([source.gauss(mean, sigma) for _ in range(count)] for count, mean, sigma in sides)
        found += differ(one, other) is True
    return found / draws


@pytest.mark.parametrize(
    "sides",
    [
        ((5, 100.0, 10.0), (5, 100.0, 10.0)),
        ((20, 100.0, 10.0), (20, 100.0, 10.0)),
        # of different size and spread: the plain t-test gives a false alarm in every third case
        ((5, 100.0, 50.0), (20, 100.0, 5.0)),
    ],
)
def test_of_a_hundred_equal_pairs_about_five_seem_to_differ(sides: tuple[tuple[int, float, float], ...]) -> None:
    assert 0.02 < alarms(2000, *sides) < 0.08


def test_a_real_difference_is_seen() -> None:
    assert alarms(500, (5, 100.0, 10.0), (5, 130.0, 10.0)) > 0.9
    assert alarms(500, (6, 100.0, 1.0), (6, 103.0, 1.0)) > 0.95


def test_the_margin_of_a_mean_is_that_of_r() -> None:
    # t.test(extra[group == 1]) of Student's sleep: mean 0.75, from -0.5297804 to 2.0297804
    assert margin(SLEEP[0]) == pytest.approx(0.75 + 0.5297804, abs=1e-4)
