"""Welch's t-test (B. L. Welch, 1947): do two means differ by more than chance makes likely?"""

import math
from collections.abc import Sequence
from statistics import fmean, variance

MIN_SAMPLES = 3  # of each side; fewer say too little about their spread

# Student's t for 1 to 30 degrees of freedom, two-sided, 5 % (NIST/SEMATECH e-Handbook, 1.3.6.7.2).
# The bound falls with the degrees of freedom: beyond 30 the last one is on the safe side.
STUDENT = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228),
    *(2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086),
    *(2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042),
)


def differ(one: Sequence[float], other: Sequence[float]) -> bool | None:
    """Test whether the means of two samples differ, with an error rate of 5 %.

    Returns:
        None where a side has fewer than MIN_SAMPLES.
    """
    if min(len(one), len(other)) < MIN_SAMPLES:
        return None
    distance = abs(fmean(one) - fmean(other))
    if math.isclose(fmean(one), fmean(other), rel_tol=1e-9):  # equal but for rounding
        return False
    errors = variance(one) / len(one), variance(other) / len(other)
    # The degrees of freedom of Welch and Satterthwaite
    parts = errors[0] ** 2 / (len(one) - 1) + errors[1] ** 2 / (len(other) - 1)
    if not parts:
        return True  # no spread at all
    freedom = int(sum(errors) ** 2 / parts + 1e-9)
    return distance / math.sqrt(sum(errors)) > _student(freedom)


def margin(samples: Sequence[float]) -> float:
    """Return how far from the samples' mean the true mean may lie, with 95 % confidence. Two samples are needed."""
    return _student(len(samples) - 1) * math.sqrt(variance(samples) / len(samples))


def _student(freedom: int) -> float:
    return STUDENT[min(freedom, len(STUDENT)) - 1]
