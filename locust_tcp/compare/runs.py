"""Runs of Locust, read from its CSV files: of any locustfile, and of any Locust since 1.0."""

import csv
import io
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

TOTAL = "Aggregated"
GREATEST = 1e12  # more than any figure of a run: sums of these do not overflow, and intervals of these take no minutes
WINDOW = 10  # seconds: the span of Locust's current percentiles; rows closer together overlap
PERCENTILE = re.compile(r"\d+(\.\d+)?%")  # a column; a locustfile may choose its own

STATS = "_stats.csv"
HISTORY = "_stats_history.csv"
# Of --csv, of downloads, and of downloads from older versions
PATTERNS = (f"*{STATS}", "*_requests.csv", "requests_[0-9]*.csv")


class Unreadable(Exception):
    """A file is not a run. The message names the file and the reason."""


@dataclass(frozen=True)
class Moment:
    """A row of the history.

    Attributes:
        second: Seconds since the first row.
        users: Users at that moment.
        requests: Requests since the run began, failures included.
        failures: Failures since the run began.
        percentiles: Milliseconds, by the names of the CSV.
    """

    second: float
    users: int
    requests: int
    failures: int
    percentiles: Mapping[str, float]


@dataclass(frozen=True)
class Entry:
    """A row of the statistics: of one name, or of the total.

    Attributes:
        requests: Requests, failures included.
        failures: Requests that failed.
        rate: Requests per second, failures included.
        percentiles: Milliseconds, by the names of the CSV.
    """

    requests: int
    failures: int
    rate: float
    percentiles: Mapping[str, float]


@dataclass(frozen=True)
class Run:
    """One run.

    Attributes:
        name: The file's name, without what all such names end with.
        entries: The statistics, by name; the total as TOTAL.
        history: The total over time; empty where there is no such file.
        has_current_percentiles: Whether the percentiles of the history are those of the last WINDOW
            seconds, as with --csv-full-history, and not those since the run began.
    """

    name: str
    entries: Mapping[str, Entry]
    history: list[Moment]
    has_current_percentiles: bool = False

    @property
    def percentiles(self) -> list[str]:
        """The percentiles that the run has, by their names, in the order of the CSV."""
        return list(dict.fromkeys(name for entry in self.entries.values() for name in entry.percentiles))

    def intervals(self) -> list[tuple[Moment, Moment]]:
        """Return successive intervals of WINDOW seconds with all users and without a reset."""
        most = max((moment.users for moment in self.history), default=0)
        found: list[tuple[Moment, Moment]] = []
        begin = last = None
        for moment in self.history:
            if not most or moment.users != most or (last and moment.requests < last.requests):
                begin = None
            elif begin and moment.second - begin.second >= WINDOW:
                found.append((begin, moment))
                begin = moment
            last = moment
            begin = begin or (moment if moment.users == most > 0 else None)
        return found


def read(place: str) -> list[Run]:
    """Read the runs of a place.

    Args:
        place: A file, the prefix given to --csv, or a folder of files.

    Raises:
        Unreadable: There is no such place, or a file in it is not a run.
    """
    try:
        return _read_place(place)
    except OSError as error:  # such as of a name that is too long
        raise Unreadable(f"{place}: {error.strerror}") from None


def _read_place(place: str) -> list[Run]:
    path = Path(place)
    if path.is_dir():
        files = sorted({file for pattern in PATTERNS for file in path.glob(pattern)})
        if not files:
            raise Unreadable(f"{place}: this folder has none of {', '.join(PATTERNS)}")
        return [_read(file) for file in files]
    if path.is_file():
        return [_read(path)]
    file = Path(f"{place}{STATS}")
    if not file.is_file():
        raise Unreadable(f"{place}: there is no such file, no such folder and no {file.name}")
    return [_read(file)]


def _read(file: Path) -> Run:
    entries = {}
    for row in _rows(file, ("Request Count", "Failure Count", "Requests/s", "Type", "Name")):
        name = row["Name"] if row["Name"] == TOTAL else f"{row['Type']} {row['Name']}".strip()
        count, failures, rate = (
            _number(file, row[column]) for column in ("Request Count", "Failure Count", "Requests/s")
        )
        times = _percentiles(file, row)
        if "100%" in times:  # Locust rounds it to two digits
            times["100%"] = _number(file, row.get("Max Response Time") or row["100%"])
        entries[name] = Entry(int(count), int(failures), rate, times)
    if TOTAL not in entries:
        raise Unreadable(f"{file}: it has been cut off, or its test never began: there is no row {TOTAL}")
    if not file.name.endswith(STATS):
        return Run(file.stem, entries, [], False)
    name = file.name.removesuffix(STATS)
    history = file.with_name(name + HISTORY)
    return Run(name, entries, *(_read_history(history) if history.is_file() else ([], False)))


def _read_history(file: Path) -> tuple[list[Moment], bool]:
    """Return the rows of the total, and whether there are others: then percentiles are current."""
    moments: list[Moment] = []
    first = None
    has_names = False
    figures = ("Timestamp", "User Count", "Total Request Count", "Total Failure Count")
    for row in _rows(file, (*figures, "Name")):
        has_names = has_names or row["Name"] != TOTAL
        if row["Name"] == TOTAL:
            second, users, requests, failures = (_number(file, row[column]) for column in figures)
            first = second if first is None else first
            moments.append(Moment(second - first, int(users), int(requests), int(failures), _percentiles(file, row)))
    return moments, has_names


def _rows(file: Path, columns: tuple[str, ...]) -> Iterator[dict[str, str]]:
    """Yield the rows of a CSV, which must have some columns and no row that is cut off."""
    try:
        text = file.read_text(encoding="utf-8-sig")
        reader = csv.DictReader(io.StringIO(text, newline=""))
        if not reader.fieldnames:
            raise Unreadable(f"{file}: it is empty")
        for column in columns:
            if column not in reader.fieldnames:
                raise Unreadable(f"{file}: not a CSV of Locust's statistics: it has no column {column!r}")
        if not text.endswith("\n"):
            raise Unreadable(f"{file}: its last line is cut off")
        for row in reader:
            if None in row.values():
                raise Unreadable(f"{file}: line {reader.line_num} is cut off")
            yield row
    except OSError as error:
        raise Unreadable(f"{file}: {error.strerror}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise Unreadable(f"{file}: not a CSV of Locust's: {error}") from None


def _number(file: Path, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not abs(value) <= GREATEST:
        raise Unreadable(f"{file}: not a CSV of Locust's: {text!r} stands where a number belongs")
    return value


def _percentiles(file: Path, row: Mapping[str, str]) -> dict[str, float]:
    """Return the percentiles of a row that were measured."""
    return {
        name: _number(file, text)
        for name, text in row.items()
        if PERCENTILE.fullmatch(name or "") and text not in ("N/A", "")
    }
