"""What happens to the reports of workers, besides that Locust adds them up: small histograms, and the master's clock.

Workers report how many requests they have made in which second of their own clocks. Locust adds
these seconds up, and looks for the current rate in the latest ones.

Histograms with three digits make up nearly all of a report. A worker packs them once its master has
asked for that: a master with another version of the kit would not understand them.
"""

import logging
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from locust.event import Events
from locust.stats import RequestStats, setup_distributed_stats_event_listeners

from locust_tcp.metrics.rounding import pack, unpack
from locust_tcp.patches.guard import Patch

logger = logging.getLogger(__name__)

PACK = "locust_tcp_pack"  # the message of a master that understands packed histograms
CLOCK = "locust_tcp_clock"  # in a worker's report: its clock, in seconds since the epoch
DELAY = 0.1  # seconds that a report may take to the master; by less, a clock can't be known to be wrong
NAMED = 1.0  # seconds by which the clock of a worker is wrong when the log names it
REPORTS = 3  # until then: one that the master reads late makes the worker's clock look slow


def _set_up(events: Events, stats: RequestStats) -> None:
    ahead: dict[str, float] = {}  # seconds by which the clock of each worker is ahead of the master's
    reports: Counter[str] = Counter()

    def correct(client_id: str, data: dict[str, Any]) -> None:
        if not isinstance(clock := data.get(CLOCK), float):
            return  # the worker has another version of the kit
        offset = clock - time.time()
        offset = ahead[client_id] = max(offset, ahead.get(client_id, offset))  # of the report with the least delay
        reports[client_id] += 1
        if reports[client_id] == REPORTS and abs(offset) >= NAMED:
            logger.warning(
                "The clock of worker %s is %.1f s %s of the master's. The rates follow the master's clock.",
                *(client_id, abs(offset), "ahead" if offset > 0 else "behind"),
            )
        if abs(offset) >= DELAY:
            _shift(data, offset)

    def forget(**_: Any) -> None:
        ahead.clear()
        reports.clear()

    events.test_start.add_listener(forget)
    # Before Locust's listener, which adds the report up
    events.worker_report.add_listener(lambda client_id, data: _change_histograms(data, unpack))
    events.worker_report.add_listener(correct)
    events.report_to_master.add_listener(lambda client_id, data: data.update({CLOCK: time.time()}))
    setup_distributed_stats_event_listeners(events, stats)


def pack_histograms(data: dict[str, Any], **_: Any) -> None:
    """Make a report small. A listener of report_to_master, after those that write the report."""
    _change_histograms(data, pack)


def _change_histograms(report: dict[str, Any], change: Callable[[Any], Any]) -> None:
    for entry in (*report["stats"], report["stats_total"]):
        entry["response_times"] = change(entry["response_times"])
    if isinstance(figures := report.get("generator"), dict):
        report["generator"] = {
            name: change(figure) if isinstance(figure, dict | list) else figure for name, figure in figures.items()
        }


def _shift(report: dict[str, Any], offset: float) -> None:
    """Take an offset from all times in a report."""
    for entry in (*report["stats"], report["stats_total"]):
        for key in ("num_reqs_per_sec", "num_fail_per_sec"):
            entry[key] = {second - round(offset): count for second, count in entry[key].items()}
    for entry in (*report["stats"], report["stats_total"], *report["errors"].values()):
        for key in ("start_time", "last_request_timestamp", "first_seen", "last_seen"):
            if entry.get(key):
                entry[key] -= offset


PATCH = Patch(
    lost="true rates where the clock of a worker is wrong, and small reports of workers",
    tested={
        "locust.runners:setup_distributed_stats_event_listeners": {
            "156dc3b83fc907a3",  # 2.32.0
            "f71857abcaf1fcd2",  # 2.44.1
            "e200c31b0cbf3648",  # 2.46.2
        },
        "locust.stats:StatsEntry.serialize": {"7901de92866cc5b0"},
        "locust.stats:StatsEntry.get_stripped_report": {"2eceef38aa4352c9"},
        "locust.stats:StatsEntry.extend": {
            "9035b317338f7c7b",  # 2.32.0
            "0f0d4291338eb4a6",  # 2.47.0
        },
    },
    replacements={"locust.runners:setup_distributed_stats_event_listeners": _set_up},
)
