"""locust_tcp/metrics/thresholds.py: what breaks a threshold, and the exit code of a run."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from locust_tcp.metrics.snapshot import Interval
from locust_tcp.metrics.thresholds import BROKEN, KEPT, NOT_JUDGED, Thresholds, judge, percent

ALL = Thresholds(max_fail_ratio=0.01, max_p95=50.0, min_goodput=99.0)
SATURATED = "Locust is saturated."


def interval(requests: int = 1000, failures: int = 0, p95: float = 50.0, seconds: float = 10.0) -> Interval:
    times = Counter({p95: requests}) if requests else Counter[float]()
    return Interval(seconds, requests, failures, times, Counter({"reply: wrong": failures} if failures else {}))


def test_exit_codes_are_those_that_are_documented() -> None:
    assert (KEPT, BROKEN, NOT_JUDGED) == (0, 1, 2)


@pytest.mark.parametrize(
    ("thresholds", "measured", "lines"),
    [
        (Thresholds(max_fail_ratio=0.01), interval(failures=10), []),
        (Thresholds(max_fail_ratio=0.01), interval(failures=11), ["1.1 % of the requests failed, at most 1 %"]),
        (Thresholds(max_fail_ratio=0.0), interval(failures=0), []),
        (Thresholds(max_fail_ratio=0.0), interval(failures=1), ["0.1 % of the requests failed, at most 0 %"]),
        (Thresholds(), interval(failures=1000), []),
        (Thresholds(max_p95=50.0), interval(p95=50.0), []),
        (Thresholds(max_p95=50.0), interval(p95=50.1), ["the 95th percentile was 50.1 ms, at most 50 ms"]),
        (Thresholds(max_p95=0.2), interval(p95=0.201), ["the 95th percentile was 0.201 ms, at most 0.2 ms"]),
        (Thresholds(), interval(p95=1e6), []),
        (Thresholds(min_goodput=100.0), interval(), []),
        (Thresholds(min_goodput=100.1), interval(), ["goodput was 100.0 requests/s, at least 100.1"]),
        (Thresholds(min_goodput=100.0), interval(failures=1), ["goodput was 99.9 requests/s, at least 100"]),
        (Thresholds(min_goodput=1_000_000), interval(), ["goodput was 100.0 requests/s, at least 1000000"]),
        (Thresholds(), interval(requests=0), []),
    ],
)
def test_a_threshold_is_broken_beyond_its_bound_and_not_at_it(
    thresholds: Thresholds, measured: Interval, lines: list[str]
) -> None:
    assert thresholds.broken(measured) == lines


def test_each_broken_threshold_has_its_line_and_the_line_about_failures_is_the_first() -> None:
    assert ALL.broken(interval(failures=500, p95=60.0)) == [
        "50 % of the requests failed, at most 1 %",
        "the 95th percentile was 60 ms, at most 50 ms",
        "goodput was 50.0 requests/s, at least 99",
    ]


@pytest.mark.parametrize(
    ("measured", "saturated", "code", "lines"),
    [
        (interval(), None, KEPT, ["kept, in 10 s with all users"]),
        (interval(p95=60.0), None, BROKEN, ["broken: the 95th percentile was 60 ms, at most 50 ms"]),
        (interval(980), None, BROKEN, ["broken: goodput was 98.0 requests/s, at least 99"]),
        (None, None, NOT_JUDGED, ["not judged: no requests after all users were spawned"]),
        (interval(requests=0), None, NOT_JUDGED, ["not judged: no requests after all users were spawned"]),
        (
            interval(),
            SATURATED,
            NOT_JUDGED,
            ["not judged: Locust is saturated. To judge all the same: --accept-saturation."],
        ),
        # A saturated Locust makes times long and rates low ...
        (
            interval(p95=60.0),
            SATURATED,
            NOT_JUDGED,
            [
                "broken: the 95th percentile was 60 ms, at most 50 ms",
                "not judged: Locust is saturated. To judge all the same: --accept-saturation.",
            ],
        ),
        # ... but no requests fail.
        (interval(failures=10), SATURATED, NOT_JUDGED, None),
        (
            interval(1100, failures=110),
            SATURATED,
            BROKEN,
            ["broken: 10 % of the requests failed, at most 1 %"],
        ),
    ],
)
def test_the_exit_code_and_the_lines_that_give_the_reason(
    measured: Interval | None, saturated: str | None, code: int, lines: list[str] | None
) -> None:
    judged, reasons = judge(ALL, measured, saturated)
    assert judged == code
    if lines is not None:
        assert reasons == lines


@pytest.mark.parametrize(
    ("ratio", "text"),
    [(0.0, "0 %"), (0.005, "0.5 %"), (0.01, "1 %"), (1.0, "100 %"), (1 / 3, "33.3 %"), (1e-6, "0.0001 %")],
)
def test_a_share_is_written_with_three_digits(ratio: float, text: str) -> None:
    assert percent(ratio) == text


@given(st.integers(1, 10**6), st.integers(0, 10**6))
def test_a_share_of_some_is_never_written_as_none(some: int, others: int) -> None:
    assert percent(some / (some + others)) != "0 %"
    assert float(percent(some / (some + others)).removesuffix(" %")) == pytest.approx(
        100 * some / (some + others), rel=0.006
    )
