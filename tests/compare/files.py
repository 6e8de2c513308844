"""CSV files as Locust writes them, and the command that compares them."""

import csv
import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from locust_tcp.compare.runs import TOTAL, Entry, Moment
from tests import kit

# As Locust 2.47 writes them
REPORTED = ("50%", "66%", "75%", "80%", "90%", "95%", "98%", "99%", "99.9%", "99.99%", "100%")
RESPONSES = ("Median Response Time", "Average Response Time", "Min Response Time", "Max Response Time")
STATS_COLUMNS = (
    *("Type", "Name", "Request Count", "Failure Count", *RESPONSES, "Average Content Size"),
    *("Requests/s", "Failures/s", *REPORTED),
)
HISTORY_COLUMNS = (
    *("Timestamp", "User Count", "Type", "Name", "Requests/s", "Failures/s", *REPORTED),
    *("Total Request Count", "Total Failure Count", *(f"Total {each}" for each in RESPONSES)),
    "Total Average Content Size",
)
SECONDS = 10  # the length of the runs of write_stats
BEGAN = 1795446927  # seconds since the epoch: the first row of write_history

# The name that Locust 2.47 suggests for a download, as Chromium stores it.
DOWNLOAD = "Locust_2026-11-23-15h20_locustfile.py_tcp___127.0.0.1_59898_requests.csv"

FAILURES = "Method,Name,Error,Occurrences,First Seen,Last Seen\r\nTCP,word,connect: refused,3,,\r\n"


def spread(p50: float | None) -> list[object]:
    """Return the percentiles of a row by its median. No two are equal."""
    return ["N/A" if p50 is None else p50 * (1 + place) for place in range(len(REPORTED))]


def percentiles(p50: float) -> dict[str, float]:
    """Return those percentiles as `read` returns them."""
    return {name: p50 * (1 + place) for place, name in enumerate(REPORTED)}


Row = tuple[str, str, int, int, float | None]  # type, name, requests, failures, median


def write(file: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    with file.open("w", newline="", encoding="utf-8") as text:
        csv.writer(text).writerows([columns, *rows])


def write_stats(file: Path, *rows: Row, reported: Sequence[str] = REPORTED) -> Path:
    """Write a requests CSV with some rows, their total, and some of the percentiles."""
    total = ("", TOTAL, sum(row[2] for row in rows), sum(row[3] for row in rows), rows[-1][4])
    places = [REPORTED.index(name) for name in reported]
    write(
        file,
        [*STATS_COLUMNS[: -len(REPORTED)], *reported],
        [
            [kind, name, count, failures, *[0] * 3, spread(p50)[-1], 0, count / SECONDS, failures / SECONDS]
            + [spread(p50)[place] for place in places]
            for kind, name, count, failures, p50 in (*rows, total)
        ],
    )
    return file


def write_history(file: Path, moments: Iterable[tuple[int, int, int, int, float | None]]) -> Path:
    """Write a history: second, users, requests, failures and median of each row."""
    write(
        file,
        HISTORY_COLUMNS,
        [
            [BEGAN + second, users, "", TOTAL, "9.500000", "0.000000", *spread(p50), count, failures, *[0] * 5]
            for second, users, count, failures, p50 in moments
        ],
    )
    return file


WORD: Row = ("TCP", "word", 300, 3, 0.25)
LINE: Row = ("TCP", "long line", 100, 0, 2.0)
ENTRIES = {
    "TCP word": Entry(300, 3, 30.0, percentiles(0.25)),
    "TCP long line": Entry(100, 0, 10.0, percentiles(2.0)),
    TOTAL: Entry(400, 3, 40.0, percentiles(2.0)),
}
MOMENTS = [(0, 0, 0, 0, None), (1, 5, 40, 0, 1.0), (2, 5, 80, 1, 1.5), (3, 0, 100, 1, 2.0)]
HISTORY = [
    Moment(0.0, 0, 0, 0, {}),
    Moment(1.0, 5, 40, 0, percentiles(1.0)),
    Moment(2.0, 5, 80, 1, percentiles(1.5)),
    Moment(3.0, 0, 100, 1, percentiles(2.0)),
]


def compare(*arguments: str | Path, cwd: Path = kit.KIT) -> subprocess.CompletedProcess[str]:
    """Run the command in a folder."""
    return subprocess.run(
        [sys.executable, "-m", "locust_tcp.compare", *map(str, arguments)],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(kit.KIT)},
        capture_output=True,
        encoding="utf-8",
        errors="surrogateescape",
        timeout=kit.PATIENCE,
        check=False,
    )
