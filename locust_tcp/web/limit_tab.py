"""The Limit tab, its CSV and its report: the steps and findings of a search for the capacity."""

from collections.abc import Callable
from html import escape
from typing import Any

from locust.env import Environment

from locust_tcp.compare.chart import charts, document, html_table, line_chart
from locust_tcp.metrics.capacity import (
    KNEE,
    MOST_REPEATS,
    MOST_STEPS,
    CapacitySearch,
    findings,
    goodput_text,
    has_failed,
    owner_of_goodput,
)
from locust_tcp.metrics.rounding import three_digits
from locust_tcp.metrics.thresholds import percent
from locust_tcp.web.report import Report, heading
from locust_tcp.web.tabs import add_tab, card, cards, csv_text

COLUMNS = {
    "users": "Users",
    "seconds": "Measured (s)",
    "rate": "Good requests/s",
    "margin": "Margin (95 %)",
    "failures": "Failures (%)",
    "p50": "p50 (ms)",
    "p95": "p95 (ms)",
    "p99": "p99 (ms)",
    "machine": "All cores (%)",
    "note": "What was found out",
    "load": "Load generator",
}
NOT_COUNTED = "tried twice, the better step counts"
SETTLING = 4.0  # seconds of each step that are not measured, about
OWNERS = {"the service's": "good", "no limit was found": ""}  # the colours of their boxes; a warning for all others


def rows(search: CapacitySearch) -> list[dict[str, Any]]:
    """Return a row of COLUMNS for each step, ordered by users."""
    marks, outcomes = search.marks(), search.outcomes
    return [
        {
            "users": step.users,
            "seconds": round(step.interval.seconds, 1),
            "rate": round(step.interval.goodput, 1),
            "margin": "-" if step.margin is None else round(step.margin, 1),
            "failures": three_digits(100 * step.interval.fail_ratio),
            "p50": three_digits(step.interval.percentile(0.5)),
            "p95": three_digits(step.interval.p95),
            "p99": three_digits(step.interval.percentile(0.99)),
            "machine": round(step.machine_cpu),
            "note": "; ".join([*(marks.get(step.users, []) if step in outcomes else [NOT_COUNTED]), *step.broken]),
            "load": step.verdict.headline,
        }
        for step in sorted(search.steps, key=lambda step: step.users)
    ]


def csv(search: CapacitySearch) -> str:
    """Return the CSV of the steps. The findings are sentences, which are in the report and in the log."""
    return csv_text(COLUMNS, rows(search))


def answers(search: CapacitySearch) -> list[str]:
    """Return a box for each question that a search answers; what it has found so far, while it runs."""
    if not search.steps:
        return [card("The search", "has not begun", "Start a test: each step adds users until something breaks.")]
    most = max(step.users for step in search.steps)
    boxes = []
    if not search.is_over:
        done, last = len(search.steps), search.steps[-1]
        most_steps = MOST_STEPS + MOST_REPEATS
        left = (most_steps - done) * (last.interval.seconds + SETTLING)
        detail = f"{last.users} users made {last.interval.goodput:.0f} requests/s; at most about {left:.0f} s more"
        boxes.append(card("The search", f"step {done + 1} of at most {most_steps}", detail, "warn"))
    gap = search.gap(has_failed)
    if gap is None:
        boxes.append(card("Failures begin", "not yet", f"none with up to {most} users", "good"))
    else:
        low, high = gap
        where = f"between {low} and {high} users" if low else f"at {high} users"
        failed = search.first(has_failed)
        share = f"{percent(failed.interval.fail_ratio)} failed with {high}" if failed else ""
        boxes.append(card("Failures begin", where, f"{share}, none with {low}" if low else share, "bad"))
    best, knee = search.best, search.first(search.is_fast)
    if best and knee:
        detail = f"at {best.users} users; {knee.users} are enough for {KNEE:.0%} of it"
        boxes.append(card("Highest goodput", goodput_text(best), detail, "good"))
        p95 = three_digits(best.interval.p95)
        boxes.append(card("95 of 100 replies come within", f"{p95:g} ms", f"at {best.users} users"))
    owner = owner_of_goodput(search) if search.is_over else None
    if owner:
        boxes.append(card("Whose limit is the goodput?", *owner, OWNERS.get(owner[0], "warn")))
    return boxes


def pictures(search: CapacitySearch) -> list[str]:
    """Return charts of goodput and of response times by users."""
    if not search.steps:
        return []
    marks = {float(users): ", ".join(words) for users, words in search.marks().items()}
    goodput = {"goodput": [(float(step.users), step.interval.goodput) for step in search.outcomes]}
    times = {
        name: [(float(step.users), value) for step in search.outcomes if (value := step.interval.percentile(fraction))]
        for name, fraction in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))
    }
    return [
        line_chart("Goodput (successful requests per second)", "users", goodput, log_x=True, marks=marks),
        line_chart("Response times (ms)", "users", times, log_x=True, log_y=True, marks=marks),
    ]


def panel(search: CapacitySearch) -> str:
    """Return the answers, the charts, and once the search is over the findings in sentences."""
    sentences = [f"<p>{escape(text)}</p>" for text in findings(search)] if search.is_over else []
    return "\n".join([cards(answers(search)), charts(pictures(search)), *sentences])


def report(search: CapacitySearch) -> str:
    """Return an HTML page with findings, charts and table."""
    steps = [[str(row[key]) for key in COLUMNS] for row in rows(search)]
    texts = [f"<p>{escape(text)}</p>" for text in findings(search)]
    return document("No mercy", [*texts, *pictures(search), html_table(list(COLUMNS.values()), steps)])


def add(environment: Environment, search: Callable[[], CapacitySearch]) -> None:
    """Add the tab, and the search to the report. `search` returns the search of the newest test."""
    Report.of(environment).parts.append(lambda: heading("Limit") + panel(search()) if search().steps else "")
    add_tab(
        environment,
        "limit",
        "Limit",
        COLUMNS,
        rows=lambda: rows(search()),
        panel=lambda: panel(search()),
    )
