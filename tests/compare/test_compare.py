"""locust_tcp/compare: which differences it believes, what its table says, and how its page looks in Chromium."""

import base64
import math
import os
import random
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from html.parser import HTMLParser
from pathlib import Path
from statistics import fmean, variance
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from playwright.sync_api import Browser, Page

from locust_tcp.compare.__main__ import (
    BELIEVED,
    LEGEND,
    METRICS,
    NOISE,
    STUDENT,
    TITLES,
    Variant,
    cell,
    differ,
    number,
    rows,
    text_table,
    variants_of,
)
from locust_tcp.compare.runs import TOTAL, Entry, Moment, Run, Unreadable
from tests import kit
from tests.browser import chromium, chromium_for_tests, new_page
from tests.compare.test_runs import DOWNLOAD, FAILURES, LINE, MOMENTS, WORD, write_history, write_stats

ALPHA = 0.05

# Welch's t-test, worked out from its definition and with no tables.


def two_sided(t: float, freedom: float) -> float:
    """Return how likely |T| > t is in Student's distribution, whose density is cos^(n-1) where t is sqrt(n) tan."""

    def area(begin: float, end: float, parts: int = 400) -> float:  # Simpson's rule
        step = (end - begin) / parts
        weights = (1 if place in (0, parts) else 4 if place % 2 else 2 for place in range(parts + 1))
        heights = (math.pow(abs(math.cos(begin + place * step)), freedom - 1) for place in range(parts + 1))
        return step / 3 * sum(weight * height for weight, height in zip(weights, heights, strict=True))

    angle = math.atan(t / math.sqrt(freedom))
    return area(angle, math.pi / 2) / area(0, math.pi / 2)


def bound(freedom: float) -> float:
    """Return the t that is exceeded, on either side, in five of a hundred cases."""
    low, high = 0.0, 100.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if two_sided(middle, freedom) > ALPHA else (low, middle)
    return low


def welch(one: Sequence[float], other: Sequence[float]) -> tuple[float, float]:
    """Return t and the degrees of freedom."""
    a, b = variance(one) / len(one), variance(other) / len(other)
    freedom = (a + b) ** 2 / (a**2 / (len(one) - 1) + b**2 / (len(other) - 1))
    return (fmean(one) - fmean(other)) / math.sqrt(a + b), freedom


# Data that come with R, and what its t.test says of them: Student's sleep (1908), and miles per gallon of cars.
SLEEP = (
    [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0],
    [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4],
)
CARS = (
    [
        *(21.4, 18.7, 18.1, 14.3, 24.4, 22.8, 19.2, 17.8, 16.4, 17.3),
        15.2,
        10.4,
        10.4,
        14.7,
        21.5,
        15.5,
        15.2,
        13.3,
        19.2,
    ],
    [21.0, 21.0, 22.8, 32.4, 30.4, 33.9, 27.3, 26.0, 30.4, 15.8, 19.7, 15.0, 21.4],
)


@pytest.mark.parametrize(
    ("samples", "t", "freedom", "p", "says"),
    [(SLEEP, -1.8608, 17.776, 0.07939, False), (CARS, -3.7671, 18.332, 0.001374, True)],
    ids=["sleep", "cars"],
)
def test_welchs_test_says_what_r_says(
    samples: tuple[list[float], list[float]], t: float, freedom: float, p: float, says: bool
) -> None:
    assert welch(*samples) == pytest.approx((t, freedom), rel=1e-4)
    assert two_sided(abs(t), freedom) == pytest.approx(p, rel=1e-3)
    assert differ(*samples) is says


@pytest.mark.parametrize("freedom", range(1, 31))
def test_the_table_of_students_t_is_right(freedom: int) -> None:
    assert STUDENT[freedom - 1] == pytest.approx(bound(freedom), abs=0.0006)
    assert len(STUDENT) == 30


@pytest.mark.parametrize(("distance", "says"), [(2.30, False), (2.31, True), (-2.30, False), (-2.31, True)])
def test_both_sides_of_the_bound(distance: float, says: bool) -> None:
    # Five samples each, of variance 2.5: the error of the distance is 1, of 8 degrees of freedom, whose bound is 2.306.
    one = [8.0, 9.0, 10.0, 11.0, 12.0]
    assert differ(one, [each + distance for each in one]) is says


@pytest.mark.parametrize("count", range(3, 32))
def test_where_one_side_has_no_spread_the_other_has_all_degrees_of_freedom(count: int) -> None:
    spread = [float(place) for place in range(count)]
    bounds = STUDENT[count - 2]
    for scale in (1.0, 0.1, 0.3, 0.7, 1 / 3, 1e-3, 17.0):
        samples = [each * scale for each in spread]
        error = math.sqrt(variance(samples) / count)
        assert differ(samples, [fmean(samples) + 1.003 * bounds * error] * 3) is True, scale
        assert differ(samples, [fmean(samples) + 0.997 * bounds * error] * 3) is False, scale


@pytest.mark.parametrize(("one", "other"), [(0, 0), (1, 50), (2, 50), (2, 3), (2, 2)])
def test_a_spread_of_less_than_three_is_not_told(one: int, other: int) -> None:
    few, many = [1.0, 2.0] * 25, [100.0, 101.0] * 25
    assert differ(few[:one], many[:other]) is None
    assert differ(many[:other], few[:one]) is None
    assert differ(few[:3], many[:3]) is True


def test_without_any_spread_only_the_same_is_the_same() -> None:
    assert differ([0.1] * 3, [0.1] * 5) is False
    assert differ([0.1] * 3, [0.2] * 3) is True


some_samples = st.lists(st.integers(0, 1000).map(float), min_size=3, max_size=20)


@settings(deadline=None)
@given(some_samples, some_samples)
def test_it_is_symmetric_and_what_the_definition_says(one: list[float], other: list[float]) -> None:
    says = differ(one, other)
    assert says is differ(other, one)
    assert says is differ(one[::-1], other)
    assert says is differ([-each for each in one], [-each for each in other])
    assume(variance(one) + variance(other) > 0)
    t, freedom = welch(one, other)
    assume(freedom % 1 < 0.999)  # where rounding decides how many degrees there are
    t_bound = bound(min(math.floor(freedom), 30))
    assume(abs(abs(t) - t_bound) > 0.001)  # the digits that the table has
    assert says is (abs(t) > t_bound)
    if says:
        assert two_sided(abs(t), freedom) < ALPHA


def alarms(draws: int, *sides: tuple[int, float, float]) -> float:
    """Return the share of draws in which two sides, each of so many samples of a mean and a spread, seem to differ."""
    source = random.Random(1947)
    found = 0
    for _ in range(draws):
        one, other = ([source.gauss(mean, sigma) for _ in range(count)] for count, mean, sigma in sides)
        found += differ(one, other) is True
    return found / draws


@pytest.mark.parametrize(
    "sides",
    [
        ((5, 100.0, 10.0), (5, 100.0, 10.0)),
        ((20, 100.0, 10.0), (20, 100.0, 10.0)),
        # of different size and spread, for which the plain t-test cries wolf in every third case
        ((5, 100.0, 50.0), (20, 100.0, 5.0)),
    ],
)
def test_of_a_hundred_equal_pairs_about_five_seem_to_differ(sides: tuple[tuple[int, float, float], ...]) -> None:
    assert 0.02 < alarms(2000, *sides) < 0.08


def test_a_real_difference_is_seen() -> None:
    assert alarms(500, (5, 100.0, 10.0), (5, 130.0, 10.0)) > 0.9
    assert alarms(500, (6, 100.0, 1.0), (6, 103.0, 1.0)) > 0.95


# The table.


def entry(requests: int = 100, failures: int = 0, p50: float | None = 1.0) -> Entry:
    times = {} if p50 is None else {"50%": p50, "95%": 2 * p50, "99%": 3 * p50, "100%": 4 * p50}
    return Entry(requests, failures, requests / 10, times)


def variant(name: str, *runs: Mapping[str, Entry], history: Sequence[Moment] = ()) -> Variant:
    return Variant(name, [Run(name, {TOTAL: entry(), **run}, list(history)) for run in runs])


def steady(rates: Sequence[int], p50: float = 1.0, failures: int = 0) -> list[Moment]:
    """A history with so many requests in each stretch of ten seconds."""
    counts = [sum(rates[:place]) for place in range(len(rates) + 1)]
    times = {"50%": p50, "95%": p50, "99%": p50, "100%": p50}
    return [Moment(place * 10.0, 5, count, place * failures, times) for place, count in enumerate(counts)]


def column(title: str) -> int:
    return TITLES.index(title) - 2


def cells(one: Variant, baseline: Variant, name: str = "TCP word") -> list[str]:
    return [cell(one, baseline, name, metric) for metric in METRICS]


def test_titles_name_every_column() -> None:
    assert TITLES == ["name", "run", "requests", "failures", "req/s", "p50 ms", "p95 ms", "p99 ms", "max ms"]
    base = variant("A", {"TCP word": entry()})
    assert {len(row) for row in rows([base, base])} == {len(TITLES)}


def test_the_baseline_has_no_ratio_and_the_others_have() -> None:
    base = variant("A", {"TCP word": entry(200, 10, 0.25)})
    other = variant("B", {"TCP word": entry(100, 25, 0.5)})
    assert cells(base, base) == ["200", "10", "20", "0.25", "0.5", "0.75", "1"]
    assert cells(other, base) == ["100 x0.5", "25 x2.5", "10 x0.5", "0.5 x2", "1 x2", "1.5 x2", "2 x2"]


def test_nothing_is_a_multiple_of_nothing() -> None:
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
    assert cells(broken, base)[column("failures")] == f"12{BELIEVED}"
    assert cells(odd, base)[column("failures")] == f"4{NOISE}"


def test_what_was_not_measured_is_a_dash() -> None:
    base, other = variant("A", {"TCP word": entry(0, 0, None)}), variant("B", {"TCP word": entry(10, 0, 1.0)})
    assert cells(base, base) == ["0", "0", "0", "-", "-", "-", "-"]
    assert cells(other, base)[3:] == ["1", "2", "3", "4"]
    assert cells(base, other)[3:] == ["-"] * 4


def test_runs_of_a_variant_are_averaged_and_told_from_noise() -> None:
    base = variant("A", *({"TCP word": entry(count, 0, 1.0)} for count in (1000, 1010, 990)))
    faster = variant(
        "B", *({"TCP word": entry(count, 0, p50)} for count, p50 in ((2000, 0.9), (2010, 1.0), (1990, 1.1)))
    )
    two = Variant("C", faster.runs[:2])
    assert cells(faster, base)[:4] == [f"2,000 x2{BELIEVED}", "0", f"200 x2{BELIEVED}", f"1 x1{NOISE}"]
    assert cells(two, base)[0] == "2,005 x2", "of two runs nobody can tell the spread"


def test_a_name_that_some_runs_have_is_averaged_over_these() -> None:
    base = variant("A", {"TCP word": entry(100)}, {}, {"TCP word": entry(300)})
    assert cells(base, base)[0] == "200"


def test_stretches_of_a_history_tell_noise_from_difference_in_the_total() -> None:
    def run(name: str, rates: Sequence[int], p50: float) -> Variant:
        return variant(name, {TOTAL: entry(sum(rates), 0, p50), "TCP word": entry()}, history=steady(rates, p50))

    base = run("A", [1000, 1010, 990], 1.0)
    same, faster = run("B", [1005, 985, 1015], 1.0), run("C", [2000, 2010, 1990], 0.5)
    rate = column("req/s")
    assert [cells(each, base, TOTAL)[rate][-1] for each in (base, same, faster)] == ["0", NOISE, BELIEVED]
    assert cells(faster, base)[rate] == "10 x1", "a history is of the total only"
    assert cells(run("D", [2000, 2010], 0.5), base, TOTAL)[rate] == "401 x1.34", "two stretches are too few"


def test_percentiles_since_the_beginning_are_no_samples(tmp_path: Path) -> None:
    # What --csv writes without --csv-full-history: each row has the percentiles of the whole run so far, which lie
    # close together, however noisy the runs are. Equal services must not differ by them more often than by chance.
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

    believed = 0
    for _ in range(pairs):
        base, other = variants_of([str(write("A")), str(write("B"))])
        believed += cells(other, base, TOTAL)[column("p50 ms")].endswith(BELIEVED)
    assert believed <= 0.15 * pairs


def test_runs_are_not_weighed_against_stretches_of_ten_seconds() -> None:
    # A folder of three runs of a minute, and one run of a minute with the same counts.
    rates = [1000, 1010, 990, 1000, 1005, 995]
    base = variant("A", *({TOTAL: entry(count)} for count in (6000, 6010, 5990)))
    other = variant("B", {TOTAL: entry(6000)}, history=steady(rates))
    assert cells(other, base, TOTAL)[column("requests")] in ("6,000 x1", f"6,000 x1{NOISE}")
    assert cells(base, other, TOTAL)[column("requests")] == "6,000 x1", "it has no history of its own"


def test_rows_tell_who_else_has_a_name() -> None:
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
        *((0.0114, "0.0114"), (0.00012345, "0.000123"), (20.56, "20.6"), (123.4, "123"), (math.nan, "-")),
    ],
)
def test_figures_have_three_digits_or_all_before_the_point(value: float, text: str) -> None:
    assert number(value) == text.replace("1e+03", "1,000")


def test_the_text_table_is_aligned() -> None:
    first = variant("A", {"TCP word": entry(100), "TCP a rather long name": entry(71274, 3, 0.0114)})
    second = variant("a longer variant", {"TCP word": entry(150)})
    text = text_table(rows([first, second])).splitlines()
    begins = [match.start() for match in re.finditer(r"\S+(?: \S+)*", text[0])]
    assert begins[:2] == [0, text[0].index("run")]
    ends = [match.end() for match in re.finditer(r"\S+(?: \S+)*", text[0])][2:]
    assert len(ends) == len(METRICS)
    for line in text[1:]:
        assert line[begins[1] - 2 : begins[1]] == "  ", line
        assert [match.end() for match in re.finditer(r"\S+(?: \S+)*", line[begins[1] :])][-len(METRICS) :] == [
            end - begins[1] for end in ends
        ]
        assert line == line.rstrip()
    assert [line[: begins[1]].strip() for line in text] == [
        *("name", "TCP word", "", "TCP a rather long name", TOTAL, ""),
    ], "a name stands where it begins"


# The command line.


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that the test is in, with runs A, A2, B, B2, and folders old and new of the same names."""
    monkeypatch.chdir(tmp_path)
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        write_stats(tmp_path / name / "run_stats.csv", WORD, LINE)
    write_stats(tmp_path / "new" / "run2_stats.csv", WORD)
    for name in ("A", "A2", "B", "B2"):
        write_stats(tmp_path / f"{name}_stats.csv", WORD, LINE)
    return tmp_path


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


def compare(*arguments: str | Path, cwd: Path = kit.KIT) -> subprocess.CompletedProcess[str]:
    """Run the command, in a folder, of the tree that the tests are in."""
    return subprocess.run(
        [sys.executable, "-m", "locust_tcp.compare", *map(str, arguments)],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(kit.KIT)},
        capture_output=True,
        encoding="utf-8",
        errors="surrogateescape",
        timeout=kit.PATIENCE,
        check=False,
    )


def test_the_command_prints_the_table_and_its_legend(folder: Path) -> None:
    done = compare(folder / "A", folder / "B_stats.csv")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{text_table(rows(variants_of(['A', 'B'])))}\n\n{LEGEND}\n"
    assert "300 x1" in done.stdout


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        pytest.param("x_stats.csv", "", "it is empty", id="empty"),
        pytest.param("x_stats.csv", "a,b\n1,2\n", "not a CSV of Locust's", id="foreign"),
        pytest.param("x_stats.csv", FAILURES, "not a CSV of Locust's", id="failures"),
        pytest.param("x_stats.csv", "\0\1\2\udcff" * 50, "not a CSV of Locust's", id="binary"),
        pytest.param("other_stats.csv", "", "there is no such file", id="missing"),
        pytest.param("x_stats_history.csv", "", "there is no such file", id="a history alone"),
    ],
)
def test_a_bad_file_is_one_line_and_exit_code_2(folder: Path, name: str, content: str, sentence: str) -> None:
    (folder / name).write_text(content, encoding="utf-8", errors="surrogateescape")
    done = compare(folder / "A", folder / "x", "--html", folder / "page.html")
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(rf"compare: .*/x.*: .*{sentence}.*\n", done.stderr)
    assert not (folder / "page.html").exists()


@pytest.mark.parametrize(("old", "new"), [(",300,", ",many,"), (",30.0,", ",inf,"), (",30.0,", ",nan,")])
def test_figures_that_are_none_are_one_line_too(folder: Path, old: str, new: str) -> None:
    file = folder / "A_stats.csv"
    file.write_text(file.read_text().replace(old, new))
    done = compare(folder / "A", folder / "B")
    assert done.returncode == 2
    assert re.fullmatch(r"compare: .*A_stats\.csv: .*\n", done.stderr)


def test_a_page_that_can_not_be_written_is_one_line(folder: Path) -> None:
    for place in (folder / "nowhere" / "page.html", folder / "old"):
        done = compare(folder / "A", folder / "B", "--html", place)
        assert done.returncode == 2
        assert re.fullmatch(rf"compare: can't write {re.escape(str(place))}: .*\n", done.stderr)


def test_a_place_that_can_not_be_looked_at_is_one_line_that_names_it(folder: Path) -> None:
    place = "x" * 5000
    done = compare(folder / "A", place)
    assert done.returncode == 2
    assert re.fullmatch(rf"compare: {place}: .*\n", done.stderr)


def test_names_that_are_no_unicode_are_no_trouble(folder: Path) -> None:
    # As an old archive leaves them: Python has surrogates for such bytes, which can't be printed.
    name = b"caf\xe9".decode("utf-8", "surrogateescape")
    write_stats(folder / f"{name}_stats.csv", WORD, LINE)
    done = compare(folder / name, folder / "B", "--html", folder / "page.html")
    assert (done.returncode, done.stderr) == (0, "")
    assert "caf" in done.stdout
    assert "caf" in (folder / "page.html").read_text(encoding="utf-8")


def test_usage_tells_of_groups() -> None:
    done = compare("--help")
    assert done.returncode == 0
    assert "A A2 A3 : B B2 B3" in done.stdout
    assert compare().returncode == 2


# The page.

HOSTILE = "<script>alert(1)</script>"
NAMES = [HOSTILE, 'a & b "c"', "</table></svg>", "süßer ﬁsch"]
VOID = ("meta", "link", "br", "hr", "img", "input")


class Parsed(HTMLParser):
    """A page, taken apart: that each element is closed where it should be is part of it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.texts: dict[str, list[str]] = {}
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)
            self.texts.setdefault(tag, []).append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open:
            self.texts[self.open[-1]][-1] += data


def long_history(file: Path, seconds: int = 35, rate: int = 100, p50: float = 1.0) -> None:
    write_history(
        file,
        [(0, 0, 0, 0, None), *((second, 5, second * rate, 0, p50 + second % 3 / 10) for second in range(1, seconds))],
    )


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of two runs, one with a history and names that are no good for a page."""
    folder = tmp_path_factory.mktemp("page")
    write_stats(folder / "A_stats.csv", *(("TCP", name, 71274, 3, 0.5) for name in NAMES), WORD)
    write_stats(folder / f"{HOSTILE.replace('/', '')}_stats.csv", WORD, LINE)
    long_history(folder / "A_stats_history.csv")
    done = compare("A", HOSTILE.replace("/", ""), "--html", "page.html", cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")
    return folder / "page.html"


def test_the_page_is_self_contained(written: Path) -> None:
    text = written.read_text(encoding="utf-8")
    page = Parsed(text)
    # The name of SVG is the only address, and no browser fetches it.
    assert {value for _, value in page.attributes if "//" in value} == {"http://www.w3.org/2000/svg"}
    assert set(re.findall(r"https?:[^\s\"'<]*", text)) == {"http://www.w3.org/2000/svg"}
    assert not {"script", "link", "img", "iframe", "object", "use", "image"} & set(page.tags)
    assert not {"src", "href", "xlink:href", "srcset", "data"} & {name for name, _ in page.attributes}
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert not re.search(r"url\(|@import", text)
    assert text.startswith("<!doctype html>")
    assert ("charset", "utf-8") in page.attributes


def test_the_page_shows_each_name_as_it_is(written: Path) -> None:
    page = Parsed(written.read_text(encoding="utf-8"))
    shown = page.texts["td"]
    titles = page.texts["text"]
    for name in NAMES:
        assert f"TCP {name}" in shown
        assert f"TCP {name}: percentiles of the response times (ms)" in titles
    assert HOSTILE.replace("/", "") in shown
    assert page.texts["th"] == TITLES
    assert LEGEND in page.texts["p"]


def test_the_page_has_bars_for_each_name_and_lines_for_a_history(written: Path, folder: Path) -> None:
    page = Parsed(written.read_text(encoding="utf-8"))
    bars = len(NAMES) + 3  # and word, long line and the total
    assert page.tags.count("svg") == bars + 3
    assert page.tags.count("polyline") == 3
    assert "Requests per second" in page.texts["text"]
    assert compare(folder / "A", folder / "B", "--html", folder / "page.html").returncode == 0
    without = Parsed((folder / "page.html").read_text(encoding="utf-8"))
    assert (without.tags.count("svg"), without.tags.count("polyline")) == (3, 0)


@pytest.mark.parametrize("moments", [MOMENTS[:1], MOMENTS[:2], [(0, 0, 0, 0, None)] * 3, [MOMENTS[1]] * 3])
def test_a_history_of_nearly_nothing_is_no_trouble(folder: Path, moments: list[Any]) -> None:
    write_history(folder / "A_stats_history.csv", moments)
    done = compare(folder / "A", folder / "B", "--html", folder / "page.html")
    assert (done.returncode, done.stderr) == (0, "")
    assert Parsed((folder / "page.html").read_text(encoding="utf-8")).tags.count("svg") == 3


def test_without_a_request_there_is_a_page(folder: Path) -> None:
    for name in ("A", "B"):
        write_stats(folder / f"{name}_stats.csv", ("TCP", "word", 0, 0, None))
    done = compare(folder / "A", folder / "B", "--html", folder / "page.html")
    assert (done.returncode, done.stderr) == (0, "")
    Parsed((folder / "page.html").read_text(encoding="utf-8"))


# The page in Chromium.

_COLOURS = """async data => {
    const image = new Image();
    image.src = "data:image/png;base64," + data;
    await image.decode();
    const canvas = document.createElement("canvas");
    canvas.width = image.width;
    canvas.height = image.height;
    const context = canvas.getContext("2d");
    context.drawImage(image, 0, 0);
    const pixels = context.getImageData(0, 0, image.width, image.height).data;
    const counts = {};
    for (let at = 0; at < pixels.length; at += 4) {
        const colour = [pixels[at], pixels[at + 1], pixels[at + 2]].join();
        counts[colour] = (counts[colour] || 0) + 1;
    }
    return counts;
}"""
# Each text's right end in the picture's own units, with the width of the picture, as the browser's fonts have it.
_CUT_OFF = """() => Array.from(document.querySelectorAll("svg text"), text => {
    const box = text.getBBox();
    const frame = text.ownerSVGElement.viewBox.baseVal;
    const within = box.x >= 0 && box.x + box.width <= frame.width && box.y >= 0 && box.y + box.height <= frame.height;
    return within ? "" : text.textContent;
}).filter(Boolean)"""

Colour = tuple[int, int, int]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium(chromium_for_tests()) as running:
        yield running


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page without a network. That nothing on it runs or fails is part of every test."""
    errors: list[str] = []
    with new_page(browser) as opened:
        opened.on("pageerror", lambda error: errors.append(str(error)))
        opened.on("console", lambda message: errors.append(message.text))
        opened.on("dialog", lambda dialog: errors.append(dialog.message))
        opened.on("request", lambda request: errors.extend([] if request.url.startswith("file:") else [request.url]))
        yield opened
    assert errors == []


@pytest.fixture(scope="module")
def ordinary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page as people make them: two runs with histories."""
    folder = tmp_path_factory.mktemp("ordinary")
    for name, scale in (("persistent", 1), ("per-request", 20)):
        rows_of = [("TCP", each, 71274 // scale, scale, 0.0114 * scale) for each in ("connect", "long line", "word")]
        write_stats(folder / f"{name}_stats.csv", *rows_of)
        long_history(folder / f"{name}_stats_history.csv", seconds=90, rate=7000 // scale, p50=0.1 * scale)
    done = compare("persistent", "per-request", "--html", "page.html", cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")
    return folder / "page.html"


def colour(text: str) -> Colour:
    red, green, blue = map(int, re.findall(r"\d+", text)[:3])
    return red, green, blue


def luminance(rgb: Colour) -> float:
    """Return the relative luminance of WCAG 2."""
    red, green, blue = (
        each / 255 / 12.92 if each / 255 <= 0.04045 else ((each / 255 + 0.055) / 1.055) ** 2.4 for each in rgb
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: Colour, other: Colour) -> float:
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def colours(browser: Browser, picture: bytes) -> dict[Colour, int]:
    """Return how many dots of a screenshot have each colour."""
    with new_page(browser) as helper:
        counts: dict[str, int] = helper.evaluate(_COLOURS, base64.b64encode(picture).decode())
    return {colour(text): count for text, count in counts.items()}


def test_contrast_is_that_of_wcag() -> None:
    assert contrast((0, 0, 0), (255, 255, 255)) == pytest.approx(21)
    assert contrast((119, 119, 119), (255, 255, 255)) == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everything_can_be_read_in_light_and_dark(browser: Browser, page: Page, ordinary: Path, scheme: str) -> None:
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    page.goto(ordinary.as_uri())
    for where, texts, style in (("table", "h1, p, th, td", "color"), ("svg", "svg text", "fill")):
        seen = colours(browser, page.locator(where).first.screenshot())
        paper = max(seen, key=lambda each: seen[each])
        assert (luminance(paper) < 0.1) == (scheme == "dark")
        found = page.locator(texts).evaluate_all(
            "(all, style) => [...new Set(all.map(each => getComputedStyle(each)[style]))]", style
        )
        assert found
        for ink in found:
            assert contrast(colour(ink), paper) >= 4.5, (where, ink, paper)  # WCAG 2, AA
        readable = sum(count for each, count in seen.items() if contrast(each, paper) >= 4.5)
        assert readable / sum(seen.values()) > 0.005, "there is ink on the paper"
    paper = colour(page.locator("svg").first.evaluate("svg => getComputedStyle(svg).backgroundColor"))
    fills = page.locator("svg rect").evaluate_all("all => [...new Set(all.map(each => getComputedStyle(each).fill))]")
    assert len(fills) == 2
    for ink in fills:
        assert contrast(colour(ink), paper) >= 3, (ink, paper)  # WCAG 2, graphics


def expect_nothing_cut_off(page: Page, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    root = "document.documentElement"
    assert page.evaluate(f"{root}.scrollWidth <= {root}.clientWidth"), "the page itself does not scroll to the side"
    for picture in page.locator("svg").all():
        box = picture.bounding_box()
        assert box
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width
        assert box["width"] > min(700, width - 40)
        assert box["height"] == pytest.approx(box["width"] * 260 / 760, rel=0.02)
    assert page.evaluate(_CUT_OFF) == []
    # The table may be wider than the page, in an element that scrolls.
    table = page.locator("table")
    assert table.evaluate("""table => {
        const frame = table.parentElement;
        const scrolls = getComputedStyle(frame).overflowX === "auto";
        return frame.clientWidth <= innerWidth && (scrolls || frame.scrollWidth <= frame.clientWidth);
    }""")


@pytest.mark.parametrize("width", [1180, 400])
def test_nothing_is_cut_off(page: Page, ordinary: Path, width: int) -> None:
    page.goto(ordinary.as_uri())
    expect_nothing_cut_off(page, width)


def test_pictures_have_bars_and_lines_of_both_runs(browser: Browser, page: Page, ordinary: Path) -> None:
    page.goto(ordinary.as_uri())
    pictures = page.locator("svg").all()
    assert len(pictures) == 4 + 3
    for picture in pictures:
        seen = colours(browser, picture.screenshot())
        for ink in ((0, 0x72, 0xB2), (0xD5, 0x5E, 0)):
            assert seen.get(ink, 0) > 150, "more than the square of its legend, which has 100 dots"


@pytest.mark.parametrize(
    ("name", "request_name"),
    [
        pytest.param(DOWNLOAD.removesuffix(".csv"), "word", id="names of downloads"),
        pytest.param(
            "run", "/api/v1/customers/[id]/orders/[order]/items?sort=date&direction=desc&page=[page]", id="URL"
        ),
    ],
)
def test_long_names_are_not_cut_off_either(page: Page, tmp_path: Path, name: str, request_name: str) -> None:
    places = []
    for place in range(3):
        places.append(tmp_path / f"{place}{name}.csv")
        write_stats(places[-1], ("GET", request_name, 100, 0, 1.0 + place))
    assert compare(*places, "--html", tmp_path / "page.html").returncode == 0
    page.goto((tmp_path / "page.html").as_uri())
    expect_nothing_cut_off(page, 1180)


def test_hostile_names_do_nothing_in_a_browser(page: Page, written: Path) -> None:
    page.goto(written.as_uri())
    assert page.get_by_role("cell", name=f"TCP {HOSTILE}", exact=True).count() == 1
    assert page.locator("script").count() == 0
    assert page.evaluate(_CUT_OFF) == []
