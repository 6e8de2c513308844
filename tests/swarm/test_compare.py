"""python -m locust_tcp.compare on what real swarms have just written: of the kit, of plain Locust, from the page."""

import csv
import io
import os
import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from email.message import Message
from pathlib import Path

import pytest

from locust_tcp.compare.comparison import FEW
from tests import kit
from tests.browser import web
from tests.compare.files import WORD, write_stats

SWARM = ("--headless", "--users", "5", "--spawn-rate", "100", "--run-time", "3s")
NAMES = ["TCP connect", "TCP long line", "TCP sentence", "TCP word", "Aggregated"]

PLAIN = """
import time
from locust import User, constant, task

class Sleeper(User):
    wait_time = constant(0.01)

    @task
    def sleep(self):
        begin = time.perf_counter()
        time.sleep(0.0123)
        elapsed = (time.perf_counter() - begin) * 1000
        fire = self.environment.events.request.fire
        fire(request_type="NAP", name="a, \\"b\\" ß", response_time=elapsed, response_length=0, exception=None)
"""


def compare(*places: str | Path) -> list[list[str]]:
    """Return the rows of the table that the command prints, each with the name that stands above it."""
    done = subprocess.run(
        [sys.executable, "-m", "locust_tcp.compare", *map(str, places)],
        cwd=kit.KIT,
        capture_output=True,
        text=True,
        timeout=kit.PATIENCE,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    table = done.stdout.split("\n\n")[0].splitlines()
    found: list[list[str]] = []
    for line in table[1:]:
        cells = re.split(r" {2,}", line)
        found.append(cells if cells[0] else [found[-1][0], *cells[1:]])
    return found


def figures(text: str) -> tuple[float, float]:
    """Return the value of a cell and its ratio."""
    match = re.fullmatch(r"([0-9.,]+)(?: \([^)]+\))?(?: x([0-9.e+]+)[*~]?)?", text)
    assert match, text
    return float(match[1].replace(",", "")), float(match[2] or "nan")


def test_connections_for_each_request_are_seen_beside_persistent_ones(tmp_path: Path) -> None:
    counts = {}
    for connection in ("persistent", "per-request"):
        with kit.server(output=tmp_path / f"server of {connection}") as server:
            options = ("--host", server.host, "--connection", connection, "--wait", "0.01")
            files = ("--csv", str(tmp_path / connection))
            with kit.program(kit.LOCUST, *SWARM, *options, *files, output=tmp_path / f"{connection}.log") as locust:
                assert locust.ends() == 0, locust.output
            answered, connections, _ = server.totals()
        counts[connection] = {"TCP connect": connections, "Aggregated": answered + connections}

    table = compare(tmp_path / "persistent_stats.csv", tmp_path / "per-request_stats.csv")
    assert [row[:2] for row in table] == [[name, run] for name in NAMES for run in ("persistent", "per-request")]
    for name, run, requests, failures, *_ in table:
        if name in counts[run]:
            assert figures(requests)[0] == counts[run][name], "the server has counted the same"
        assert failures == "0"
    assert counts["persistent"]["TCP connect"] == 5
    (row,) = (row for row in table if row[:2] == ["TCP connect", "per-request"])
    ratio = counts["per-request"]["TCP connect"] / counts["persistent"]["TCP connect"]
    assert figures(row[2])[1] == pytest.approx(ratio, rel=0.01)
    assert ratio > 5
    for row in table:  # of a local service: times are below a millisecond, and not whole ones
        times = [figures(text)[0] for text in row[5:9] if text != FEW]
        assert times[0] > 0
        assert times == sorted(times)
    assert {row[7] == FEW for row in table if row[0] == "TCP connect" and row[1] == "persistent"} == {True}
    assert all(re.search(r" \(\S+-\S+\)", row[7]) for row in table if row[0] == "Aggregated")

    assert compare(tmp_path / "persistent", tmp_path / "per-request") == table, "prefixes are the same runs"


def test_csvs_of_plain_locust_are_read(tmp_path: Path) -> None:
    (tmp_path / "locustfile.py").write_text(PLAIN)
    plain = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    options = (*SWARM, "--csv", "plain", "--csv-full-history")
    with kit.program(kit.LOCUST, *options, output=tmp_path / "log", cwd=tmp_path, environment=plain) as locust:
        assert locust.ends() == 0, locust.output
    (row, total) = kit.rows(tmp_path / "plain_stats.csv")
    assert row["95%"] == str(int(row["95%"])), "whole milliseconds, as they are without the kit"

    table = compare(tmp_path / "plain", tmp_path / "plain_stats.csv")
    assert [line[:2] for line in table] == [
        *(['NAP a, "b" ß', "plain (1)"], ['NAP a, "b" ß', "plain (2)"]),
        *(["Aggregated", "plain (1)"], ["Aggregated", "plain (2)"]),
    ]
    for line in table:
        assert figures(line[2])[0] == int(row["Request Count"]) == int(total["Request Count"]) > 0
        assert figures(line[5])[0] == float(row["50%"]) >= 12


Downloaded = tuple[str, bytes]


@pytest.fixture(scope="module")
def downloaded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Downloaded]:
    """The requests CSV of the Download Data tab, with the name under which a browser stores it."""
    folder = tmp_path_factory.mktemp("web")

    def ask(url: str) -> tuple[Message, bytes]:
        with urllib.request.urlopen(f"{url}stats/requests/csv", timeout=kit.PATIENCE) as reply:
            return reply.headers, reply.read()

    def names(text: bytes) -> set[str]:
        return {row["Name"] for row in csv.DictReader(io.StringIO(text.decode()))}

    with kit.server(output=folder / "server") as server:
        options = ("--autostart", "--host", server.host, "--users", "5", "--spawn-rate", "100", "--wait", "0.01")
        with web(*options, output=folder / "locust") as (_, url):
            kit.eventually(lambda: len(names(ask(url)[1])) == len(NAMES))
            headers, text = ask(url)
    match = re.search(r"filename=(.*)", headers["Content-Disposition"])
    assert match
    yield re.sub(r"[/:]", "_", match[1]), text


def test_a_download_of_the_page_is_read(tmp_path: Path, downloaded: Downloaded) -> None:
    (tmp_path / "first.csv").write_bytes(downloaded[1])
    write_stats(tmp_path / "second.csv", WORD)
    table = compare(tmp_path / "first.csv", tmp_path / "second.csv")
    counts = {row["Name"]: int(row["Request Count"]) for row in kit.rows(tmp_path / "first.csv")}
    assert list(dict.fromkeys(row[0] for row in table)) == NAMES
    for name, run, requests, *_ in table:
        if run.startswith("first"):
            assert figures(requests)[0] == counts[name.removeprefix("TCP ")]
    assert ["TCP connect", "first (only here)"] in [row[:2] for row in table]


def test_a_folder_of_downloads_is_read(tmp_path: Path, downloaded: Downloaded) -> None:
    (tmp_path / "all").mkdir()
    (tmp_path / "all" / downloaded[0]).write_bytes(downloaded[1])
    write_stats(tmp_path / "other.csv", WORD)
    assert ["TCP connect", "all (only here)"] in [row[:2] for row in compare(tmp_path / "all", tmp_path / "other.csv")]
