"""locust_tcp/compare/report.py: the text for a terminal, and the page, parsed and in Chromium."""

import base64
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from locust_tcp.compare import report
from locust_tcp.compare.chart import HEIGHT, WIDTH
from locust_tcp.compare.comparison import LEGEND, METRICS, USUAL, Variant
from locust_tcp.compare.runs import TOTAL, Entry, Run
from locust_tcp.compare.verdict import verdicts
from tests.browser import chromium, chromium_for_tests, new_page
from tests.compare.files import DOWNLOAD, LINE, MOMENTS, REPORTED, WORD, compare, write_history, write_stats
from tests.pages import Parsed


def variant(name: str, entries: dict[str, Entry]) -> Variant:
    return Variant(name, [Run(name, {TOTAL: Entry(100, 0, 10.0, {}), **entries}, [])])


def test_the_text_is_aligned() -> None:
    first = variant("A", {"TCP word": Entry(100, 0, 10.0, {}), "TCP a rather long name": Entry(71274, 3, 7127.4, {})})
    second = variant("a longer variant", {"TCP word": Entry(150, 0, 15.0, dict.fromkeys(USUAL, 0.0114))})
    table, sentence, legend = report.text([first, second]).split("\n\n")
    assert (sentence, legend) == (verdicts([first, second])[0].sentence, LEGEND)
    text = table.splitlines()
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


HOSTILE = "<script>alert(1)</script>"
NAMES = [HOSTILE, 'a & b "c"', "</table></svg>", "süßer ﬁsch"]


def long_history(file: Path, seconds: int = 35, rate: int = 100, p50: float = 1.0) -> None:
    write_history(
        file,
        [(0, 0, 0, 0, None), *((second, 5, second * rate, 0, p50 + second % 3 / 10) for second in range(1, seconds))],
    )


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a page of two runs: one has a history, and names that are hostile to HTML."""
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
        assert f"TCP {name}: percentiles (ms)" in titles
    assert HOSTILE.replace("/", "") in shown
    assert page.texts["th"] == ["name", "run", *(metric.title for metric in METRICS)]
    assert {report.COLOURS, LEGEND} <= {*page.texts["p"]}
    assert page.texts["p"][0].startswith(f"Too few samples to tell whether {HOSTILE.replace('/', '')} is better")


def test_the_page_has_curves_for_each_name_and_lines_for_a_history(written: Path, folder: Path) -> None:
    page = Parsed(written.read_text(encoding="utf-8"))
    curves = len(NAMES) + 3  # and word, long line and the total
    assert page.tags.count("svg") == curves + 3
    assert page.tags.count("polyline") == 2 * curves + 3
    assert "Requests per second" in page.texts["text"]
    assert compare(folder / "A", folder / "B", "--html", folder / "page.html").returncode == 0
    without = Parsed((folder / "page.html").read_text(encoding="utf-8"))
    assert (without.tags.count("svg"), without.tags.count("polyline")) == (3, 2 * 3)


@pytest.mark.parametrize("moments", [MOMENTS[:1], MOMENTS[:2], [(0, 0, 0, 0, None)] * 3, [MOMENTS[1]] * 3])
def test_a_history_may_have_nearly_nothing(folder: Path, moments: list[Any]) -> None:
    write_history(folder / "A_stats_history.csv", moments)
    done = compare(folder / "A", folder / "B", "--html", folder / "page.html")
    assert (done.returncode, done.stderr) == (0, "")
    assert Parsed((folder / "page.html").read_text(encoding="utf-8")).tags.count("svg") == 3


def test_a_curve_has_each_percentile_but_the_maximum_further_right_and_up(folder: Path) -> None:
    assert compare(folder / "A", folder / "B", "--html", folder / "page.html").returncode == 0
    html = (folder / "page.html").read_text(encoding="utf-8")
    curve, *_ = re.findall(r"<svg.*?</svg>", html)
    assert f"{TOTAL}: percentiles (ms)" in curve
    assert curve.count("<rect") == 2, "the squares of the legend: a bar on this axis says nothing"
    assert [label for label in ("50", "90", "95", "99", "99.9") if f">{label}</text>" in curve] == [
        *("50", "90", "95", "99"),
    ], "400 requests are too few for a 99.9th percentile"
    for line in re.findall(r'<polyline points="([^"]*)"', curve):
        points = [[float(number) for number in point.split(",")] for point in line.split()]
        assert len(points) == REPORTED.index("99%") + 1
        assert points == sorted(points, key=lambda point: (point[0], -point[1]))
        places = dict(zip(REPORTED, (x for x, _ in points), strict=False))
        assert places["99%"] - places["90%"] == pytest.approx(1.43 * (places["90%"] - places["50%"]), rel=0.01)


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
# The texts that reach out of their picture with the browser's fonts.
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
    """Open a page without a network. Each test expects that nothing on it runs or fails."""
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
    """Write an ordinary page: two runs with histories."""
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
    """Return the number of dots of each colour in a screenshot."""
    with new_page(browser) as helper:
        counts: dict[str, int] = helper.evaluate(_COLOURS, base64.b64encode(picture).decode())
    return {colour(text): count for text, count in counts.items()}


def test_contrast_is_that_of_wcag() -> None:
    assert contrast((0, 0, 0), (255, 255, 255)) == pytest.approx(21)
    assert contrast((119, 119, 119), (255, 255, 255)) == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everything_is_legible_in_light_and_dark(browser: Browser, page: Page, ordinary: Path, scheme: str) -> None:
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
        assert 12 * box["width"] / WIDTH > 9, "letters of 12 pixels stay legible"
        assert box["height"] == pytest.approx(box["width"] * HEIGHT / WIDTH, rel=0.02)
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
    columns = page.locator("svg").evaluate_all("all => new Set(all.map(each => each.getBoundingClientRect().x)).size")
    assert columns == (3 if width > 800 else 1)


@pytest.fixture
def tested(tmp_path: Path) -> Path:
    """Write a page of runs that differ for worse and better, and that may differ by chance."""
    for place, noise in enumerate((1.0, 1.02, 0.98)):
        for name, word, line in (("A", 0.25, 2.0), ("B", 0.5, 2.01), ("C", 0.125, 2.0)):
            file = tmp_path / f"{name}{place}_stats.csv"
            write_stats(file, ("TCP", "word", 1000, 0, word * noise), ("TCP", "line", 1000, 0, line * noise))
    places = [f"{name}{place}" if place >= 0 else ":" for name in "ABC" for place in (0, 1, 2, -1)][:-1]
    done = compare(*places, "--html", "page.html", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    return tmp_path / "page.html"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_differences_worth_believing_are_coloured_and_noise_is_faint(
    browser: Browser, page: Page, tested: Path, scheme: str
) -> None:
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    page.goto(tested.as_uri())
    looks: dict[str, set[tuple[str, str]]] = {}
    for text, *look in page.locator("td").evaluate_all(
        "all => all.map(each => [each.textContent, getComputedStyle(each).backgroundColor,"
        " getComputedStyle(each).opacity])"
    ):
        looks.setdefault((re.findall(r"x2\*|x0.5\*|~$", text) or [""])[0], set()).add(tuple(look))
    assert looks == {
        "x2*": {("rgba(213, 94, 0, 0.3)", "1")},
        "x0.5*": {("rgba(0, 158, 115, 0.3)", "1")},
        "~": {("rgba(0, 0, 0, 0)", "0.6")},
        "": {("rgba(0, 0, 0, 0)", "1"), ("rgba(0, 0, 0, 0)", "0.6")},  # equal counts are not marked
    }
    for kind in ("worse", "better", "noise"):
        seen = colours(browser, page.locator(f"td.{kind}").first.screenshot())
        paper = max(seen, key=lambda each: seen[each])
        readable = sum(count for each, count in seen.items() if contrast(each, paper) >= 4.5)
        assert readable > 20, "there is ink on the paper"


def test_the_verdict_stands_above_the_table_in_large_letters_and_the_colour_of_its_kind(
    page: Page, tested: Path
) -> None:
    page.goto(tested.as_uri())
    found = page.locator("h1 + p, h1 + p + p")
    assert [text.split(":")[0] for text in found.all_text_contents()] == [
        "B0 is slower than A0",
        "C0 is faster than A0",
    ]
    look = "all => all.map(each => [getComputedStyle(each).backgroundColor, parseInt(getComputedStyle(each).fontSize)])"
    assert found.evaluate_all(look) == [["rgba(213, 94, 0, 0.3)", 24], ["rgba(0, 158, 115, 0.3)", 24]]


def test_pictures_have_lines_of_both_runs(browser: Browser, page: Page, ordinary: Path) -> None:
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
