"""locust_tcp/metrics/thresholds.py: what breaks a threshold, with which evidence, and the exit code of a run."""

import re
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from locust_tcp.metrics.generator import GeneratorStats
from locust_tcp.metrics.snapshot import REQUEST_TYPE, Interval, Row
from locust_tcp.metrics.thresholds import (
    BROKEN,
    FAIL_RATIO,
    KEPT,
    NOT_JUDGED,
    PERCENTILE,
    RPS,
    Doubt,
    Finding,
    Threshold,
    Thresholds,
    doubts_about,
    judge,
    ordinal,
    parse_all,
    percent,
)

ALL = Thresholds(max_fail_ratio=0.01, max_p95=50.0, min_goodput=99.0)
SLOW = Doubt("Locust is saturated.", 0, -1)  # with times by the kernel
SLOWER = Doubt("Locust is saturated.", 1, -1)  # with times that contain its own delays
MISSING = Doubt("1 of the workers is missing.", -1, -1)


def interval(requests: int = 1000, failures: int = 0, p95: float = 50.0, seconds: float = 10.0) -> Interval:
    times = Counter({p95: requests}) if requests else Counter[float]()
    return Interval(seconds, requests, failures, times, Counter({"reply: wrong": failures} if failures else {}))


def times(**counts: int) -> Interval:
    """An interval whose requests took so many milliseconds: `times(ms1=90, ms10=10)`."""
    histogram = Counter({float(name.removeprefix("ms")): count for name, count in counts.items()})
    return Interval(10.0, histogram.total(), 0, histogram, Counter())


def p(percentile: float, bound: float, comparison: str = "<=") -> Threshold:
    return Threshold(PERCENTILE, comparison, bound, percentile / 100)


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
        (
            Thresholds(max_p95=50.0),
            interval(p95=50.1),
            ["the 95th percentile was 50.1 ms (50.1 to 50.1 ms with 95 % confidence), at most 50 ms"],
        ),
        (
            Thresholds(max_p95=0.2),
            interval(p95=0.201),
            ["the 95th percentile was 0.201 ms (0.201 to 0.201 ms with 95 % confidence), at most 0.2 ms"],
        ),
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


@pytest.mark.parametrize(
    ("kept", "broken", "name"),
    [
        (Thresholds(max_p50=50.0), Thresholds(max_p50=49.0), "50th"),
        (Thresholds(max_p95=50.0), Thresholds(max_p95=49.0), "95th"),
        (Thresholds(max_p99=50.0), Thresholds(max_p99=49.0), "99th"),
        (Thresholds(max_p999=50.0), Thresholds(max_p999=49.0), "99.9th"),
    ],
)
def test_each_percentile_has_its_threshold(kept: Thresholds, broken: Thresholds, name: str) -> None:
    assert [each.code for each in kept.find(interval(10_000))] == [KEPT]
    (finding,) = broken.find(interval(10_000))
    assert finding.code == BROKEN
    assert finding.text.startswith(f"the {name} percentile was 50 ms")


def test_each_broken_threshold_has_its_line_and_the_line_about_failures_is_the_first() -> None:
    assert [line.split(" (")[0] for line in ALL.broken(interval(failures=500, p95=60.0))] == [
        "50 % of the requests failed, at most 1 %",
        "the 95th percentile was 60 ms",
        "goodput was 50.0 requests/s, at least 99",
    ]


@pytest.mark.parametrize(
    "thresholds", [ALL, Thresholds(max_p95=5.0), Thresholds(others=parse_all("rps < 5, p50 > 0.1"))]
)
def test_nothing_that_succeeded_breaks_any_threshold(thresholds: Thresholds) -> None:
    # As where nothing listens: a failed connect has no response time, and a p95 of nothing is 0.
    refused = Interval(10.0, 180, 180, Counter(), Counter({"connect: refused": 179, "connect: reset": 1}))
    (finding,) = thresholds.find(refused)
    assert finding == (BROKEN, "none of 180 requests succeeded, mostly 'connect: refused'")


@pytest.mark.parametrize(
    ("threshold", "measured", "code", "line"),
    [
        # As many samples as a confidence interval needs, and one less
        (p(95, 5), times(ms1=72), KEPT, "was 1 ms (1 to 1 ms with 95 % confidence), at most 5 ms"),
        (p(95, 5), times(ms1=71), NOT_JUDGED, "needs 72 requests with a response time, there were 71"),
        (p(99.9, 5), times(ms1=80), NOT_JUDGED, "99.9th percentile needs 3,688 requests with a response time"),
        # Few samples may be enough to break: 20 times 10 ms are no chance
        (p(95, 5), times(ms10=20), BROKEN, "was 10 ms (at least 10 ms with 95 % confidence), at most 5 ms"),
        (p(95, 5), times(ms10=1), NOT_JUDGED, "needs 72 requests"),
        # The figure is beyond the bound, and chance may have put it there
        (
            p(95, 5),
            times(ms1=94, ms10=6),
            NOT_JUDGED,
            "with 100 requests that may be chance; some 1,820 requests would tell",
        ),
        (p(95, 5), times(ms1=9400, ms10=600), BROKEN, "was 10 ms (10 to 10 ms with"),
        # The figure is within the bound, and chance may have put it there: the service has the benefit of the doubt
        (p(95, 5), times(ms1=96, ms10=4), KEPT, "was 1 ms (1 to 10 ms with 95 % confidence), at most 5 ms"),
        # The other way round
        (p(50, 5, ">"), times(ms1=20), BROKEN, "was 1 ms (1 to 1 ms with 95 % confidence), above 5 ms"),
        (p(50, 5, ">"), times(ms10=20), KEPT, "was 10 ms"),
        (p(50, 5, ">"), times(ms10=5), NOT_JUDGED, "needs 6 requests"),
        (p(50, 5, ">"), times(ms1=11, ms10=9), NOT_JUDGED, "may be chance"),
        (p(50, 10, ">="), times(ms10=20), KEPT, "at least 10 ms"),
        (p(50, 10, "<"), times(ms10=20), BROKEN, "below 10 ms"),
        # No response time at all, as of one-way messages
        (p(95, 5), Interval(10.0, 100, 0, Counter(), Counter()), NOT_JUDGED, "there were 0"),
    ],
)
def test_a_percentile_is_judged_by_its_evidence(threshold: Threshold, measured: Interval, code: int, line: str) -> None:
    found = threshold.find(measured, measured)
    assert found.code == code
    assert line in found.text


@pytest.mark.parametrize(
    ("first", "rest", "code"),
    [
        (times(ms1=500), times(ms9=500), NOT_JUDGED),  # it gets slow
        (times(ms9=500), times(ms1=500), NOT_JUDGED),  # it has to warm up
        (times(ms1=500), times(ms2=500), KEPT),
        (times(ms6=500), times(ms9=500), BROKEN),
        (times(ms1=500), times(ms9=2), KEPT),  # which is no evidence
    ],
)
def test_a_run_that_was_not_steady_is_not_judged(first: Interval, rest: Interval, code: int) -> None:
    both = first.response_times + rest.response_times
    whole = Interval(20.0, both.total(), 0, both, Counter())
    found = p(95, 5).find(whole, whole, parts=[first, rest])
    assert found.code == code
    assert ("in the first 10 s and " in found.text) == (code == NOT_JUDGED)


@pytest.mark.parametrize(
    ("text", "threshold"),
    [
        ("p99 < 5", Threshold(PERCENTILE, "<", 5.0, 0.99)),
        ("word p99 < 5", Threshold(PERCENTILE, "<", 5.0, 0.99, "word")),
        ("  word p(99.9)<=0.25 ", Threshold(PERCENTILE, "<=", 0.25, 0.999, "word")),
        ("long line fail_ratio < 0.01", Threshold(FAIL_RATIO, "<", 0.01, row="long line")),
        ("GET /a?b=1 rps >= 100", Threshold(RPS, ">=", 100.0, row="GET /a?b=1")),
        ("rps>100", Threshold(RPS, ">", 100.0)),
        ("p99 p50 < 1", Threshold(PERCENTILE, "<", 1.0, 0.5, "p99")),
    ],
)
def test_a_threshold_is_parsed(text: str, threshold: Threshold) -> None:
    assert Threshold.parse(text) == threshold
    assert parse_all(f"{text}, {text},") == (threshold, threshold)


def test_the_name_of_a_row_may_have_a_comma() -> None:
    assert [each.row for each in parse_all("a, b p50 < 1,c rps > 2")] == ["a, b", "c"]


@pytest.mark.parametrize(
    "text",
    ["word", "p99", "p99 < ", "p99 = 5", "wordp99 < 5", "p99 < fast", "p99 < -1", "p99 < 5 6", "word p99 5, p95 < 5"],
)
def test_what_is_no_threshold_is_refused_with_one_that_is(text: str) -> None:
    with pytest.raises(ValueError, match=r"^'.*' is not a threshold such as 'word p99 < 5', 'fail_ratio"):
        parse_all(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("fail_ratio < 5", "'5' is not a share of the requests from 0 to 1"),
        ("p100 < 5", "'p100' is not a percentile between p0 and p100"),
        ("p0 < 5", "'p0' is not a percentile between p0 and p100"),
        ("p50 < 0", "'0' is not a number of milliseconds above 0"),
    ],
)
def test_a_number_that_makes_no_sense_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        Threshold.parse(text)


def test_a_threshold_of_a_row_is_about_that_row() -> None:
    rows = {
        (REQUEST_TYPE, "word"): Row(400, 100, Counter({1.0: 400})),
        (REQUEST_TYPE, "line"): Row(500, 0, Counter({9.0: 500})),
        ("GET", "word"): Row(100, 100, Counter({30.0: 100})),
    }
    whole = Interval(10.0, 1000, 200, Counter({1.0: 400, 9.0: 500, 30.0: 100}), Counter(), rows)

    def code(text: str) -> int:
        return Threshold.parse(text).find(whole, whole).code

    assert [code("line p95 < 10"), code("line p95 < 8"), code("p95 < 10")] == [KEPT, BROKEN, BROKEN]
    assert [code("TCP word p95 < 2"), code("word p95 < 2")] == [KEPT, BROKEN], "a name may have two types"
    assert [code("line fail_ratio <= 0"), code("TCP word fail_ratio < 0.2")] == [KEPT, BROKEN]
    assert [code("line rps >= 50"), code("TCP word rps >= 31"), code("rps >= 80")] == [KEPT, BROKEN, KEPT]
    assert Threshold.parse("wrd p50 < 1").find(whole, whole) == (NOT_JUDGED, "wrd: there were no such requests")
    assert Threshold.parse("GET word p50 < 99").find(whole, whole) == (
        BROKEN,
        "GET word: none of 100 requests succeeded",
    )


@pytest.mark.parametrize(
    ("threshold", "measured", "doubt", "code"),
    [
        # Saturation lowers the goodput: one that is high enough all the same is the service's.
        ("rps >= 101", interval(), SLOW, NOT_JUDGED),
        ("rps >= 100", interval(), SLOW, KEPT),
        ("rps < 101", interval(), SLOW, NOT_JUDGED),
        ("rps < 99", interval(), SLOW, BROKEN),
        # It makes those times longer that contain it, and none shorter.
        ("p95 < 40", interval(), SLOW, BROKEN),
        ("p95 < 40", interval(), SLOWER, NOT_JUDGED),
        ("p95 < 60", interval(), SLOWER, KEPT),
        # No request fails by it.
        ("fail_ratio < 0.01", interval(failures=20), SLOWER, BROKEN),
        ("fail_ratio < 0.01", interval(failures=2), SLOWER, KEPT),
        # With fewer users than wanted, each figure is too good or too low.
        ("p95 < 60", interval(), MISSING, NOT_JUDGED),
        ("p95 < 40", interval(), MISSING, BROKEN),
        ("rps >= 101", interval(), MISSING, NOT_JUDGED),
        ("rps >= 99", interval(), MISSING, KEPT),
    ],
)
def test_a_doubt_is_about_the_figures_that_it_pulls_beyond_their_bound(
    threshold: str, measured: Interval, doubt: Doubt, code: int
) -> None:
    found = Threshold.parse(threshold).find(measured, measured, [doubt])
    assert found.code == code
    assert found.text.endswith(doubt.reason) == (code == NOT_JUDGED)


def busy(*, by_kernel: bool = True, behind: bool = False) -> GeneratorStats:
    """The figures of a process of Locust that is saturated."""
    return GeneratorStats(
        lags=Counter({100.0: 1000}),
        ticks=Counter({100.0: 1000}),
        behind=Counter({1.0: 1000} if behind else {}),
        exchanges=1000,
        fallbacks=0 if by_kernel else 1000,
        cpu=9.9,
        seconds=10.0,
        users=5,
    )


@pytest.mark.parametrize(
    ("stats", "kind", "pull"),
    [
        (busy(), REQUEST_TYPE, 0),
        (busy(by_kernel=False), REQUEST_TYPE, 1),
        (busy(behind=True), REQUEST_TYPE, 1),
        (busy(), "GET", 1),
    ],
)
def test_a_saturated_locust_casts_doubt_on_times_that_contain_its_delays(
    stats: GeneratorStats, kind: str, pull: int
) -> None:
    times = Counter({1.0: 1000})
    measured = Interval(10.0, 1000, 0, times, Counter(), kinds=frozenset({kind}))
    processes = {"worker 0": stats, "master": GeneratorStats(seconds=10.0)}
    (doubt,) = doubts_about(processes, measured, missing=0, accept_saturation=False)
    assert (doubt.times, doubt.goodput) == (pull, -1)
    assert re.search(r"Locust is saturated: .* To judge all the same: --accept-saturation\.$", doubt.reason)
    assert doubts_about(processes, measured, missing=0, accept_saturation=True) == []
    assert len(doubts_about(processes, measured, missing=1, accept_saturation=True)) == 1


@pytest.mark.parametrize(
    ("codes", "code"),
    [
        ((KEPT, KEPT), KEPT),
        ((KEPT, NOT_JUDGED), NOT_JUDGED),
        ((NOT_JUDGED, BROKEN, KEPT), BROKEN),
        ((BROKEN,), BROKEN),
    ],
)
def test_one_broken_threshold_breaks_the_run_and_one_unknown_one_leaves_it_open(
    codes: tuple[int, ...], code: int
) -> None:
    assert judge([Finding(each, "") for each in codes]) == code


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


def test_ordinals() -> None:
    numbers = (1.0, 2.0, 3.0, 11.0, 12.0, 13.0, 21.0, 50.0, 92.0, 95.0, 99.9, 100 * 0.999)
    assert [ordinal(number) for number in numbers] == (
        ["1st", "2nd", "3rd", "11th", "12th", "13th", "21st", "50th", "92nd", "95th", "99.9th", "99.9th"]
    )
