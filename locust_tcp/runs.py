"""Runs of Locust as its CSVs tell them: any locustfile's, any Locust's since 1.0."""

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

TOTAL = "Aggregated"
WINDOW = 10  # seconds; Locust's history has percentiles of the last ten, so that rows closer together overlap
PERCENTILES = ("50%", "66%", "75%", "80%", "90%", "95%", "98%", "99%", "99.9%", "100%")

STATS = "_stats.csv"
HISTORY = "_stats_history.csv"


class Unreadable(Exception):
    """A file is no run, and this sentence says why."""


@dataclass(frozen=True)
class Moment:
    """A row of the history, about the last WINDOW seconds."""

    second: float  # since the first row
    users: int
    requests: int  # since the run began
    failures: int
    percentiles: Mapping[str, float]  # milliseconds


@dataclass(frozen=True)
class Entry:
    """A row of the statistics: one name's, or the total."""

    requests: int
    failures: int
    rate: float  # requests per second, failures among them
    percentiles: Mapping[str, float]  # milliseconds


@dataclass(frozen=True)
class Run:
    """One run: its statistics by name, and its history where there is one."""

    name: str
    entries: Mapping[str, Entry]
    history: list[Moment]

    def windows(self) -> list[tuple[Moment, Moment]]:
        """Return stretches of WINDOW seconds that do not overlap, from when all users were there on."""
        most = max((moment.users for moment in self.history), default=0)
        steady = [moment for moment in self.history if moment.users == most]
        found: list[tuple[Moment, Moment]] = []
        for moment in steady:
            begin = found[-1][1] if found else steady[0]
            if moment.second - begin.second >= WINDOW:
                found.append((begin, moment))
        return found


def read(place: str) -> list[Run]:
    """Return the runs that a file, the prefix given to --csv, or a folder of these has. Raises Unreadable."""
    path = Path(place)
    if path.is_dir():
        files = sorted([*path.glob(f"*{STATS}"), *path.glob("requests_[0-9]*.csv")])
        if not files:
            raise Unreadable(f"{place}: this folder has no *{STATS} and no requests_*.csv")
        return [_read(file) for file in files]
    if path.is_file():
        return [_read(path)]
    file = Path(f"{place}{STATS}")
    if not file.is_file():
        raise Unreadable(f"{place}: there is no such file, no such folder and no {file.name}")
    return [_read(file)]


def _read(file: Path) -> Run:
    entries = {}
    for row in _rows(file, {"Type", "Name", "Request Count", "Failure Count", "Requests/s", "50%", "95%", "99%"}):
        name = row["Name"] if row["Name"] == TOTAL else f"{row['Type']} {row['Name']}".strip()
        entries[name] = Entry(
            int(row["Request Count"]), int(row["Failure Count"]), float(row["Requests/s"]), _percentiles(row)
        )
    if TOTAL not in entries:
        raise Unreadable(f"{file}: it has been cut off, or its test never began: there is no row {TOTAL}")
    name = file.name.removesuffix(STATS) if file.name.endswith(STATS) else file.stem
    history = file.with_name(name + HISTORY)
    return Run(name, entries, _read_history(history) if file.name.endswith(STATS) and history.is_file() else [])


def _read_history(file: Path) -> list[Moment]:
    moments: list[Moment] = []
    first = None
    columns = {"Timestamp", "User Count", "Name", "50%", "95%", "99%", "Total Request Count", "Total Failure Count"}
    for row in _rows(file, columns):
        if row["Name"] == TOTAL:
            second = float(row["Timestamp"])
            first = second if first is None else first
            counts = int(row["Total Request Count"]), int(row["Total Failure Count"])
            moments.append(Moment(second - first, int(row["User Count"]), *counts, _percentiles(row)))
    return moments


def _rows(file: Path, columns: set[str]) -> Iterator[dict[str, str]]:
    """Yield the rows of a CSV that has some columns, and in whose cells numbers are numbers."""
    try:
        with file.open(newline="", encoding="utf-8") as text:
            reader = csv.DictReader(text)
            missing = columns - set(reader.fieldnames or ())
            if not reader.fieldnames:
                raise Unreadable(f"{file}: it is empty")
            if missing:
                raise Unreadable(f"{file}: not a CSV of Locust's: it has no column {sorted(missing)[0]!r}")
            for row in reader:
                if None in row.values():
                    raise Unreadable(f"{file}: line {reader.line_num} is cut off")
                yield row
    except OSError as error:
        raise Unreadable(f"{file}: {error.strerror}") from None
    except (ValueError, csv.Error) as error:  # of which UnicodeDecodeError is one
        raise Unreadable(f"{file}: not a CSV of Locust's: {error}") from None


def _percentiles(row: Mapping[str, str]) -> dict[str, float]:
    return {name: float(row[name]) for name in PERCENTILES if row.get(name, "N/A") not in ("N/A", "")}
