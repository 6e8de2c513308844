"""Charts as SVG, for pages and files: legible in light and dark, without scripts or network.

A chart needs STYLE around it: a style inside an SVG would be a rule for the whole page.
"""

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape

WIDTH, HEIGHT = 440, 280  # CSS pixels: its letters stay legible on a telephone, where it shrinks to 350
# Margins: numbers of the y axis; nothing; title and legend; x axis
LEFT, RIGHT, TOP, BOTTOM = 68, 20, 44, 44
LETTER = 7  # CSS pixels, about the width of a letter
LINE = 15  # CSS pixels, the height of a line of words
TITLE = 52  # the most letters of a title
TICKS = 5  # horizontal lines of a chart, about

# Colours for every kind of colour vision (Okabe and Ito, 2008), in the order of the series
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
STYLE = """
.chart { width: 100%; height: auto }
.chart text { font: 12px system-ui, sans-serif; fill: currentColor }
.chart text.title { font-size: 14px; font-weight: 600 }
.chart path { stroke: currentColor; opacity: 0.2 }
.chart path.mark { opacity: 0.6 }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 340px), 1fr)); gap: 12px }
"""

Points = Sequence[tuple[float, float]]


def plain(number: float) -> str:
    """Format a number for an axis."""
    if number >= 1000:
        return f"{number:,.0f}"
    return f"{number:.3g}"


def shortened(text: str, most: int) -> str:
    """Cut the middle out of a text that is longer than `most` letters."""
    if len(text) <= most:
        return text
    half = (most - 1) // 2
    return f"{text[: most - 1 - half]}\u2026{text[-half:] if half else ''}"


def _steps(low: float, high: float) -> list[float]:
    """Return round numbers from `low` to `high` or a bit beyond, 1, 2 or 5 times 10**n apart."""
    rough = (high - low) / TICKS or 1.0
    power = 10 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
    first = math.floor(low / step)
    return [step * count for count in range(first, math.ceil(high / step - 1e-9) + 1)]


def _log_steps(numbers: Sequence[float]) -> list[float]:
    """Return 1, 2 and 5 times each power of ten within the numbers; if too many, the powers."""
    low, high = math.floor(math.log10(min(numbers))), math.ceil(math.log10(max(numbers)))
    steps = [factor * 10.0**power for power in range(low, high + 1) for factor in (1, 2, 5)]
    begin = max((step for step in steps if step <= min(numbers)), default=steps[0])
    end = min((step for step in steps if step >= max(numbers) and step > begin), default=10.0 ** (high + 1))
    within = [step for step in steps if begin <= step <= end]
    if len(within) <= 2 * TICKS:
        return within
    return [10.0**power for power in range(low, high + 1)]


class _Scale:
    """Maps numbers to places on an axis, from `begin` to `end` in pixels."""

    def __init__(self, numbers: Iterable[float], begin: float, end: float, *, log: bool = False) -> None:
        found = list(numbers) or [1.0]
        if log:
            self.ticks = _log_steps([number for number in found if number > 0] or [1.0])
        else:
            self.ticks = _steps(min(0.0, *found), max(*found, 1e-9))
        self._of = (lambda number: math.log10(max(number, self.ticks[0]))) if log else float
        self._low, self._high = self._of(self.ticks[0]), self._of(self.ticks[-1])
        self._begin, self._end = begin, end

    def __call__(self, number: float) -> float:
        share = (self._of(number) - self._low) / (self._high - self._low)
        return round(self._begin + share * (self._end - self._begin), 1)


def _frame(title: str, names: Sequence[str], y: _Scale) -> list[str]:
    """Return the first parts of a chart: its title, its legend and its horizontal lines."""
    parts = [f'<text class="title" x="8" y="18">{escape(shortened(title, TITLE))}</text>']
    x = float(LEFT)
    room = int((WIDTH - LEFT - RIGHT) / max(1, len(names)) - 32) // LETTER
    for number, name in enumerate(names if len(names) > 1 else ()):
        shown = shortened(name, max(room, 4))
        parts.append(f'<rect x="{x}" y="27" width="10" height="10" fill="{COLOURS[number % len(COLOURS)]}"/>')
        parts.append(f'<text x="{x + 14}" y="36">{escape(shown)}<title>{escape(name)}</title></text>')
        x += 32 + LETTER * len(shown)
    for tick in y.ticks:
        parts.append(f'<path d="M{LEFT} {y(tick)}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y(tick) + 4}" text-anchor="end">{plain(tick)}</text>')
    return parts


def _svg(parts: list[str]) -> str:
    size = f'viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" class="chart" {size} role="img">{"".join(parts)}</svg>'


def _legend(words: Sequence[str], top: float) -> tuple[list[str], float]:
    """Write words one after the other, in as many lines as they need; return them and where the last line ends."""
    parts, x = [], float(LEFT)
    for word in words:
        width = LETTER * (len(word) + 2)
        if x + width > WIDTH and x > LEFT:
            x, top = float(LEFT), top + LINE
        parts.append(f'<text class="mark" x="{x}" y="{top + 11}">{escape(word)}</text>')
        x += width
    return parts, top + LINE if words else top


def line_chart(
    title: str,
    x_title: str,
    series: Mapping[str, Points],
    *,
    log_x: bool = False,
    log_y: bool = False,
    marks: Mapping[float, str] | None = None,
    x_words: Mapping[float, str] | None = None,
) -> str:
    """Draw lines.

    Args:
        title: The title of the chart.
        x_title: The title of the x axis.
        series: The points of each line, by its name.
        log_x: Whether the x axis is logarithmic.
        log_y: Whether the y axis is logarithmic.
        marks: Places on the x axis, with a word for each.
        x_words: What stands at places of the x axis, instead of its numbers.

    Returns:
        An SVG element.
    """
    points = [point for line in series.values() for point in line]
    xs = sorted({x for x, _ in points} | set(marks or ()))
    x = _Scale(xs, LEFT, WIDTH - RIGHT, log=log_x)
    numbered = {place: str(number) for number, place in enumerate(sorted(marks or {}), 1)}
    words = [f"{number} {shortened((marks or {})[place], TITLE)}" for place, number in numbered.items()]
    legend, top = _legend(words, TOP)
    ends: list[float] = []  # where the last number of each row is: numbers side by side must not touch
    row_of = {}
    for place in numbered:
        row_of[place] = next((row for row, end in enumerate(ends) if x(place) - end > 2 * LETTER), len(ends))
        ends[row_of[place] : row_of[place] + 1] = [x(place)]
    top += LINE * len(ends)
    y = _Scale([y for _, y in points], HEIGHT - BOTTOM, top, log=log_y)
    parts = _frame(title, list(series), y)
    for place, word in (x_words or {tick: plain(tick) for tick in x.ticks}).items():
        parts.append(f'<text x="{x(place)}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{escape(word)}</text>')
    parts.append(f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - 6}" text-anchor="end">{escape(x_title)}</text>')
    parts += legend
    for place, mark in numbered.items():
        where, base = x(place), top - LINE * row_of[place] - 4
        parts.append(f'<text class="mark" x="{where}" y="{base}" text-anchor="middle">{mark}</text>')
        parts.append(f'<path class="mark" d="M{where} {top}V{HEIGHT - BOTTOM}" stroke-dasharray="4 3"/>')
    for number, line in enumerate(series.values()):
        colour = COLOURS[number % len(COLOURS)]
        path = " ".join(f"{x(each)},{y(value)}" for each, value in sorted(line))
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        if len(line) < 50:
            parts += [f'<circle cx="{x(each)}" cy="{y(value)}" r="3" fill="{colour}"/>' for each, value in line]
    return _svg(parts)


def charts(pictures: Iterable[str]) -> str:
    """Return charts side by side, as far as there is room."""
    return f'<div class="charts">{"".join(pictures)}</div>'


PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{title}</title>
<style>
:root {{ color-scheme: light dark }}
{style}
.chart {{ max-width: 760px }}
body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 1100px; margin: 24px auto; padding: 0 16px }}
div {{ overflow-x: auto }}
table {{ border-collapse: collapse; margin: 16px 0; font-variant-numeric: tabular-nums }}
th, td {{ padding: 3px 10px; border-bottom: 1px solid #8886; text-align: right; vertical-align: top }}
th.text, td.text {{ text-align: left }}
.verdict {{ font-size: 24px; line-height: 1.3; margin: 12px 0; padding: 10px 14px; overflow-wrap: anywhere }}
.verdict small {{ display: block; font-size: 15px }}
.worse {{ background: rgba(213, 94, 0, 0.3) }}
.better {{ background: rgba(0, 158, 115, 0.3) }}
.noise {{ opacity: 0.6 }}
</style>
<h1>{title}</h1>
{body}
</html>
"""


def document(title: str, parts: Iterable[str]) -> str:
    """Return a page of HTML with a title above its parts, which are HTML or SVG."""
    return PAGE.format(title=escape(title), style=STYLE, body="\n".join(parts))


def html_table(
    titles: Sequence[str], rows: Iterable[Sequence[str]], texts: int = 0, kinds: Iterable[Sequence[str]] = ()
) -> str:
    """Return a table in HTML.

    The first `texts` columns and all cells of several words are aligned to the left. `kinds` are the classes of the
    last cells of each row.
    """

    def cells(tag: str, row: Sequence[str], kinds: Sequence[str] = ()) -> str:
        aligned = ("text" if place < texts or text.count(" ") > 2 else "" for place, text in enumerate(row))
        padded = [*[""] * (len(row) - len(kinds)), *kinds]
        classes = (" ".join(filter(None, pair)) for pair in zip(aligned, padded, strict=True))
        return "".join(
            f'<{tag} class="{each}">{escape(text)}</{tag}>' if each else f"<{tag}>{escape(text)}</{tag}>"
            for each, text in zip(classes, row, strict=True)
        )

    head = cells("th", titles)
    body = "".join(f"<tr>{cells('td', *pair)}</tr>" for pair in itertools.zip_longest(rows, kinds, fillvalue=()))
    return f"<div><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
