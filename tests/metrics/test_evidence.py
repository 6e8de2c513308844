"""locust_tcp/metrics/evidence.py: the confidence intervals of percentiles."""

import math
import random
from collections import Counter
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from locust_tcp.metrics.evidence import CONFIDENCE, SIDE, Evidence, ranks, samples_needed

SAMPLES = st.integers(1, 60)
FRACTIONS = st.sampled_from((0.1, 0.5, 0.75, 0.9, 0.95, 0.99))


def fewer(samples: int, fraction: float, count: int) -> float:
    """The probability that fewer than `count` of the samples are at most the percentile, exactly."""
    exact = Fraction(fraction)
    return float(sum(math.comb(samples, k) * exact**k * (1 - exact) ** (samples - k) for k in range(count)))


@pytest.mark.parametrize(
    ("samples", "low", "high"),
    # The critical values of the two-sided sign test at 5 %, as in any table (0, 0, 1, 5, 9, 17, 26), and 1
    [(6, 1, 6), (7, 1, 7), (10, 2, 9), (20, 6, 15), (30, 10, 21), (50, 18, 33), (70, 27, 44)],
)
def test_the_ranks_of_the_median_are_those_of_the_tables(samples: int, low: int, high: int) -> None:
    assert ranks(samples, 0.5) == (low, high)


@given(SAMPLES, FRACTIONS)
def test_the_ranks_enclose_the_percentile_closely(samples: int, fraction: float) -> None:
    low, high = ranks(samples, fraction)
    assert fewer(samples, fraction, low) <= SIDE + 1e-12 or low == 0
    assert fewer(samples, fraction, low + 1) > SIDE - 1e-12, "the next one would be too high"
    assert high == samples + 1 or fewer(samples, fraction, high) >= 1 - SIDE - 1e-12
    assert fewer(samples, fraction, high - 1) < 1 - SIDE + 1e-12, "the one before would be too low"


@pytest.mark.parametrize("fraction", [0.5, 0.95, 0.99, 0.999])
def test_the_ranks_of_a_long_run_are_those_of_the_normal_distribution(fraction: float) -> None:
    samples = 4_000_000
    half = 1.96 * math.sqrt(samples * fraction * (1 - fraction))
    low, high = ranks(samples, fraction)
    assert low == pytest.approx(samples * fraction - half, abs=3)
    assert high == pytest.approx(samples * fraction + half, abs=3)


@pytest.mark.parametrize(
    ("fraction", "needed"), [(0.5, 6), (0.9, 36), (0.95, 72), (0.99, 368), (0.999, 3688), (0.05, 72)]
)
def test_there_is_an_interval_from_so_many_samples_on(fraction: float, needed: int) -> None:
    assert samples_needed(fraction) == needed
    low, high = ranks(needed, fraction)
    assert 1 <= low < high <= needed
    low, high = ranks(needed - 1, fraction)
    assert low == 0 or high == needed


def test_the_interval_of_a_histogram_is_that_of_its_sorted_samples() -> None:
    times = sorted([*range(1, 500), *[250] * 501])
    evidence = Evidence.of(Counter(map(float, times)), 0.99)
    low, high = ranks(1000, 0.99)
    assert (evidence.lower, evidence.upper) == (times[low - 1], times[high - 1])
    assert evidence.is_enough


def test_an_end_that_does_not_exist_is_open() -> None:
    few = Evidence.of(Counter({1.0: 70, 9.0: 1}), 0.95)
    assert (few.lower, few.upper, few.is_enough) == (1.0, math.inf, False)
    two = Evidence.of(Counter({1.0: 2}), 0.5)
    assert (two.lower, two.upper) == (0.0, math.inf)
    nothing = Evidence.of(Counter(), 0.95)
    assert (nothing.lower, nothing.upper, nothing.samples, nothing.is_enough) == (0.0, math.inf, 0, False)


@pytest.mark.parametrize("fraction", [0.5, 0.95])
def test_the_true_percentile_lies_in_the_interval_as_often_as_promised(fraction: float) -> None:
    source = random.Random(1954)
    true = -math.log(1 - fraction)  # of the exponential distribution
    trials = 2000
    hits = 0
    for _ in range(trials):
        evidence = Evidence.of(Counter(source.expovariate(1.0) for _ in range(200)), fraction)
        hits += evidence.lower <= true <= evidence.upper
    assert CONFIDENCE - 0.01 <= hits / trials <= 0.985


def test_so_many_samples_tell_a_percentile_from_a_bound() -> None:
    few = Counter({1.0: 94, 10.0: 6})  # of 100; the 95th percentile is 10, or is it 1?
    evidence = Evidence.of(few, 0.95)
    assert evidence.lower <= 5.0 < evidence.upper
    needed = evidence.samples_to_tell(few, 5.0)
    times = math.ceil(1.1 * needed / 100)
    assert Evidence.of(Counter({1.0: 94 * times, 10.0: 6 * times}), 0.95).lower > 5.0
    times = math.floor(0.8 * needed / 100)
    assert Evidence.of(Counter({1.0: 94 * times, 10.0: 6 * times}), 0.95).lower <= 5.0
    even = Counter({1.0: 95, 10.0: 5})
    assert Evidence.of(even, 0.95).samples_to_tell(even, 5.0) == math.inf
