"""The table of a comparison: variants, their metrics, and the ratio of each to the first variant's.

Two runs of the same thing differ too. Welch's t-test says which differences are more than noise.
Its samples are the runs where a variant has several, otherwise intervals of ten seconds of each
run's history. Percentiles of an interval are only in the history that --csv-full-history writes.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from locust_tcp.compare.runs import TOTAL, Entry, Moment, Run, Unreadable, read
from locust_tcp.compare.welch import differ
from locust_tcp.metrics.evidence import margin, ranks, samples_needed

REAL, NOISE, UNKNOWN = "*", "~", ""
FEW = "few"
LEGEND = (
    f"x is the ratio to the baseline: {REAL} is worth believing, {NOISE} may be noise (Welch's t-test, 95 %). "
    "Without a mark there are too few samples: run each variant three times or more, "
    "or for a minute with --csv-full-history. The maximum is that of all runs of a variant, and has no mark. "
    "In brackets: where a percentile lies with 95 % confidence, by the spread of three runs or more, or else by order "
    f"statistics. {FEW}: the requests are too few for the percentile. The 95th needs {samples_needed(0.95)}, "
    f"the 99th {samples_needed(0.99)}."
)


@dataclass(frozen=True)
class Metric:
    """A column of the table.

    Attributes:
        title: The heading.
        of: Returns the figure of a run's entry; NaN where it was not measured.
        is_count: Whether a longer run has more of it.
        fraction: Of a percentile which one (0.95: the 95th); 0 for other metrics.
        good: 1 where more is better, -1 where less is, 0 where neither is.
        over: Makes one figure of those of several runs.
    """

    title: str
    of: Callable[[Entry], float]
    is_count: bool = False
    fraction: float = 0.0
    good: int = -1
    over: Callable[[Sequence[float]], float] = fmean


def percentile(name: str) -> Metric:
    """Return the metric of a percentile, in milliseconds, by its name in the CSV, such as 95%."""
    fraction = _share(name)
    needed = samples_needed(fraction) if 0 < fraction < 1 else 0  # a maximum is what it is
    return Metric(
        f"p{name.removesuffix('%')} ms" if fraction < 1 else "max ms",
        lambda entry: entry.percentiles.get(name, math.nan) if entry.requests >= needed else math.nan,
        fraction=fraction if needed else 0.0,
        over=fmean if fraction < 1 else max,
    )


def _share(name: str) -> float:
    return float(name.removesuffix("%")) / 100


RATE = Metric("req/s", lambda entry: entry.rate, good=1)
COUNTS = (
    Metric("requests", lambda entry: entry.requests, is_count=True, good=0),  # a longer run is no better
    Metric("failures", lambda entry: entry.failures, is_count=True),
    RATE,
)
USUAL = ("50%", "95%", "99%", "100%")
METRICS = (*COUNTS, *map(percentile, USUAL))


@dataclass(frozen=True)
class Variant:
    """One side of the comparison: a run, or several runs of the same thing."""

    name: str
    runs: list[Run]

    @property
    def label(self) -> str:
        """The name, and what its figures are."""
        return self.name if len(self.runs) == 1 else f"{self.name}, mean of {len(self.runs)} runs"

    def values(self, entry: str, metric: Metric) -> list[float]:
        """Return a metric of each run that has such an entry."""
        return _known(metric.of(run.entries[entry]) for run in self.runs if entry in run.entries)

    def history(self) -> list[Moment]:
        """Return one row a second of the first history that a run has, while it had users."""
        for run in self.runs:
            if run.history:
                return list({moment.second: moment for moment in run.history if moment.users}.values())
        return []

    def samples(self, metric: Metric) -> list[float]:
        """Return a metric of each interval of the only run's history.

        A count has no samples: it depends on the length of the run.
        """
        if metric.is_count:
            return []
        (run,) = self.runs
        intervals = []
        for begin, end in run.intervals():
            requests, failures = end.requests - begin.requests, end.failures - begin.failures
            percentiles = end.percentiles if run.has_current_percentiles else {}
            intervals.append(Entry(requests, failures, requests / (end.second - begin.second), percentiles))
        return _known(map(metric.of, intervals))


def _known(values: Iterable[float]) -> list[float]:
    return [value for value in values if not math.isnan(value)]


def variants_of(places: Sequence[str]) -> list[Variant]:
    """Read the variants that the command line names.

    Args:
        places: One for each variant, or groups of them with ":" between the variants.

    Raises:
        Unreadable: A place has no run, or there are fewer than two variants.
    """
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
    # Files in different folders may have the same name.
    names = [name for name, _ in found]
    return [
        Variant(name if names.count(name) == 1 else f"{name} ({number})", runs)
        for number, (name, runs) in enumerate(found, 1)
    ]


def entry_names(variants: Sequence[Variant]) -> list[str]:
    """Return the name of each row of the statistics that any run has, except the total."""
    names = dict.fromkeys(name for variant in variants for run in variant.runs for name in run.entries)
    names.pop(TOTAL)
    return list(names)


def shared_percentiles(variants: Sequence[Variant]) -> list[str]:
    """Return the percentiles that all runs have, by their names. Runs without any don't count."""
    found = [names for variant in variants for run in variant.runs if (names := run.percentiles)]
    return [name for name in found[0] if all(name in names for names in found)] if found else []


def metrics(variants: Sequence[Variant]) -> tuple[Metric, ...]:
    """Return the columns: METRICS, or, without one of their percentiles, all percentiles that all runs have."""
    shared = shared_percentiles(variants)
    return METRICS if not shared or {*USUAL} <= {*shared} else (*COUNTS, *map(percentile, shared))


def titles(variants: Sequence[Variant]) -> list[str]:
    """Return the headings of the table."""
    return ["name", "run", *(metric.title for metric in metrics(variants))]


def number(value: float) -> str:
    """Format a figure with three digits, or all digits before the point if those are more."""
    if math.isnan(value):
        return "-"
    return f"{value:,.0f}" if value >= 999.5 or value % 1 == 0 else f"{value:.3g}"


def interval(entries: Sequence[Entry], metric: Metric) -> str:
    """Return the confidence interval of a percentile, with a space before it; nothing where it is unknown.

    Of one run the CSV has some of the sorted response times: its percentiles. Those next outside of the
    ranks that enclose the true percentile are the interval. It is wider than one of all response times.
    """
    values = _known(map(metric.of, entries))
    half = margin(values)
    if half is not None:
        return f" ({number(max(0.0, fmean(values) - half))}-{number(fmean(values) + half)})"
    if len(entries) != 1 or not values:
        return ""
    (entry,) = entries
    low, high = ranks(entry.requests, metric.fraction)
    # Locust's percentile is the time that so many others precede.
    times = {
        min(int(_share(name) * entry.requests) + 1, entry.requests): time for name, time in entry.percentiles.items()
    }
    lower = max((time for rank, time in times.items() if rank <= low), default=None)
    upper = min((time for rank, time in times.items() if rank >= high), default=None)
    if upper is None:
        return ""
    return f" (up to {number(upper)})" if lower is None else f" ({number(lower)}-{number(upper)})"


@dataclass(frozen=True)
class Difference:
    """How a figure of a variant differs from the baseline's.

    Attributes:
        name: The row of the statistics.
        metric: The column.
        figure: The variant's figure, of all its runs.
        base: The baseline's.
        is_real: Whether chance is no likely reason; None where the samples are too few to tell, and
            for a maximum, which is one response time.
        is_better: Whether the variant's figure is the better one; None where it is neither better nor worse.
    """

    name: str
    metric: Metric
    figure: float
    base: float
    is_real: bool | None
    is_better: bool | None


def difference(variant: Variant, baseline: Variant, name: str, metric: Metric) -> Difference | None:
    """Compare a figure with the baseline's; None where there is nothing to compare."""
    values, base = variant.values(name, metric), baseline.values(name, metric)
    if variant is baseline or not values or not base:
        return None
    samples = values, base
    if len(variant.runs) == len(baseline.runs) == 1 and name == TOTAL:
        samples = variant.samples(metric), baseline.samples(metric)
    figure, base_figure = metric.over(values), metric.over(base)
    more = figure - base_figure
    is_better = more * metric.good > 0 if more * metric.good else None
    if metric is RATE and more * (_goodput(variant, name) - _goodput(baseline, name)) <= 0:
        is_better = None  # more connects or more failures are no better
    is_real = None if metric.over is max else differ(*samples)
    return Difference(name, metric, figure, base_figure, is_real, is_better)


def _goodput(variant: Variant, name: str) -> float:
    """Return how many requests of a row, or of all rows, are answered per second. Connects don't count."""
    rates = [
        entry.rate * (1 - entry.failures / entry.requests)
        for run in variant.runs
        for each, entry in run.entries.items()
        if each != TOTAL and name in (each, TOTAL) and not each.endswith(" connect") and entry.requests
    ]
    return sum(rates) / len(variant.runs)


def cell(variant: Variant, baseline: Variant, entry: str, metric: Metric) -> str:
    """Return a figure, its confidence interval, its ratio to the baseline's, and the mark of the t-test."""
    values = variant.values(entry, metric)
    entries = [run.entries[entry] for run in variant.runs if entry in run.entries]
    if not values:
        return FEW if metric.fraction and any(each.percentiles for each in entries) else "-"
    text = number(metric.over(values)) + (interval(entries, metric) if metric.fraction else "")
    found = difference(variant, baseline, entry, metric)
    if found is None:
        return text
    mark = {None: UNKNOWN, True: REAL, False: NOISE}[found.is_real]
    if not found.base:  # there is no ratio to zero
        return text + mark if found.figure else text
    return f"{text} x{number(found.figure / found.base)}{mark}"


def having(variants: Sequence[Variant], name: str) -> list[Variant]:
    """Return the variants that have a row of this name."""
    return [variant for variant in variants if any(name in run.entries for run in variant.runs)]


def differences(variants: Sequence[Variant]) -> list[tuple[Variant, list[Difference | None]]]:
    """Return the differences in each row of the table, and the variant of the row."""
    return [
        (variant, [difference(variant, variants[0], name, metric) for metric in metrics(variants)])
        for name in (*entry_names(variants), TOTAL)
        for variant in having(variants, name)
    ]


def rows(variants: Sequence[Variant]) -> list[list[str]]:
    """Return the table: a row of each variant for each name, then for the total."""
    table = []
    for name in (*entry_names(variants), TOTAL):
        present = having(variants, name)
        for variant in present:
            only = " (only here)" if len(present) == 1 < len(variants) else ""
            figures = [cell(variant, variants[0], name, metric) for metric in metrics(variants)]
            table.append([name, f"{variant.label}{only}", *figures])
    return table
