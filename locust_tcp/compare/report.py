"""A comparison as text for a terminal, and as a page with pictures."""

import itertools
from collections.abc import Sequence
from statistics import fmean

from locust_tcp.compare.chart import bar_chart, document, html_table, line_chart
from locust_tcp.compare.comparison import LEGEND, Variant, entry_names, percentile, rows, shared_percentiles, titles
from locust_tcp.compare.runs import TOTAL, WINDOW, Moment


def text(variants: Sequence[Variant]) -> str:
    """Return the table and its legend for a terminal. Rows of the same name show it once."""
    table = [titles(variants), *rows(variants)]
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
    return "\n".join([*lines, "", LEGEND])


def page(variants: Sequence[Variant]) -> str:
    """Return a page of HTML: the table, bars of the percentiles, and lines of the histories."""
    parts = [html_table(titles(variants), rows(variants), texts=2), f"<p>{LEGEND}</p>"]
    for name in (TOTAL, *entry_names(variants)):
        groups: dict[str, dict[str, float]] = {}
        for label in shared_percentiles(variants):
            metric = percentile(label)
            bars = {variant.name: fmean(values) for variant in variants if (values := variant.values(name, metric))}
            if bars:
                groups[label] = bars
        if groups:
            parts.append(bar_chart(f"{name}: percentiles (ms)", groups, log_y=True))
    return document("Runs side by side", parts + _history_charts(variants))


def _history_charts(variants: Sequence[Variant]) -> list[str]:
    """Return charts of one run of each variant: the lines of all runs would hide each other."""
    histories = {variant.name: moments for variant in variants if len(moments := variant.history()) > 1}
    if not histories:
        return []
    rates = {
        name: [_rate(*pair) for pair in itertools.pairwise(moments) if pair[0].requests <= pair[1].requests]
        for name, moments in histories.items()
    }
    charts = [line_chart("Requests per second", "seconds", rates)]
    are_current = all(run.has_current_percentiles for variant in variants for run in variant.runs if run.history)
    span = f"of the last {WINDOW} seconds" if are_current else "of all requests so far"
    for label in [label for label in ("50%", "95%") if label in shared_percentiles(variants)]:
        lines = {
            name: [(each.second, each.percentiles[label]) for each in moments if label in each.percentiles]
            for name, moments in histories.items()
        }
        charts.append(line_chart(f"{label} of the response times (ms), {span}", "seconds", lines, log_y=True))
    return charts


def _rate(begin: Moment, end: Moment) -> tuple[float, float]:
    return end.second, (end.requests - begin.requests) / (end.second - begin.second)
