"""patches/worker_reports.py: rates follow the master's clock."""

import os
import re
import sys
from pathlib import Path

import pytest

from tests import kit

SECONDS = 9


@pytest.mark.skipif(sys.platform == "win32", reason="--processes forks")
@pytest.mark.parametrize("clock", ["3600", "-5"])
def test_a_worker_whose_clock_is_wrong_is_named_and_leaves_the_rate_right(tmp_path: Path, clock: str) -> None:
    port = str(kit.free_port())
    processes = ("--processes", "2", "--master-bind-port", port, "--master-port", port)
    locustfile = ("-f", kit.KIT / "tests/swarm/wrong_clock_locustfile.py", "--csv", tmp_path / "run")
    options = ("--headless", "--users", "4", "--spawn-rate", "4", "--run-time", f"{SECONDS}s")
    environment = os.environ | {"CLOCK": clock, "CLAIM": str(tmp_path / "claim")}
    with kit.server(output=tmp_path / "server") as server:
        command = (kit.LOCUST, *locustfile, *options, *processes, "--host", server.host)
        with kit.program(*command, output=tmp_path / "log", environment=environment) as locust:
            assert locust.ends() == 0, locust.output
    *_, total = kit.rows(tmp_path / "run_stats.csv")
    on_average = int(total["Request Count"]) / SECONDS
    assert float(total["Requests/s"]) == pytest.approx(on_average, rel=0.3)
    current = re.findall(r"Aggregated .*\| +([\d.]+) +[\d.]+$", locust.output, re.MULTILINE)
    assert max(map(float, current)) == pytest.approx(on_average, rel=0.3)
    direction = "ahead" if float(clock) > 0 else "behind"
    (line,) = re.findall(r"The clock of worker \S+ is (\S+) s " + direction, locust.output)
    assert float(line) == pytest.approx(abs(float(clock)), abs=1)
