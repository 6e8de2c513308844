"""Welch's t-test (B. L. Welch, 1947): do two means differ by more than chance makes likely?"""

import math
from collections.abc import Sequence
from statistics import fmean, variance

from locust_tcp.metrics.evidence import MIN_SAMPLES, student


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
    return distance / math.sqrt(sum(errors)) > student(freedom)
