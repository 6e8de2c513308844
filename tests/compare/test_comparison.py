"""locust_tcp/compare/comparison.py: the variants, and each cell of the table."""

import math
import random
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from locust_tcp.compare.comparison import (
    FEW,
    METRICS,
    NOISE,
    REAL,
    Variant,
    cell,
    interval,
    number,
    rows,
    shared_percentiles,
    titles,
    variants_of,
)
from locust_tcp.compare.runs import TOTAL, Entry, Moment, Run, Unreadable
from tests.compare.files import REPORTED, write_history, write_stats


def entry(requests: int = 100, failures: int = 0, p50: float | None = 1.0) -> Entry:
    times = {} if p50 is None else {"50%": p50, "95%": 2 * p50, "99%": 3 * p50, "100%": 4 * p50}
    return Entry(requests, failures, requests / 10, times)


def variant(name: str, *runs: Mapping[str, Entry], history: Sequence[Moment] = ()) -> Variant:
    return Variant(name, [Run(name, {TOTAL: entry(), **run}, list(history)) for run in runs])


def steady(rates: Sequence[int], p50: float = 1.0, failures: int = 0) -> list[Moment]:
    """A history with so many requests in each interval of ten seconds."""
    counts = [sum(rates[:place]) for place in range(len(rates) + 1)]
    times = {"50%": p50, "95%": p50, "99%": p50, "100%": p50}
    return [Moment(place * 10.0, 5, count, place * failures, times) for place, count in enumerate(counts)]


def column(title: str) -> int:
    return [metric.title for metric in METRICS].index(title)


def cells(one: Variant, baseline: Variant, name: str = "TCP word") -> list[str]:
    return [cell(one, baseline, name, metric) for metric in METRICS]


def test_titles_name_every_column() -> None:
    base = variant("A", {"TCP word": entry()})
    expected = ["name", "run", "requests", "failures", "req/s", "p50 ms", "p95 ms", "p99 ms", "max ms"]
    assert titles([base, base]) == expected
    assert {len(row) for row in rows([base, base])} == {len(expected)}


OWN = ["50%", "90%", "99.9%", "99.99%"]  # a locustfile's own locust.stats.PERCENTILES_TO_REPORT


@pytest.mark.parametrize(
    ("mine", "theirs", "shown"),
    [
        (REPORTED, REPORTED, ["50%", "95%", "99%", "100%"]),
        (OWN, OWN, OWN),
        (OWN, REPORTED, OWN),
        (REPORTED, ["100%", "50%", "80%"], ["50%", "80%", "100%"]),
        (REPORTED, ["50%", "95%", "99%", "99.9%", "100%"], ["50%", "95%", "99%", "100%"]),
        (["50%"], ["90%"], ["50%", "95%", "99%", "100%"]),  # nothing to compare
        (REPORTED, [], ["50%", "95%", "99%", "100%"]),
    ],
)
def test_the_percentiles_that_both_have_are_compared(
    tmp_path: Path, mine: Sequence[str], theirs: Sequence[str], shown: list[str]
) -> None:
    word = ("TCP", "word", 40_000, 3, 0.25)  # enough for a 99.99th percentile
    for name, reported in (("A", mine), ("B", theirs)):
        write_stats(tmp_path / f"{name}_stats.csv", word, reported=reported)
    variants = variants_of([f"{tmp_path}/A", f"{tmp_path}/B"])
    names = ["max ms" if name == "100%" else f"p{name[:-1]} ms" for name in shown]
    assert titles(variants) == ["name", "run", "requests", "failures", "req/s", *names]
    if [name for name in mine if name in theirs]:
        assert all("x1" in text for text in rows(variants)[1][-len(shown) :])


def test_runs_without_any_time_do_not_hide_the_percentiles_of_the_others(tmp_path: Path) -> None:
    write_stats(tmp_path / "A_stats.csv", ("TCP", "log", 300, 0, None))
    write_stats(tmp_path / "B_stats.csv", ("TCP", "word", 300, 3, 0.25), reported=OWN)
    assert shared_percentiles(variants_of([f"{tmp_path}/A", f"{tmp_path}/B"])) == OWN


def test_the_baseline_has_no_ratio_and_the_others_have() -> None:
    base = variant("A", {"TCP word": entry(200, 10, 0.25)})
    other = variant("B", {"TCP word": entry(100, 25, 0.5)})
    assert [text.split(" (")[0] for text in cells(base, base)] == ["200", "10", "20", "0.25", "0.5", FEW, "1"]
    assert [re.sub(r" \(.*\)", "", text) for text in cells(other, base)] == [
        *("100 x0.5", "25 x2.5", "10 x0.5", "0.5 x2", "1 x2", FEW, "2 x2"),
    ]


def test_there_is_no_ratio_to_zero() -> None:
    base, none, some = (
        variant(name, {"TCP word": entry(100, count)}) for name, count in (("A", 0), ("B", 0), ("C", 12))
    )
    failures = column("failures")
    assert [cells(each, base)[failures] for each in (base, none, some)] == ["0", "0", "12"]
    assert cells(base, some)[failures] == "0 x0"


def test_failures_where_there_were_none_are_marked_too() -> None:
    base = variant("A", *({"TCP word": entry(100, 0)} for _ in range(3)))
    broken = variant("B", *({"TCP word": entry(100, count)} for count in (11, 12, 13)))
    odd = variant("C", *({"TCP word": entry(100, count)} for count in (0, 0, 12)))
    assert cells(broken, base)[column("failures")] == f"12{REAL}"
    assert cells(odd, base)[column("failures")] == f"4{NOISE}"


def test_what_was_not_measured_is_a_dash() -> None:
    base, other = variant("A", {"TCP word": entry(0, 0, None)}), variant("B", {"TCP word": entry(1000, 0, 1.0)})
    assert cells(base, base) == ["0", "0", "0", "-", "-", "-", "-"]
    assert [text.split(" (")[0] for text in cells(other, base)[3:]] == ["1", "2", "3", "4"]
    assert cells(base, other)[3:] == ["-"] * 4


def test_runs_of_a_variant_are_averaged_and_tested() -> None:
    base = variant("A", *({"TCP word": entry(count, 0, 1.0)} for count in (1000, 1010, 990)))
    faster = variant(
        "B", *({"TCP word": entry(count, 0, p50)} for count, p50 in ((2000, 0.9), (2010, 1.0), (1990, 1.1)))
    )
    two = Variant("C", faster.runs[:2])
    # 1.0 +- 4.303 x 0.1 / sqrt(3), by Student's t for two degrees of freedom
    assert cells(faster, base)[:4] == [f"2,000 x2{REAL}", "0", f"200 x2{REAL}", f"1 (0.752-1.25) x1{NOISE}"]
    assert cells(two, base)[3] == "0.95 x0.95", "two runs are too few for a spread"
    assert cells(two, base)[0] == "2,005 x2", "two runs are too few for a spread"


@pytest.mark.parametrize(
    ("requests", "p50", "p95", "p99"),
    [
        (5, FEW, FEW, FEW),
        (6, "1 (up to 4)", FEW, FEW),
        (71, "1 (up to 2)", FEW, FEW),
        # The 64th and the last of 72 enclose the 95th percentile: the CSV has the 37th, the 69th and the last.
        (72, "1 (up to 2)", "2 (1-4)", FEW),
        # The 184th and the 196th of 200: the CSV has the 101st, the 191st, the 199th and the last.
        (200, "1 (up to 2)", "2 (1-3)", FEW),
        (367, "1 (up to 2)", "2 (1-3)", FEW),
        (368, "1 (up to 2)", "2 (1-3)", "3 (2-4)"),
    ],
)
def test_a_percentile_has_an_interval_or_too_few_requests(requests: int, p50: str, p95: str, p99: str) -> None:
    base = variant("A", {"TCP word": entry(requests)})
    assert cells(base, base)[3:] == [p50, p95, p99, "4"]


def test_an_interval_of_one_run_encloses_the_true_percentile_as_often_as_promised(tmp_path: Path) -> None:
    source = random.Random(1991)
    true = -math.log(0.05)  # of the exponential distribution
    trials, hits = 300, 0
    for _ in range(trials):
        times = sorted(source.expovariate(1.0) for _ in range(500))
        columns = {name: times[min(499, int(5 * float(name[:-1])))] for name in ("90%", "95%", "98%", "100%")}
        match = re.fullmatch(r" \((.*)-(.*)\)", interval([Entry(500, 0, 50.0, columns)], METRICS[column("p95 ms")]))
        assert match
        hits += float(match[1]) <= true <= float(match[2])
    assert hits / trials >= 0.95


def test_runs_with_too_few_requests_for_a_percentile_do_not_count() -> None:
    base = variant("A", {"TCP word": entry(100, 0, 1.0)}, {"TCP word": entry(1000, 0, 2.0)})
    assert cells(base, base)[5] == "6"


def test_several_runs_are_said_to_be_and_their_maximum_is_the_greatest() -> None:
    base = variant("A", *({"TCP word": entry(100, failures)} for failures in (20, 21, 21)))
    other = variant("B", *({"TCP word": entry(100, 0, p50)} for p50 in (1.0, 2.0, 6.0)))
    table = rows([base, other])
    assert [row[1] for row in table[:2]] == ["A, mean of 3 runs", "B, mean of 3 runs"]
    assert (table[0][column("failures") + 2], table[1][column("max ms") + 2]) == ("20.7", "24 x6")


def test_a_name_that_some_runs_have_is_averaged_over_these() -> None:
    base = variant("A", {"TCP word": entry(100)}, {}, {"TCP word": entry(300)})
    assert cells(base, base)[0] == "200"


def test_intervals_of_a_history_are_the_samples_of_the_total() -> None:
    def run(name: str, rates: Sequence[int], p50: float) -> Variant:
        return variant(name, {TOTAL: entry(sum(rates), 0, p50), "TCP word": entry()}, history=steady(rates, p50))

    base = run("A", [1000, 1010, 990], 1.0)
    same, faster = run("B", [1005, 985, 1015], 1.0), run("C", [2000, 2010, 1990], 0.5)
    rate = column("req/s")
    assert [cells(each, base, TOTAL)[rate][-1] for each in (base, same, faster)] == ["0", NOISE, REAL]
    assert cells(faster, base)[rate] == "10 x1", "a history is of the total only"
    assert cells(run("D", [2000, 2010], 0.5), base, TOTAL)[rate] == "401 x1.34", "two intervals are too few"


def test_percentiles_since_the_beginning_are_no_samples(tmp_path: Path) -> None:
    # Without --csv-full-history each row has the percentiles of the whole run so far. They lie
    # close together, however noisy the runs are. Equal services must differ no more than by chance.
    source = random.Random(1947)
    pairs = 40

    def write(name: str) -> Path:
        times: list[float] = []
        moments: list[tuple[int, int, int, int, float | None]] = [(0, 5, 0, 0, None)]
        for second in range(1, 62):
            times += (source.lognormvariate(0.0, 0.6) for _ in range(20))
            moments.append((second, 5, len(times), 0, sorted(times)[len(times) // 2]))
        write_stats(tmp_path / f"{name}_stats.csv", ("TCP", "word", len(times), 0, moments[-1][4]))
        write_history(tmp_path / f"{name}_stats_history.csv", moments)
        return tmp_path / name

    real = 0
    for _ in range(pairs):
        base, other = variants_of([str(write("A")), str(write("B"))])
        real += cells(other, base, TOTAL)[column("p50 ms")].endswith(REAL)
    assert real <= 0.15 * pairs


def test_runs_are_not_tested_against_intervals_of_ten_seconds() -> None:
    # A folder of three runs of a minute, and one run of a minute with the same counts.
    rates = [1000, 1010, 990, 1000, 1005, 995]
    base = variant("A", *({TOTAL: entry(count)} for count in (6000, 6010, 5990)))
    other = variant("B", {TOTAL: entry(6000)}, history=steady(rates))
    assert cells(other, base, TOTAL)[column("requests")] in ("6,000 x1", f"6,000 x1{NOISE}")
    assert cells(base, other, TOTAL)[column("requests")] == "6,000 x1", "it has no history of its own"


def test_a_row_says_where_no_other_variant_has_its_name() -> None:
    first = variant("A", {"TCP word": entry(100), "TCP old": entry(7)})
    second = variant("B", {"TCP new": entry(9), "TCP two": entry(8), "TCP word": entry(150)})
    table = rows([first, second, variant("C", {"TCP word": entry(50), "TCP two": entry(4)})])
    assert [row[:3] for row in table] == [
        ["TCP word", "A", "100"],
        ["TCP word", "B", "150 x1.5"],
        ["TCP word", "C", "50 x0.5"],
        ["TCP old", "A (only here)", "7"],
        ["TCP new", "B (only here)", "9"],
        ["TCP two", "B", "8"],
        ["TCP two", "C", "4"],
        [TOTAL, "A", "100"],
        [TOTAL, "B", "100 x1"],
        [TOTAL, "C", "100 x1"],
    ]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        *((0.0, "0"), (12.0, "12"), (999.6, "1e+03"), (1000.4, "1,000"), (71274.0, "71,274"), (1234567.8, "1,234,568")),
        *(
            (0.0114, "0.0114"),
            (0.00012345, "0.000123"),
            (20.56, "20.6"),
            (123.4, "123"),
            (math.nan, "-"),
            (math.inf, "inf"),
        ),
    ],
)
def test_figures_have_three_digits_or_all_before_the_point(value: float, text: str) -> None:
    assert number(value) == text.replace("1e+03", "1,000")


@pytest.mark.parametrize(
    ("places", "expected"),
    [
        ("A B", {"A": ["A"], "B": ["B"]}),
        ("A B_stats.csv A2", {"A": ["A"], "B": ["B"], "A2": ["A2"]}),
        ("A A2 : B B2", {"A": ["A", "A2"], "B": ["B", "B2"]}),
        ("A : B B2 : A2", {"A": ["A"], "B": ["B", "B2"], "A2": ["A2"]}),
        ("old new", {"old": ["run"], "new": ["run", "run2"]}),
        ("old : new", {"old": ["run"], "new": ["run", "run2"]}),
        ("old/ ./new/", {"old": ["run"], "new": ["run", "run2"]}),
        ("old/run new/run", {"run (1)": ["run"], "run (2)": ["run"]}),
        ("A A", {"A (1)": ["A"], "A (2)": ["A"]}),
        ("old new A : B", {"run": ["run", "run", "run2", "A"], "B": ["B"]}),
    ],
)
def test_variants_are_places_or_groups_between_colons(
    folder: Path, places: str, expected: dict[str, list[str]]
) -> None:
    found = {variant.name: sorted(run.name for run in variant.runs) for variant in variants_of(places.split())}
    assert found == {name: sorted(runs) for name, runs in expected.items()}
    assert [*found] == [*expected], "the first is the baseline"


@pytest.mark.parametrize("places", ["A", "A A2 :", ": A", "A : : B", ":", ": :", "old"])
def test_fewer_than_two_variants_are_no_comparison(folder: Path, places: str) -> None:
    with pytest.raises(Unreadable, match="two variants or more are needed"):
        variants_of(places.split())
