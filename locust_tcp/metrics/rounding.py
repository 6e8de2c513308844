"""Three significant digits, below a millisecond too; and histograms of them in few bytes."""

import itertools
import operator
from collections.abc import Mapping

# Below each limit in milliseconds, the number of buckets that a millisecond has. Three significant
# digits from a microsecond up are 900 buckets for each power of ten: at most 8,101 for times up to
# 1000 seconds, of which a run fills some hundreds.
_BUCKETS = ((0.01, 100_000), (0.1, 10_000), (1.0, 1000), (10.0, 100), (100.0, 10))


def three_digits(milliseconds: float) -> float:
    """Round a time to three significant digits, and to 10 ns where it has fewer."""
    for limit, scale in _BUCKETS:
        if milliseconds < limit:
            return int(milliseconds * scale + 0.5) / scale
    step: int = 10 ** (len(str(int(milliseconds))) - 3)
    return int(milliseconds / step + 0.5) * step


# All that three_digits returns up to 10,000 seconds, in ascending order
_TIMES: list[float] = [
    *(place / 100_000 for place in range(1000)),
    *(place / scale for scale in (10_000, 1000, 100, 10) for place in range(100, 1000)),
    *(place * step for step in (1, 10, 100, 1000, 10_000) for place in range(100, 1000)),
]
_PLACES = {time: place for place, time in enumerate(_TIMES)}


def pack(histogram: Mapping[float, int]) -> list[int] | Mapping[float, int]:
    """Return a histogram as a list of integers: in a report, it takes a fifth of the bytes.

    The first half is how many places each time comes after the one before it, of all times with three
    digits; the second half is the counts. A histogram with other times stays as it is.
    """
    times = sorted(histogram)
    try:
        places = [_PLACES[time] for time in times]
    except KeyError:
        return histogram
    return [*map(operator.sub, places, [0, *places]), *(histogram[time] for time in times)]


def unpack(packed: object) -> object:
    """Return the histogram that `pack` has packed. Anything else is returned as it is."""
    if not isinstance(packed, list):
        return packed
    half = len(packed) // 2
    try:
        times = [_TIMES[place] for place in itertools.accumulate(packed[:half])]
    except (IndexError, TypeError):
        return packed
    return dict(zip(times, packed[half:], strict=False))
