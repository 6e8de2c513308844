"""Three significant digits, below a millisecond too."""

# Below each limit in milliseconds, the number of buckets that a millisecond has. Three significant
# digits from a microsecond up are 900 buckets for each power of ten: at most 8,101 for times up to
# 1000 seconds, of which a run fills some hundreds.
_BUCKETS = ((0.01, 100_000), (0.1, 10_000), (1.0, 1000), (10.0, 100), (100.0, 10), (1000.0, 1))


def three_digits(milliseconds: float) -> float:
    """Round a time to three significant digits, and to 10 ns where it has fewer."""
    for limit, scale in _BUCKETS:
        if milliseconds < limit:
            return int(milliseconds * scale + 0.5) / scale
    step: int = 10 ** (len(str(int(milliseconds))) - 3)
    return int(milliseconds / step + 0.5) * step
