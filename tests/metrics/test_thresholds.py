"""locust_tcp/metrics/thresholds.py: what breaks a promise, and the exit code that it makes."""

import argparse
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from locust_tcp.metrics.snapshot import Stretch
from locust_tcp.metrics.thresholds import BROKEN, KEPT, NOT_JUDGED, Promises, judge, percent, share

ALL = Promises(max_fail_ratio=0.01, max_p95=50.0, min_rps=99.0)
SATURATED = "Locust is saturated."


def stretch(requests: int = 1000, failures: int = 0, p95: float = 50.0, seconds: float = 10.0) -> Stretch:
    times = Counter({p95: requests}) if requests else Counter[float]()
    return Stretch(seconds, requests, failures, times, Counter({"reply: wrong": failures} if failures else {}))


def test_exit_codes_are_those_that_are_documented() -> None:
    assert (KEPT, BROKEN, NOT_JUDGED) == (0, 1, 2)


@pytest.mark.parametrize(
    ("promises", "measured", "lines"),
    [
        (Promises(max_fail_ratio=0.01), stretch(failures=10), []),
        (Promises(max_fail_ratio=0.01), stretch(failures=11), ["1.1 % of the requests failed, at most 1 %"]),
        (Promises(max_fail_ratio=0.0), stretch(failures=0), []),
        (Promises(max_fail_ratio=0.0), stretch(failures=1), ["0.1 % of the requests failed, at most 0 %"]),
        (Promises(), stretch(failures=1000), []),
        (Promises(max_p95=50.0), stretch(p95=50.0), []),
        (Promises(max_p95=50.0), stretch(p95=50.1), ["the 95th percentile was 50.1 ms, at most 50 ms"]),
        (Promises(max_p95=0.2), stretch(p95=0.201), ["the 95th percentile was 0.201 ms, at most 0.2 ms"]),
        (Promises(), stretch(p95=1e6), []),
        (Promises(min_rps=100.0), stretch(), []),
        (Promises(min_rps=100.1), stretch(), ["100.0 good requests/s, at least 100.1"]),
        (Promises(min_rps=100.0), stretch(failures=1), ["99.9 good requests/s, at least 100"]),
        (Promises(min_rps=1_000_000), stretch(), ["100.0 good requests/s, at least 1000000"]),
        (Promises(), stretch(requests=0), []),
    ],
)
def test_a_promise_is_broken_beyond_its_bound_and_not_at_it(
    promises: Promises, measured: Stretch, lines: list[str]
) -> None:
    assert promises.broken(measured) == lines


def test_each_broken_promise_has_its_line_and_that_on_failures_is_the_first() -> None:
    assert ALL.broken(stretch(failures=500, p95=60.0)) == [
        "50 % of the requests failed, at most 1 %",
        "the 95th percentile was 60 ms, at most 50 ms",
        "50.0 good requests/s, at least 99",
    ]


@pytest.mark.parametrize(
    ("measured", "saturated", "code", "lines"),
    [
        (stretch(), None, KEPT, ["kept, in 10 s with all users there"]),
        (stretch(p95=60.0), None, BROKEN, ["broken: the 95th percentile was 60 ms, at most 50 ms"]),
        (stretch(980), None, BROKEN, ["broken: 98.0 good requests/s, at least 99"]),
        (None, None, NOT_JUDGED, ["not judged: no requests after all users were there"]),
        (stretch(requests=0), None, NOT_JUDGED, ["not judged: no requests after all users were there"]),
        (
            stretch(),
            SATURATED,
            NOT_JUDGED,
            ["not judged: Locust is saturated. Or accept that: --accept-saturation."],
        ),
        # A saturated Locust makes times long and rates low ...
        (
            stretch(p95=60.0),
            SATURATED,
            NOT_JUDGED,
            [
                "broken: the 95th percentile was 60 ms, at most 50 ms",
                "not judged: Locust is saturated. Or accept that: --accept-saturation.",
            ],
        ),
        # ... but no requests fail.
        (stretch(failures=10), SATURATED, NOT_JUDGED, None),
        (
            stretch(1100, failures=110),
            SATURATED,
            BROKEN,
            ["broken: 10 % of the requests failed, at most 1 %"],
        ),
    ],
)
def test_the_exit_code_and_the_lines_that_say_why(
    measured: Stretch | None, saturated: str | None, code: int, lines: list[str] | None
) -> None:
    judged, said = judge(ALL, measured, saturated)
    assert judged == code
    if lines is not None:
        assert said == lines


@pytest.mark.parametrize(
    ("ratio", "text"),
    [(0.0, "0 %"), (0.005, "0.5 %"), (0.01, "1 %"), (1.0, "100 %"), (1 / 3, "33.3 %"), (1e-6, "0.0001 %")],
)
def test_a_share_is_written_as_people_do(ratio: float, text: str) -> None:
    assert percent(ratio) == text


@given(st.integers(1, 10**6), st.integers(0, 10**6))
def test_a_share_of_some_is_never_written_as_none(some: int, others: int) -> None:
    assert percent(some / (some + others)) != "0 %"
    assert float(percent(some / (some + others)).removesuffix(" %")) == pytest.approx(
        100 * some / (some + others), rel=0.006
    )


@pytest.mark.parametrize("text", ["0", "0.01", "1", "1e-3"])
def test_a_share_is_taken(text: str) -> None:
    assert share(text) == float(text)


@pytest.mark.parametrize("text", ["-0.1", "1.01", "5", "nan", "inf", "1 %", ""])
def test_what_is_no_share_is_told(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=f"^{text!r} is not a "):
        share(text)
