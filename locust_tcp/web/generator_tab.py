"""The Load generator tab: lag, CPU and verdict of each process."""

from collections.abc import Sequence
from typing import Any

from locust.env import Environment

from locust_tcp.compare.chart import charts, line_chart
from locust_tcp.metrics.generator import BUSY, ROOM, SATURATED, UNKNOWN, LoadGenerator, verdict, worst_verdict
from locust_tcp.metrics.history import History, Sample
from locust_tcp.metrics.rounding import three_digits
from locust_tcp.metrics.snapshot import percentile
from locust_tcp.web.report import Report, heading
from locust_tcp.web.tabs import add_tab, card, cards

MOST_LINES = 3  # of CPU: a master and two workers, whose names fit above the chart
COLUMNS = {
    "name": "Process",
    "users": "Users",
    "seconds": "Seconds",
    "rate": "Requests/s",
    "cpu": "CPU (%)",
    "lag_50": "Lag p50 (ms)",
    "lag_95": "Lag p95 (ms)",
    "lag_99": "Lag p99 (ms)",
    "source": "Lag known by",
    "fallbacks": "Without arrival time",
    "sent_again": "Sent again (%)",
    "shortest": "Shortest round trip (ms)",
    "missed": "Missed slots",
    "behind": "Behind schedule p95 (ms)",
    "verdict": "Whose limit is near?",
}


def rows(generator: LoadGenerator) -> list[dict[str, Any]]:
    """Return a row of COLUMNS for each process that has measured anything."""
    response_time = generator.response_time()
    return [
        {
            "name": name,
            "users": stats.users,
            "seconds": round(stats.seconds, 1),
            "rate": round(stats.exchanges / stats.seconds, 1) if stats.exchanges else "-",  # not TcpUsers
            "cpu": round(stats.cpu_percent, 1),
            "lag_50": stats.lag(0.5),
            "lag_95": stats.lag(0.95),
            "lag_99": stats.lag(0.99),
            "source": "arrival times" if stats.by_kernel else "timer",
            "fallbacks": stats.fallbacks,
            "sent_again": three_digits(100 * stats.sent_again / stats.segments) if stats.segments else "-",
            "shortest": percentile(stats.shortest_trips, 0.5) if stats.shortest_trips else "-",
            "missed": stats.missed if stats.behind else "-",
            "behind": percentile(stats.behind, 0.95) if stats.behind else "-",
            "verdict": verdict(stats, response_time).text,
        }
        for name, stats in generator.processes().items()
        if stats.seconds
    ]


KINDS = {UNKNOWN: "", ROOM: "good", BUSY: "warn", SATURATED: "bad"}


def panel(generator: LoadGenerator, history: History) -> str:
    """Return the verdict in large letters, and how the test has gone so far."""
    response_time = generator.response_time()
    processes = generator.processes()
    worst = worst_verdict(processes, response_time)
    lag = max((stats.lag(0.95) for stats in processes.values() if stats.users), default=0.0)
    boxes = [
        card("Whose limit is near?", worst.headline, worst.text, "bad" if worst.network else KINDS[worst.level]),
        card("The service takes", f"{three_digits(response_time):g} ms", "95 of 100 replies arrive within that time"),
        card("A reply waits for Locust", f"{three_digits(lag):g} ms", "as well, for 95 of 100: a user waits for both"),
    ]
    samples = history.samples
    if len(samples) < 2:
        return cards(boxes)
    times = {
        "response time p95": [(each.at, each.p95) for each in samples if each.p95],
        "lag p95": [(each.at, each.lag) for each in samples if each.lag],
    }
    rates = {"requests/s": [(each.at, each.rate) for each in samples]}
    pictures = [
        line_chart("The service's response time, and Locust's lag (ms)", "seconds", times, log_y=True),
        line_chart("Requests per second", "seconds", rates),
        line_chart("CPU of each process (% of a core)", "seconds", _cpu(samples)),
    ]
    return cards(boxes) + charts(pictures)


def _cpu(samples: Sequence[Sample]) -> dict[str, list[tuple[float, float]]]:
    """Return a line for each process; of many workers, one for the busiest and one for the idlest at each time."""
    names = dict.fromkeys(name for each in samples for name in each.cpu)
    if len(names) <= MOST_LINES:
        return {name: [(each.at, each.cpu[name]) for each in samples if name in each.cpu] for name in names}
    lines: dict[str, list[tuple[float, float]]] = {"busiest": [], "idlest": [], "master": []}
    for each in samples:
        workers = [cpu for name, cpu in each.cpu.items() if name != "master"] or [0.0]
        lines["busiest"].append((each.at, max(workers)))
        lines["idlest"].append((each.at, min(workers)))
        lines["master"].append((each.at, each.cpu.get("master", 0.0)))
    return lines


def add(environment: Environment) -> None:
    """Add the tab, and its panel to the report."""
    generator, history = LoadGenerator.of(environment), History.of(environment)
    Report.of(environment).parts.append(lambda: heading("Load generator") + panel(generator, history))
    add_tab(
        environment,
        "generator",
        "Load generator",
        COLUMNS,
        rows=lambda: rows(generator),
        panel=lambda: panel(generator, history),
    )
