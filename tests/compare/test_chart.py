"""locust_tcp/compare/chart.py: a chart of any points is well-formed and has all of them."""

import itertools
import math
import re
from collections.abc import Iterator, Mapping
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import pytest
from hypothesis import given
from hypothesis import strategies as st

from locust_tcp.compare.chart import (
    BOTTOM,
    HEIGHT,
    LEFT,
    LETTER,
    RIGHT,
    STYLE,
    TOP,
    WIDTH,
    Points,
    document,
    html_table,
    line_chart,
    plain,
)
from tests.pages import Parsed

SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = "<a & b> \"c\" 'd' </text><script>"
NUMBER = re.compile(r"-?\d+\.?\d*(?:e[-+]?\d+)?")
ROUNDING = 0.1  # pixels, to which places are rounded


def parse(picture: str) -> Element:
    root = ElementTree.fromstring(picture)
    assert root.tag == f"{SVG}svg"
    assert (root.get("width"), root.get("height")) == (str(WIDTH), str(HEIGHT))
    return root


def places(root: Element) -> Iterator[tuple[float, float]]:
    """Yield all places of a chart where something is drawn or written."""
    for element in root.iter():
        attributes = {name: float(value) for name, value in element.items() if NUMBER.fullmatch(value)}
        match element.tag.removeprefix(SVG):
            case "text":
                yield attributes["x"], attributes["y"]
            case "circle":
                yield attributes["cx"], attributes["cy"]
            case "rect":
                x, y, width, height = (attributes[name] for name in ("x", "y", "width", "height"))
                assert min(width, height) >= 0
                yield x, y
                yield x + width, y + height
            case "polyline":
                for point in (element.get("points") or "").split():
                    x, y = map(float, point.split(","))
                    yield x, y
            case "path":
                match = re.fullmatch(r"M(\S+) (\S+)([HV])(\S+)", element.get("d") or "")
                assert match, element.get("d")
                x, y, to = float(match[1]), float(match[2]), float(match[4])
                yield x, y
                yield (to, y) if match[3] == "H" else (x, to)
            case "svg" | "style" | "title":
                pass
            case other:
                raise AssertionError(f"the tests don't know where a {other} is")


def expect_within(root: Element) -> None:
    for x, y in places(root):
        assert 0 <= x <= WIDTH, (x, y)
        assert 0 <= y <= HEIGHT, (x, y)


def plotted(root: Element) -> list[list[tuple[float, float]]]:
    """Return the points of each line."""
    return [
        [(float(x), float(y)) for x, y in (point.split(",") for point in (line.get("points") or "").split())]
        for line in root.iter(f"{SVG}polyline")
    ]


def across(root: Element) -> list[float]:
    """Return the heights of the lines of the y axis."""
    lines = [element.get("d") or "" for element in root.iter(f"{SVG}path") if "H" in (element.get("d") or "")]
    return sorted(float(line.split()[1].split("H")[0]) for line in lines)


def words(root: Element) -> list[str | None]:
    return [element.text for element in root.iter(f"{SVG}text")]


@pytest.mark.parametrize("log_x", [False, True])
@pytest.mark.parametrize("log_y", [False, True])
@pytest.mark.parametrize(
    "series",
    [
        {},
        {"nothing": []},
        {"one": [(5.0, 7.0)]},
        {"equal": [(3.0, 3.0)] * 4},
        {"level": [(1.0, 3.0), (2.0, 3.0), (3.0, 3.0)]},
        {"upright": [(3.0, 1.0), (3.0, 2.0)]},
        {"at zero": [(0.0, 0.0)]},
        {"zeros": [(float(x), 0.0) for x in range(5)]},
        {"zeros and others": [(0.0, 0.0), (1.0, 5.0), (2.0, 0.0)]},
        {"huge range": [(1e-6, 1e-6), (1.0, 1.0), (1e9, 1e9)]},
        {"tiny": [(1e-9, 1e-9)]},
        {"powers": [(10.0, 10.0), (100.0, 100.0), (1000.0, 1000.0)]},
        {"almost": [(999.9999999, 1000.0000001)]},
        {"many": [(float(x), float(x * x)) for x in range(100)]},
        {"one": [(1.0, 1.0)], "and none": []},
    ],
    ids=lambda series: ", ".join(series) or "no series",
)
def test_any_points_make_a_picture(series: Mapping[str, Points], log_x: bool, log_y: bool) -> None:
    root = parse(line_chart("title", "x", series, log_x=log_x, log_y=log_y))
    expect_within(root)
    assert [len(line) for line in plotted(root)] == [len(line) for line in series.values()]
    assert len(across(root)) >= 2


numbers = st.one_of(st.just(0.0), st.integers(0, 10**6).map(float), st.floats(1e-6, 1e9))
some_points = st.lists(st.tuples(numbers, numbers), max_size=60)


@given(
    st.dictionaries(st.sampled_from(["a", "b", "c", "d"]), some_points, max_size=4),
    st.booleans(),
    st.booleans(),
    st.dictionaries(numbers, st.sampled_from(["knee", "highest rate", HOSTILE]), max_size=4),
)
def test_all_is_within_the_picture_and_all_points_are_within_its_axes(
    series: dict[str, list[tuple[float, float]]], log_x: bool, log_y: bool, marks: dict[float, str]
) -> None:
    root = parse(line_chart("title", "users", series, log_x=log_x, log_y=log_y, marks=marks))
    expect_within(root)
    lines = across(root)
    for x, y in (point for line in plotted(root) for point in line):
        assert LEFT - ROUNDING <= x <= WIDTH - RIGHT + ROUNDING
        assert TOP - ROUNDING <= y <= HEIGHT - BOTTOM + ROUNDING
        assert lines[0] - ROUNDING <= y <= lines[-1] + ROUNDING, "the ticks do not cover the data"


@given(st.lists(st.tuples(numbers, numbers), min_size=2, max_size=20), st.booleans(), st.booleans())
def test_more_is_further_up_and_to_the_right(points: list[tuple[float, float]], log_x: bool, log_y: bool) -> None:
    (drawn,) = plotted(parse(line_chart("title", "x", {"a": points}, log_x=log_x, log_y=log_y)))
    pairs = itertools.pairwise(zip(sorted(points), drawn, strict=True))
    for (point, there), (other, there_too) in pairs:
        assert there[0] <= there_too[0]
        if point[1] <= other[1]:
            assert there[1] >= there_too[1]
        else:
            assert there[1] <= there_too[1]


def test_a_linear_axis_begins_at_zero_and_is_linear() -> None:
    root = parse(line_chart("title", "x", {"a": [(0.0, 0.0), (5.0, 50.0), (10.0, 100.0)]}))
    ((start, middle, end),) = plotted(root)
    assert start == (LEFT, HEIGHT - BOTTOM)
    assert end == (WIDTH - RIGHT, TOP)
    assert middle == ((LEFT + WIDTH - RIGHT) / 2, (TOP + HEIGHT - BOTTOM) / 2)
    assert {"0", "20", "40", "60", "80", "100"} <= set(words(root))


def test_a_logarithmic_axis_has_equal_room_for_equal_factors() -> None:
    points = [(1.0, 1.0), (10.0, 10.0), (100.0, 100.0)]
    (line,) = plotted(parse(line_chart("title", "x", {"a": points}, log_x=True, log_y=True)))
    (x, y), (middle_x, middle_y), (end_x, end_y) = line
    assert middle_x - x == pytest.approx(end_x - middle_x, abs=ROUNDING)
    assert y - middle_y == pytest.approx(middle_y - end_y, abs=ROUNDING)


def test_zero_is_at_the_foot_of_a_logarithmic_axis() -> None:
    (line,) = plotted(parse(line_chart("title", "x", {"a": [(1.0, 0.0), (2.0, 7.0), (3.0, 50.0)]}, log_y=True)))
    assert line[0][1] == HEIGHT - BOTTOM > line[1][1] > line[2][1]


def test_marks_have_a_line_and_a_word_each_at_their_place() -> None:
    series = {"good": [(5.0, 50.0), (10.0, 100.0), (20.0, 200.0), (40.0, 200.0)]}
    root = parse(line_chart("title", "users", series, log_x=True, marks={20.0: "knee", 40.0: "failures begin"}))
    marks = [element for element in root.iter(f"{SVG}text") if element.get("class") == "mark"]
    assert [element.text for element in marks] == ["1 knee", "2 failures begin", "1", "2"]
    paths = [element.get("d") or "" for element in root.iter(f"{SVG}path")]
    upright = [float(path[1:].split()[0]) for path in paths if "V" in path]
    ((_, _, knee, end),) = plotted(root)
    assert upright == [knee[0], end[0]]
    assert [float(element.get("x") or 0) for element in marks[2:]] == upright


@given(st.lists(st.floats(1, 1000), min_size=1, max_size=6, unique=True), st.text("abc ", min_size=1, max_size=40))
def test_the_words_of_marks_lie_neither_on_one_another_nor_on_a_line(places: list[float], word: str) -> None:
    series = {"a": [(1.0, 1.0), (1000.0, 50.0)]}
    root = parse(line_chart("title", "users", series, log_x=True, marks=dict.fromkeys(places, word)))
    texts = [element for element in root.iter(f"{SVG}text") if element.get("class") == "mark"]
    boxes = []
    for element in texts:
        width = LETTER * len(element.text or "")
        x, y = float(element.get("x") or 0), float(element.get("y") or 0)
        boxes.append((x - (width / 2 if element.get("text-anchor") == "middle" else 0), y, width))
    for (x, y, width), (other_x, other_y, other_width) in itertools.combinations(boxes, 2):
        assert y != other_y or x + width <= other_x or other_x + other_width <= x
    highest = min(y for line in plotted(root) for _, y in line)
    assert all(y < highest for _, y, _ in boxes)


def test_a_mark_beyond_the_points_is_within_the_picture() -> None:
    expect_within(parse(line_chart("title", "users", {"a": [(5.0, 1.0)]}, log_x=True, marks={640.0: "highest rate"})))


@pytest.mark.parametrize("log", [False, True])
def test_names_are_only_texts(log: bool) -> None:
    series = {HOSTILE: [(1.0, 1.0)], "other": [(2.0, 2.0)]}
    root = parse(line_chart(HOSTILE, HOSTILE, series, log_x=log, marks={1.0: HOSTILE}))
    assert words(root).count(HOSTILE) == 2  # title and axis; the legend has little room
    assert HOSTILE in [element.text for element in root.iter(f"{SVG}title")]
    assert f"1 {HOSTILE}" in words(root)


def test_words_stand_at_their_places_of_the_x_axis_instead_of_numbers() -> None:
    root = parse(
        line_chart("title", "x", {"a": [(2.0, 7.0), (100.0, 9.0)]}, log_x=True, x_words={2.0: "half", 100.0: "<all>"})
    )
    middle = [element for element in root.iter(f"{SVG}text") if element.get("text-anchor") == "middle"]
    assert [element.text for element in middle] == ["half", "<all>"]
    assert [float(element.get("x") or 0) for element in middle] == [x for x, _ in plotted(root)[0]]


def test_one_series_needs_no_legend() -> None:
    assert "only" not in words(parse(line_chart("title", "x", {"only": [(1.0, 1.0)]})))
    assert {"one", "two"} <= set(words(parse(line_chart("title", "x", {"one": [], "two": []}))))


@pytest.mark.parametrize(
    ("number", "text"),
    [(0.0, "0"), (0.001, "0.001"), (0.25, "0.25"), (5.0, "5"), (999.0, "999"), (1000.0, "1,000"), (1e6, "1,000,000")],
)
def test_numbers_of_an_axis_are_plain(number: float, text: str) -> None:
    assert plain(number) == text


def test_a_picture_has_no_script_no_style_of_its_own_and_no_network_and_takes_the_colour_of_the_text() -> None:
    picture = line_chart("title", "x", {"a": [(1.0, 1.0)], "b": [(2.0, 3.0)]})
    rules = re.findall(r"^(.*?) \{", STYLE, re.MULTILINE)
    assert rules and all(rule.startswith(".chart") for rule in rules), "a rule for the rest of the page"
    assert "fill: currentColor" in STYLE
    assert STYLE in document("title", [picture])
    assert set(re.findall(r'https?://[^"\s]*', picture)) == {"http://www.w3.org/2000/svg"}
    tags = {element.tag.removeprefix(SVG) for element in parse(picture).iter()}
    assert not tags & {"style", "script", "image", "use", "foreignObject"}


def cells(html: str) -> list[str]:
    table = Parsed(html)
    assert set(table.tags) <= {"div", "table", "thead", "tbody", "tr", "th", "td"}
    return [*table.texts["th"], *table.texts.get("td", [])]


def test_a_table_has_its_cells_as_they_are() -> None:
    assert cells(html_table(["A & B", "C"], [["1", HOSTILE], ["", "words that are many"]])) == [
        "A & B",
        "C",
        "1",
        HOSTILE,
        "",
        "words that are many",
    ]
    assert cells(html_table([HOSTILE], [])) == [HOSTILE]


def test_cells_have_their_classes_from_the_right() -> None:
    assert re.findall(r"<td.*?>", html_table(["a", "b", "c"], [["1", "2", "3"]] * 2, 1, [["worse", ""], []])) == [
        *('<td class="text">', '<td class="worse">', "<td>"),
        *('<td class="text">', "<td>", "<td>"),
    ]


def test_a_document_names_its_title_as_text_and_keeps_braces() -> None:
    page = document(HOSTILE, ["<p>{0} {title}</p>"])
    assert "<script>" not in page
    assert "<p>{0} {title}</p>" in page
    assert page.startswith("<!doctype html>")


@given(st.lists(st.floats(1e-6, 1e9), min_size=1, max_size=30))
def test_the_numbers_at_a_logarithmic_axis_reach_from_the_least_to_the_greatest(values: list[float]) -> None:
    root = parse(line_chart("title", "x", {"a": [(1.0, value) for value in values]}, log_y=True))
    marked = [element for element in root.iter(f"{SVG}text") if element.get("text-anchor") == "end"][:-1]
    shown = [float((element.text or "").replace(",", "")) for element in marked]
    assert shown == sorted(shown)
    # to the three digits that are written
    assert math.log10(shown[0]) <= math.log10(min(values)) + 0.003
    assert math.log10(shown[-1]) >= math.log10(max(values)) - 0.003
    assert len(shown) <= 17
