"""The files that a run leaves behind: complete beside each other, true where nothing was measured, on a full disk."""

import json
import re
import subprocess
from pathlib import Path

import pytest

from tests import kit
from tests.compare.files import compare

SWARM = ("--headless", "--only-summary", "--users", "3", "--spawn-rate", "100", "--wait", "0.01")


def test_the_csvs_are_complete_beside_json(tmp_path: Path) -> None:
    with kit.server(output=tmp_path / "server") as server:
        csvs = ("--csv", f"{tmp_path}/run", "--csv-full-history")
        jsons = ("--skip-log", "--json", "--json-file", f"{tmp_path}/saved")
        with kit.program(
            *(kit.LOCUST, *SWARM, "--run-time", "3s", "--host", server.host, *csvs, *jsons), output=tmp_path / "locust"
        ) as locust:
            assert locust.ends() == 0
        lines, connections, _ = server.totals()
    printed = re.search(r"^\[\n.*^\]$", locust.output, re.MULTILINE | re.DOTALL)
    assert printed
    saved = json.loads((tmp_path / "saved.json").read_text())
    assert json.loads(printed[0]) == saved
    counts = {row["name"]: row["num_requests"] for row in saved}
    assert (counts["connect"], sum(counts.values())) == (connections, connections + lines)
    *rows, total = kit.rows(tmp_path / "run_stats.csv")
    assert {row["Name"]: int(row["Request Count"]) for row in rows} == counts
    assert int(total["Request Count"]) == connections + lines
    assert 0 < float(total["50%"]) <= float(total["Max Response Time"])
    last = {row["Name"]: int(row["Total Request Count"]) for row in kit.rows(tmp_path / "run_stats_history.csv")}
    assert last == counts | {"Aggregated": connections + lines}


# The server answers a line, and none of these is the whole of one.
ONE_WAY = """
from locust import constant, task
from locust_tcp import TcpUser

class Logger(TcpUser):
    wait_time = constant(0.01)

    @task
    def log(self):
        self.client.send(b"x", name="log")
"""


def test_messages_without_a_reply_have_no_times(tmp_path: Path) -> None:
    (tmp_path / "one_way.py").write_text(ONE_WAY)
    with kit.server(output=tmp_path / "server") as server:
        files = ("-f", f"locustfile.py,{tmp_path}/one_way.py", "--csv", f"{tmp_path}/run", "--csv-full-history")
        with kit.program(
            *(kit.LOCUST, *SWARM, *files, "--run-time", "3s", "--host", server.host), output=tmp_path / "locust"
        ) as locust:
            assert locust.ends() == 0
    stats = {row["Name"]: row for row in kit.rows(tmp_path / "run_stats.csv")}
    history = [row for row in kit.rows(tmp_path / "run_stats_history.csv") if row["Name"] == "log"]
    assert history
    for row in (stats["log"], *history):
        times = {value for column, value in row.items() if column.endswith(("Response Time", "%"))}
        assert times == {"N/A"}, row
    assert int(stats["log"]["Request Count"]) > 0 == int(stats["log"]["Failure Count"])
    assert float(stats["word"]["50%"]) > 0 < float(stats["word"]["Max Response Time"])
    done = compare(tmp_path / "run", tmp_path / "run")
    (line,) = re.findall(r"^TCP log .*$", done.stdout, re.MULTILINE)
    assert line.split()[-4:] == ["-"] * 4


OWN_PERCENTILES = """
import locust.stats

locust.stats.PERCENTILES_TO_REPORT = [0.5, 0.97, 0.999]
"""


def test_a_locustfiles_own_percentiles_are_compared(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(OWN_PERCENTILES)
    with kit.server(output=tmp_path / "server") as server:
        files = ("-f", f"locustfile.py,{tmp_path}/own.py", "--csv", f"{tmp_path}/run")
        with kit.program(
            *(kit.LOCUST, *SWARM, *files, "--run-time", "2s", "--host", server.host), output=tmp_path / "locust"
        ) as locust:
            assert locust.ends() == 0
    done = compare(tmp_path / "run", tmp_path / "run")
    assert (done.returncode, done.stderr) == (0, "")
    titles, _, other, *_ = done.stdout.splitlines()
    assert re.split("  +", titles)[-3:] == ["p50 ms", "p97 ms", "p99.9 ms"]
    assert other.count("(x1") + other.count(" few") + other.count("x1") >= 3, other


# Each name is a row of each file. With so many the files outgrow the disk.
MANY_NAMES = """
import itertools
from locust import constant, task
from locust_tcp import TcpUser

numbers = itertools.count()

class ManyNames(TcpUser):
    wait_time = constant(0.01)

    @task
    def word(self):
        self.client.request("hello", name=f"{min(next(numbers), 300):0100}", expect="HELLO")
"""
DISK = "64k"  # one row has 300 bytes or so


@pytest.mark.parametrize("last", ["--html", "--json-file"])
def test_a_disk_that_fills_up_costs_the_files_and_not_the_run(tmp_path: Path, last: str) -> None:
    within = ("unshare", "--user", "--map-root-user", "--mount")
    try:
        subprocess.run([*within, "true"], check=True, capture_output=True, timeout=kit.PATIENCE)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"this machine allows no file system of our own: {error}")
    disk = tmp_path / "disk"
    disk.mkdir()
    (tmp_path / "names.py").write_text(MANY_NAMES)
    with kit.server(output=tmp_path / "server") as server:
        swarm = (*SWARM[:-2], "--run-time", "4s", "--stop-timeout", "5", "--host", server.host)
        files = ("--csv", f"{disk}/run", "--csv-full-history", last, f"{disk}/last")
        script = f'mount -t tmpfs -o size={DISK} tmpfs {disk} && exec "$@"'
        with kit.program(
            *(*within, "bash", "-c", script, "bash", kit.LOCUST, "-f", f"{tmp_path}/names.py", *swarm, *files),
            output=tmp_path / "locust",
        ) as locust:
            assert locust.ends() == 0
        lines, _, _ = server.totals()
    assert "Traceback" not in locust.output
    errors = re.findall(r"/ERROR/[\w.]+: (.*)", locust.output)
    assert errors == [
        f"--csv: can't write {disk}/run_*.csv: No space left on device. The CSVs of this run are not complete.",
        f"Can't write {disk}/last{'.json' if last == '--json-file' else ''}: No space left on device",
    ]
    if last == "--html":  # Locust prints no summary beside --json-file
        assert re.search(rf"^ +Aggregated +{lines + 3} +0\(", locust.output, re.MULTILINE)
