"""Runs side by side: `python -m locust_tcp.compare A B [C ...]`, of which the first is the baseline.

Two runs of the same thing differ too. Which differences are worth believing is decided by Welch's t-test
(B. L. Welch, 1947): two means differ, where their distance is more than what the spread of their samples
makes likely in 95 of 100 repetitions. The samples are runs where a variant has several (`A A2 A3 : B B2 B3`,
or a folder each), otherwise stretches of ten seconds of each run's history; percentiles of these are only in
the history that --csv-full-history writes.
"""

import argparse
import itertools
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, variance

from locust_tcp.compare.chart import bar_chart, document, html_table, line_chart
from locust_tcp.compare.runs import PERCENTILES, TOTAL, WINDOW, Entry, Moment, Run, Unreadable, read

FEWEST = 3  # samples of each side, with less of which a spread can't be told

# Student's t for 1, 2, ... 30 degrees of freedom, two-sided, 5 % (NIST/SEMATECH e-Handbook, 1.3.6.7.2). More
# degrees need less; the last one is used for them, to be on the safe side.
STUDENT = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228),
    *(2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086),
    *(2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042),
)

BELIEVED, NOISE, UNKNOWN = "*", "~", ""
LEGEND = (
    f"x is the ratio to the baseline: {BELIEVED} is worth believing, {NOISE} may be noise (Welch's t-test, 95 %). "
    "Without a mark nobody can tell: run each variant three times or more, or for a minute with --csv-full-history."
)


@dataclass(frozen=True)
class Metric:
    """One of the columns."""

    title: str
    of: Callable[[Entry], float]
    is_count: bool = False


def _percentile(name: str) -> Callable[[Entry], float]:
    return lambda entry: entry.percentiles.get(name, math.nan)


METRICS = (
    Metric("requests", lambda entry: entry.requests, is_count=True),
    Metric("failures", lambda entry: entry.failures, is_count=True),
    Metric("req/s", lambda entry: entry.rate),
    Metric("p50 ms", _percentile("50%")),
    Metric("p95 ms", _percentile("95%")),
    Metric("p99 ms", _percentile("99%")),
    Metric("max ms", _percentile("100%")),
)


@dataclass(frozen=True)
class Variant:
    """What is compared: one run, or several of the same thing."""

    name: str
    runs: list[Run]

    def values(self, entry: str, metric: Metric) -> list[float]:
        """Return a metric of each run that has such an entry."""
        found = (metric.of(run.entries[entry]) for run in self.runs if entry in run.entries)
        return [value for value in found if not math.isnan(value)]

    def history(self) -> list[Moment]:
        """Return the history of the first run that has one, while it had users and one row a second."""
        for run in self.runs:
            if run.history:
                return list({moment.second: moment for moment in run.history if moment.users}.values())
        return []

    def stretches(self, metric: Metric) -> list[float]:
        """Return a metric of each stretch of the only run's history; none of a count, as runs have other lengths."""
        if metric.is_count:
            return []
        (run,) = self.runs
        found = []
        for begin, end in run.windows():
            requests, failures = end.requests - begin.requests, end.failures - begin.failures
            percentiles = end.percentiles if run.is_windowed else {}
            found.append(Entry(requests, failures, requests / (end.second - begin.second), percentiles))
        return [value for value in map(metric.of, found) if not math.isnan(value)]


def differ(one: Sequence[float], other: Sequence[float]) -> bool | None:
    """Say whether two means differ, by Welch's t-test; None where there are too few samples to tell."""
    if min(len(one), len(other)) < FEWEST:
        return None
    errors = variance(one) / len(one), variance(other) / len(other)
    distance = abs(fmean(one) - fmean(other))
    if math.isclose(fmean(one), fmean(other), rel_tol=1e-9):  # which rounding alone may make of the same
        return False
    # Welch and Satterthwaite's degrees of freedom
    parts = errors[0] ** 2 / (len(one) - 1) + errors[1] ** 2 / (len(other) - 1)
    if not parts:
        return True  # no spread at all
    freedom = int(sum(errors) ** 2 / parts + 1e-9)
    return distance / math.sqrt(sum(errors)) > STUDENT[min(freedom, len(STUDENT)) - 1]


def number(value: float) -> str:
    """Write a figure with three digits, or all of it where it has more before the point."""
    if math.isnan(value):
        return "-"
    return f"{value:,.0f}" if value >= 999.5 or value == int(value) else f"{value:.3g}"


def cell(variant: Variant, baseline: Variant, entry: str, metric: Metric) -> str:
    """Return what a column says of a variant: the figure, its ratio to the baseline's, and whether to believe that."""
    values, base = variant.values(entry, metric), baseline.values(entry, metric)
    if not values:
        return "-"
    text = number(fmean(values))
    if variant is baseline or not base:
        return text
    samples = values, base
    if len(variant.runs) == len(baseline.runs) == 1 and entry == TOTAL:
        samples = variant.stretches(metric), baseline.stretches(metric)
    mark = {None: UNKNOWN, True: BELIEVED, False: NOISE}[differ(*samples)]
    if not fmean(base):  # nothing is a multiple of nothing
        return text + mark if fmean(values) else text
    return f"{text} x{number(fmean(values) / fmean(base))}{mark}"


def rows(variants: Sequence[Variant]) -> list[list[str]]:
    """Return the table: for each name and for the total a row of each variant."""
    names = dict.fromkeys(name for variant in variants for run in variant.runs for name in run.entries)
    names.pop(TOTAL)
    table = []
    for name in (*names, TOTAL):
        having = [variant for variant in variants if any(name in run.entries for run in variant.runs)]
        for variant in having:
            only = " (only here)" if len(having) == 1 < len(variants) else ""
            figures = [cell(variant, variants[0], name, metric) for metric in METRICS]
            table.append([name, f"{variant.name}{only}", *figures])
    return table


TITLES = ["name", "run", *(metric.title for metric in METRICS)]


def text_table(table: Sequence[Sequence[str]]) -> str:
    """Return the table for a terminal; a name stands where it begins."""
    widths = [max(map(len, column)) for column in zip(TITLES, *table, strict=True)]
    lines = []
    last = None
    for row in (TITLES, *table):
        shown = ["" if row[0] == last else row[0], *row[1:]]
        last = row[0]
        cells = [
            text.ljust(width) if place < 2 else text.rjust(width)
            for place, (text, width) in enumerate(zip(shown, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def _rate(begin: Moment, end: Moment) -> tuple[float, float]:
    return end.second, (end.requests - begin.requests) / (end.second - begin.second)


def report(variants: Sequence[Variant]) -> str:
    """Return a page with the table and pictures."""
    parts = [html_table(TITLES, rows(variants), texts=2), f"<p>{LEGEND}</p>"]
    names = dict.fromkeys(name for variant in variants for run in variant.runs for name in run.entries)
    for name in (TOTAL, *(name for name in names if name != TOTAL)):
        groups: dict[str, dict[str, float]] = {}
        for percentile in PERCENTILES:
            metric = Metric(percentile, _percentile(percentile))
            bars = {variant.name: fmean(values) for variant in variants if (values := variant.values(name, metric))}
            if bars:
                groups[percentile] = bars
        if groups:
            parts.append(bar_chart(f"{name}: percentiles of the response times (ms)", groups, log_y=True))
    # One run of each variant, in its colour of the bars: lines of all of them hide each other.
    histories = {variant.name: moments for variant in variants if len(moments := variant.history()) > 1}
    if histories:
        rates = {
            name: [_rate(*pair) for pair in itertools.pairwise(moments) if pair[0].requests <= pair[1].requests]
            for name, moments in histories.items()
        }
        parts.append(line_chart("Requests per second", "seconds", rates))
        is_windowed = all(run.is_windowed for variant in variants for run in variant.runs if run.history)
        span = f"of the last {WINDOW} seconds" if is_windowed else "of all requests so far"
        for percentile in ("50%", "95%"):
            lines = {
                name: [
                    (each.second, each.percentiles[percentile]) for each in moments if percentile in each.percentiles
                ]
                for name, moments in histories.items()
            }
            title = f"{percentile} of the response times (ms), {span}"
            parts.append(line_chart(title, "seconds", lines, log_y=True))
    return document("Runs side by side", parts)


def variants_of(places: Sequence[str]) -> list[Variant]:
    """Return the variants that the command line names. Raises Unreadable."""
    groups: list[list[str]] = [[]]
    if ":" in places:
        for place in places:
            if place == ":":
                groups.append([])
            else:
                groups[-1].append(place)
    else:
        groups = [[place] for place in places]
    if len(groups) < 2 or not all(groups):
        raise Unreadable("two variants or more are needed, with something on each side of a colon")
    found = []
    for group in groups:
        runs = [run for place in group for run in read(place)]
        is_folder = len(group) == 1 and Path(group[0]).is_dir()
        found.append((Path(group[0]).resolve().name if is_folder else runs[0].name, runs))
    # Files of the same name in different folders must not be one.
    names = [name for name, _ in found]
    return [
        Variant(name if names.count(name) == 1 else f"{name} ({place + 1})", runs)
        for place, (name, runs) in enumerate(found)
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the comparison; return 0, or 2 where a file is no run."""
    command = argparse.ArgumentParser(
        prog="python -m locust_tcp.compare",
        description="Compare runs of Locust by their CSVs. The first is the baseline.",
        epilog="Several runs of the same variant: A A2 A3 : B B2 B3, or a folder each.",
    )
    command.add_argument(
        "runs", nargs="+", metavar="RUN", help="a requests CSV, the NAME given to --csv, a folder of these, or a colon"
    )
    command.add_argument("--html", metavar="FILE", help="write a page with tables and pictures too")
    options = command.parse_args(arguments)
    try:
        variants = variants_of(options.runs)
        print(text_table(rows(variants)))
        print(f"\n{LEGEND}")
    except Unreadable as error:
        print(f"compare: {error}", file=sys.stderr)
        return 2
    try:
        if options.html:  # file names may be no text
            Path(options.html).write_text(report(variants), encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        print(f"compare: can't write {options.html}: {error.strerror}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
