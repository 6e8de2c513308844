"""The Limit tab, its CSV and its report: the steps and findings of a search for the capacity."""

from collections.abc import Callable
from html import escape
from typing import Any

from locust.env import Environment

from locust_tcp.compare.chart import document, html_table, line_chart
from locust_tcp.metrics.capacity import CapacitySearch, findings
from locust_tcp.metrics.generator import BUSY, ROOM, SATURATED, UNKNOWN
from locust_tcp.metrics.rounding import three_digits
from locust_tcp.web.tabs import add_tab, csv_text

COLUMNS = {
    "users": "Users",
    "seconds": "Measured (s)",
    "rate": "Good requests/s",
    "failures": "Failures (%)",
    "p50": "p50 (ms)",
    "p95": "p95 (ms)",
    "p99": "p99 (ms)",
    "machine": "All cores (%)",
    "note": "What was found out",
    "load": "Load generator",
}
LEVELS = {UNKNOWN: "unknown", ROOM: "room", BUSY: "little room", SATURATED: "saturated"}


def rows(search: CapacitySearch) -> list[dict[str, Any]]:
    """Return a row of COLUMNS for each step, ordered by users."""
    marks = search.marks()
    return [
        {
            "users": step.users,
            "seconds": round(step.interval.seconds, 1),
            "rate": round(step.interval.goodput, 1),
            "failures": three_digits(100 * step.interval.fail_ratio),
            "p50": three_digits(step.interval.percentile(0.5)),
            "p95": three_digits(step.interval.p95),
            "p99": three_digits(step.interval.percentile(0.99)),
            "machine": round(step.machine_cpu),
            "note": "; ".join([*marks.get(step.users, []), *step.broken]),
            "load": LEVELS[step.verdict.level],
        }
        for step in sorted(search.steps, key=lambda step: step.users)
    ]


def csv_rows(search: CapacitySearch) -> list[dict[str, Any]]:
    """Return the same rows, followed by a row for each finding."""
    empty = dict.fromkeys(COLUMNS, "")
    return [*rows(search), *({**empty, "note": finding} for finding in findings(search))]


def csv(search: CapacitySearch) -> str:
    """Return the CSV of steps and findings."""
    return csv_text(COLUMNS, csv_rows(search))


def pictures(search: CapacitySearch) -> list[str]:
    """Return the findings as HTML, and charts of goodput and 95th percentile by users."""
    if not search.steps:
        return []
    marks = {float(users): ", ".join(words) for users, words in search.marks().items()}
    goodput = {"goodput": [(float(step.users), step.interval.goodput) for step in search.steps]}
    p95s = {"p95": [(float(step.users), step.interval.p95) for step in search.steps if step.interval.p95]}
    texts = findings(search) if search.is_over else ["The search is still running."]
    return [
        *(f"<p>{escape(text)}</p>" for text in texts),
        line_chart("Goodput (successful requests per second)", "users", goodput, log_x=True, marks=marks),
        line_chart("95th percentile of the response times (ms)", "users", p95s, log_x=True, log_y=True, marks=marks),
    ]


def report(search: CapacitySearch) -> str:
    """Return an HTML page with findings, charts and table."""
    steps = [[str(row[key]) for key in COLUMNS] for row in rows(search)]
    return document("No mercy", [*pictures(search), html_table(list(COLUMNS.values()), steps)])


def add(environment: Environment, search: Callable[[], CapacitySearch]) -> None:
    """Add the tab. `search` returns the search of the newest test."""
    add_tab(
        environment,
        "limit",
        "Limit",
        COLUMNS,
        rows=lambda: rows(search()),
        csv_rows=lambda: csv_rows(search()),
        pictures=lambda: pictures(search()),
    )
