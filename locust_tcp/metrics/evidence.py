"""How sure a percentile or a mean is: its confidence interval.

How many of n response times are at most the service's true percentile is binomial, whatever the
distribution of the times is. So two of the sorted times enclose the true percentile with a known
probability, and no shape of the distribution has to be assumed (order statistics). Source: G. J. Hahn and W. Q. Meeker,
Statistical Intervals (1991), 5.2; J.-Y. Le Boudec, Performance Evaluation of Computer and Communication
Systems (2010), theorem 2.1.

The method takes the response times for independent of each other. In a queue they are not quite: a slow
one is followed by slow ones. The true interval is then wider.

The mean of some samples has one by Student's t-distribution.
"""

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import variance

CONFIDENCE = 0.95  # the usual one: a wrong interval in twenty, half of them on each side
SIDE = (1 - CONFIDENCE) / 2  # the probability that the true percentile lies beyond one end
DEVIATIONS = 1.96  # of the normal distribution, for the same probability
MIN_SAMPLES = 3  # for a mean; fewer say too little about their spread
# Student's t for 1 to 30 degrees of freedom, two-sided, 5 % (NIST/SEMATECH e-Handbook, 1.3.6.7.2).
# The bound falls with the degrees of freedom: beyond 30 the last one is on the safe side.
STUDENT = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228),
    *(2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086),
    *(2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042),
)
NEGLIGIBLE = 10.0  # standard deviations: what lies further out has a probability below 1e-20


def student(freedom: int) -> float:
    """Return the bound of Student's t for so many degrees of freedom, two-sided, 5 %."""
    return STUDENT[min(freedom, len(STUDENT)) - 1]


def margin(samples: Sequence[float]) -> float | None:
    """Return how far from the samples' mean the true mean may lie, with 95 % confidence; None for too few samples."""
    if len(samples) < MIN_SAMPLES:
        return None
    return student(len(samples) - 1) * math.sqrt(variance(samples) / len(samples))


@functools.lru_cache
def ranks(samples: int, fraction: float) -> tuple[int, int]:
    """Return which of the sorted samples enclose a percentile.

    Args:
        samples: The number of samples.
        fraction: The percentile (0.95: the 95th), between 0 and 1.

    Returns:
        The ranks of both ends; the smallest sample has rank 1. Where the samples are too few for an
        end, its rank is 0 or `samples` + 1.
    """
    mean, deviation = samples * fraction, math.sqrt(samples * fraction * (1 - fraction))
    first = max(0, int(mean - NEGLIGIBLE * (deviation + 1)))
    odds = fraction / (1 - fraction)
    probability = math.exp(  # that exactly `first` samples are at most the percentile
        math.lgamma(samples + 1)
        - math.lgamma(first + 1)
        - math.lgamma(samples - first + 1)
        + first * math.log(fraction)
        + (samples - first) * math.log1p(-fraction)
    )
    lower, fewer = first, 0.0  # the probability of fewer than `count` samples
    for count in range(first, samples + 1):
        if fewer <= SIDE:
            lower = count
        fewer += probability
        if fewer >= 1 - SIDE:
            return lower, count + 1
        probability *= odds * (samples - count) / (count + 1)
    return lower, samples + 1


def samples_needed(fraction: float) -> int:
    """Return the fewest samples with which a percentile has a confidence interval."""
    return math.ceil(math.log(SIDE) / math.log(max(fraction, 1 - fraction)))


@dataclass(frozen=True)
class Evidence:
    """What a sample says about a percentile.

    Attributes:
        fraction: The percentile (0.95: the 95th).
        samples: The number of samples.
        lower: The lower end of the confidence interval; 0 where the samples are too few for it.
        upper: The upper end; infinite where the samples are too few for it.
    """

    fraction: float
    samples: int
    lower: float
    upper: float

    @classmethod
    def of(cls, histogram: Mapping[float, int], fraction: float) -> "Evidence":
        """Return what a histogram, of values above 0 and how often each occurred, says about a percentile."""
        samples = sum(histogram.values())
        low, high = ranks(samples, fraction)
        lower, upper = 0.0, math.inf
        seen = 0
        for value in sorted(histogram):
            if seen < low <= seen + histogram[value]:
                lower = value
            if seen < high <= seen + histogram[value]:
                upper = value
            seen += histogram[value]
        return cls(fraction, samples, lower, upper)

    @property
    def is_enough(self) -> bool:
        """Whether the interval has both ends."""
        return self.samples >= samples_needed(self.fraction)

    def samples_to_tell(self, histogram: Mapping[float, int], bound: float) -> float:
        """Return about how many samples would tell the percentile from a bound; infinite if none would."""
        below = sum(count for value, count in histogram.items() if value <= bound) / self.samples
        if below == self.fraction:
            return math.inf
        return self.fraction * (1 - self.fraction) * (DEVIATIONS / (below - self.fraction)) ** 2
