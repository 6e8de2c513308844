"""What Locust writes at the end of a run: --json, --json-file and --html.

Locust's functions for JSON clear the statistics, so that all that is written after them is empty.
"""

import contextlib
import copy
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from locust import main, stats
from locust.stats import EntriesDict, RequestStats

from locust_tcp.patches.guard import ABSENT, Patch

logger = logging.getLogger(__name__)

_upstream_print_json = stats.print_stats_json
_upstream_save_json = getattr(stats, "save_stats_json", None)


def _to_clear(kept: RequestStats) -> RequestStats:
    """Return a copy of statistics that may be cleared: StatsEntry.reset changes nothing that entries share."""
    copied = copy.copy(kept)
    copied.entries = EntriesDict(copied)
    copied.entries.update({key: copy.copy(entry) for key, entry in kept.entries.items()})
    return copied


def _print_json(kept: RequestStats) -> None:
    _upstream_print_json(_to_clear(kept))


def _save_json(kept: RequestStats, filename: str) -> None:
    assert _upstream_save_json
    with _or_one_line(f"{filename}.json"):
        _upstream_save_json(_to_clear(kept), filename)


@contextlib.contextmanager
def _or_one_line(name: str) -> Iterator[None]:
    """Log one line where a file can't be written, as when the disk is full."""
    try:
        yield
    except OSError as error:
        logger.error("Can't write %s: %s", name, error.strerror)


@contextlib.contextmanager
def _written(name: str, mode: str, **options: Any) -> Iterator[IO[Any]]:
    with _or_one_line(name), Path(name).open(mode, **options) as file:
        yield file


def _open(name: str, mode: str = "r", **options: Any) -> Any:
    """Stand in for the open of locust.main, which writes nothing but the report."""
    return _written(name, mode, **options) if mode == "w" else Path(name).open(mode, **options)


_PRINT = f"locust.{'main' if hasattr(main, 'print_stats_json') else 'stats'}:print_stats_json"
_SAVE = "locust.stats:save_stats_json"
_CLEARED = {
    "locust.stats:RequestStats.serialize_stats": {"10c3f866bed00908"},
    "locust.stats:StatsEntry.get_stripped_report": {"2eceef38aa4352c9"},
    "locust.stats:StatsEntry.reset": {"a85b9ca5adda8076"},
}

JSON = Patch(
    lost="all figures that Locust writes after --json and --json-file, such as those of the CSV",
    tested={
        _PRINT: {"da35bc5ed0326d07"},
        _SAVE: {
            ABSENT,  # 2.32.0
            "a0a52cddea8a9c9f",  # 2.37.0
            "4b6b8b70ab6c2884",  # 2.37.10
        },
        **_CLEARED,
    },
    replacements={_PRINT: _print_json, **({_SAVE: _save_json} if _upstream_save_json else {})},
)

HTML = Patch(
    lost="one line instead of a traceback where --html can't be written",
    tested={
        "locust.main:main.save_html_report": {
            "a6741657dd0ca598",  # 2.32.0
            "e4907b3f0072deba",  # 2.33.0
            "9f69fc22f2655be7",  # 2.44.1
            "debf001ade7ace25",  # 2.47.0
        },
        "locust.main:open": {ABSENT},
    },
    replacements={"locust.main:open": _open},
)
