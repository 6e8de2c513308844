"""The Load generator tab: lag, CPU and verdict of each process."""

from typing import Any

from locust.env import Environment

from locust_tcp.metrics.generator import LoadGenerator, verdict
from locust_tcp.metrics.snapshot import percentile
from locust_tcp.web.tabs import add_tab

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
            "missed": stats.missed if stats.behind else "-",
            "behind": percentile(stats.behind, 0.95) if stats.behind else "-",
            "verdict": verdict(stats, response_time).text,
        }
        for name, stats in generator.processes().items()
        if stats.seconds
    ]


def add(environment: Environment) -> None:
    """Add the tab."""
    generator = LoadGenerator.of(environment)
    add_tab(environment, "generator", "Load generator", COLUMNS, rows=lambda: rows(generator))
