"""Run an example's swarm without Locust's web page, and read what it has counted."""

import contextlib
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests import kit

USERS = 10
# What fails where the server has closed the connection.
CLOSED = {"send: closed", "send: reset", "reply: closed", "reply: closed halfway", "reply: reset"}


class Swarm(kit.Program):
    """Locust with an example. Its statistics are in the folder, in CSVs."""

    def __init__(self, *options: str, folder: Path, environment: dict[str, str]) -> None:
        self._csv = folder / "run"
        limits = ("--users", str(USERS), "--spawn-rate", "100", "--run-time", "60s", "--stop-timeout", "1")
        command = ("--headless", *limits, "--csv", str(self._csv), *options)
        super().__init__(kit.LOCUST, *command, output=folder / "locust", environment=os.environ | environment)

    def exceptions(self) -> list[str]:
        """Return the last line of each traceback."""
        return re.findall(r"^Traceback .*\n(?: .*\n)+(.*)$", self.output, re.MULTILINE)

    def rows(self) -> dict[str, Mapping[str, str]]:
        """Return the rows of the statistics by their names."""
        return {row["Name"]: row for row in kit.rows(Path(f"{self._csv}_stats.csv"))}

    def requests(self) -> dict[str, int]:
        """Return how many requests of each name there were, failed ones included."""
        return {name: int(row["Request Count"]) for name, row in self.rows().items()}

    def counted(self, name: str) -> int:
        """Return how many requests of a name there are by now, or were a second ago, when Locust wrote its CSV."""
        with contextlib.suppress(FileNotFoundError, KeyError):  # not yet
            return self.requests()[name]
        return 0

    def failed(self) -> Counter[str]:
        """Return how many requests of each name have failed."""
        failed: Counter[str] = Counter()
        for row in self._failures():
            failed[row["Name"]] += int(row["Occurrences"])
        return failed

    def texts(self) -> set[str]:
        """Return the texts of the failures."""
        return {row["Error"] for row in self._failures()}

    def _failures(self) -> list[Mapping[str, str]]:
        return kit.rows(Path(f"{self._csv}_failures.csv"))


@contextlib.contextmanager
def swarm(example: str, *options: str, port: int, folder: Path, **environment: str) -> Iterator[Swarm]:
    """Run an example on a server of this machine for the length of a with-block."""
    where = ("-f", str(kit.KIT / "examples" / example), "--host", f"tcp://127.0.0.1:{port}")
    running = Swarm(*where, *options, folder=folder, environment=environment)
    try:
        yield running
    finally:
        if running.process.poll() is None:
            running.process.kill()
        running.process.wait()
