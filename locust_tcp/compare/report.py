"""A comparison as text for a terminal, and as a page with pictures."""

import itertools
from collections.abc import Sequence
from html import escape

from locust_tcp.compare.chart import charts, document, html_table, line_chart
from locust_tcp.compare.comparison import (
    LEGEND,
    NOISE,
    REAL,
    Variant,
    differences,
    entry_names,
    percentile,
    rows,
    shared_percentiles,
    titles,
)
from locust_tcp.compare.runs import TOTAL, WINDOW, Moment
from locust_tcp.compare.verdict import kind_of, verdicts

COLOURS = (
    f"Orange: worse, green: better, both worth believing ({REAL}). Faint: may be noise ({NOISE}). "
    "No colour: too few samples, or neither better nor worse."
)
LABELS = ("50%", "90%", "95%", "99%", "99.9%", "99.99%")  # of the axis of percentiles


def text(variants: Sequence[Variant]) -> str:
    """Return the table and its legend for a terminal. Rows of the same name show it once."""
    table = [[printable(each) for each in row] for row in (titles(variants), *rows(variants))]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = []
    last = None
    for row in table:
        shown = ["" if row[0] == last else row[0], *row[1:]]
        last = row[0]
        cells = [
            cell.ljust(width) if place < 2 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(shown, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(
        [*lines, "", *(printable(f"{each.sentence} {each.detail}".rstrip()) for each in verdicts(variants)), "", LEGEND]
    )


def printable(text: str) -> str:
    """Return a text of a file without what a terminal takes for a command: an escape sequence, or a line's end."""
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)


def page(variants: Sequence[Variant]) -> str:
    """Return a page of HTML: the verdicts, the table, the curves of the percentiles, and the histories."""
    parts = [
        f'<p class="verdict {each.kind}">{escape(each.sentence)} <small>{escape(each.detail)}</small></p>'
        for each in verdicts(variants)
    ]
    kinds = [[kind_of(each) for each in row] for _, row in differences(variants)]
    parts += [html_table(titles(variants), rows(variants), 2, kinds), f"<p>{COLOURS}</p>", f"<p>{LEGEND}</p>"]
    pictures = [_curve(variants, name) for name in (TOTAL, *entry_names(variants))]
    return document("Runs side by side", [*parts, charts([*filter(None, pictures), *_history_charts(variants)])])


def _curve(variants: Sequence[Variant], name: str) -> str:
    """Return a line of percentiles for each variant; "" without any.

    Each 9 more has the same room, so a maximum has no place. Lines and no bars: the axis is logarithmic, where the
    length of a bar says nothing.
    """
    shown = [label for label in shared_percentiles(variants) if float(label[:-1]) < 100]
    lines = {
        variant.name: [
            (_place(label), metric.over(values))
            for label, metric in ((label, percentile(label)) for label in shown)
            if (values := variant.values(name, metric))
        ]
        for variant in variants
    }
    xs = [x for line in lines.values() for x, _ in line]
    if not xs:
        return ""
    words = {_place(label): label[:-1] for label in LABELS if min(xs) <= _place(label) <= max(xs)}
    return line_chart(f"{name}: percentiles (ms)", "percentile", lines, log_x=True, log_y=True, x_words=words)


def _place(label: str) -> float:
    return round(100 / (100 - float(label[:-1])), 3)


def _history_charts(variants: Sequence[Variant]) -> list[str]:
    """Return charts of one run of each variant: the lines of all runs would hide each other."""
    histories = {variant.name: moments for variant in variants if len(moments := variant.history()) > 1}
    if not histories:
        return []
    rates = {
        name: [_rate(*pair) for pair in itertools.pairwise(moments) if pair[0].requests <= pair[1].requests]
        for name, moments in histories.items()
    }
    pictures = [line_chart("Requests per second", "seconds", rates)]
    are_current = all(run.has_current_percentiles for variant in variants for run in variant.runs if run.history)
    span = f"of the last {WINDOW} seconds" if are_current else "of all requests so far"
    for label in [label for label in ("50%", "95%") if label in shared_percentiles(variants)]:
        lines = {
            name: [(each.second, each.percentiles[label]) for each in moments if label in each.percentiles]
            for name, moments in histories.items()
        }
        pictures.append(line_chart(f"p{label[:-1]} (ms), {span}", "seconds", lines, log_y=True))
    return pictures


def _rate(begin: Moment, end: Moment) -> tuple[float, float]:
    return end.second, (end.requests - begin.requests) / (end.second - begin.second)
