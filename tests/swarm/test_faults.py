"""Each fault of the server, as a swarm reports it: one text, at the rate asked for, and both sides' accounts agree."""

import math
import re
from pathlib import Path

import pytest

from tests import kit

RATE = 0.2
SWARM = ("--headless", "--users", "20", "--spawn-rate", "100", "--run-time", "3s", "--wait", "0.05", "--timeout", "0.5")
FAULTS = {
    "stall": "reply: timed out",
    "drip": "reply: timed out",
    "truncate": "reply: closed halfway",
    "garble": "reply: wrong",
    "close": "reply: closed",
    "reset": "reply: reset",
    "refuse": "reply: reset",
}
TOO = {"refuse": {"send: reset"}}  # where the reset came before the request was sent


def struck(server: kit.Server) -> dict[str, int]:
    """Return how often each fault has struck, as the server's last line tells."""
    told = re.findall(r", (\d+) ([a-z]+)", server.output.splitlines()[-1])
    return {kind: int(count) for count, kind in told if kind != "errors"}


@pytest.mark.parametrize("kind", FAULTS)
def test_a_fault_is_one_kind_of_failure_at_its_rate(tmp_path: Path, kind: str) -> None:
    with kit.server("--fault", f"{kind}={RATE}", output=tmp_path / "server") as server:
        lives = "per-request" if kind == "refuse" else "persistent"  # refuse strikes connections
        options = ("--host", server.host, "--csv", str(tmp_path / "run"), "--connection", lives)
        with kit.program(kit.LOCUST, *SWARM, *options, output=tmp_path / "locust") as locust:
            assert locust.ends() == 1
        answered, connections, errors = server.totals()

    texts = {row["Error"] for row in kit.rows(tmp_path / "run_failures.csv")}
    assert FAULTS[kind] in texts <= {FAULTS[kind], *TOO.get(kind, ())}
    rows = {row["Name"]: row for row in kit.rows(tmp_path / "run_stats.csv")}
    total, connects = rows["Aggregated"], rows["connect"]
    requests = int(total["Request Count"]) - int(connects["Request Count"])
    failures = int(total["Failure Count"])
    assert (int(connects["Request Count"]), int(connects["Failure Count"])) == (connections, 0)
    assert (answered, errors, struck(server)[kind]) == (requests - failures, 0, failures)
    chance = 5 * math.sqrt(RATE * (1 - RATE) / requests)  # five standard deviations
    assert abs(failures / requests - RATE) < chance


def test_a_delay_is_no_failure_but_takes_its_time(tmp_path: Path) -> None:
    with kit.server("--fault", "delay=0.5:100~50", output=tmp_path / "server") as server:
        options = ("--host", server.host, "--csv", str(tmp_path / "run"))
        with kit.program(kit.LOCUST, *SWARM, *options, output=tmp_path / "locust") as locust:
            assert locust.ends() == 0
        answered, connections, _ = server.totals()
    rows = {row["Name"]: row for row in kit.rows(tmp_path / "run_stats.csv")}
    assert int(rows["Aggregated"]["Request Count"]) == answered + connections
    assert 0.4 < struck(server)["delay"] / answered < 0.6
    assert float(rows["word"]["75%"]) >= 50
    assert 100 <= float(rows["word"]["99%"]) < 400


def test_faults_together_leave_the_accounts_in_agreement(tmp_path: Path) -> None:
    faults = [f"--fault={kind}=0.05" for kind in ("truncate", "garble", "close", "reset")]
    with kit.server(*faults, output=tmp_path / "server") as server:
        options = ("--host", server.host, "--csv", str(tmp_path / "run"))
        with kit.program(kit.LOCUST, *SWARM, *options, output=tmp_path / "locust") as locust:
            assert locust.ends() == 1
        answered, connections, _ = server.totals()
    failed: dict[str, int] = {}
    for row in kit.rows(tmp_path / "run_failures.csv"):
        failed[row["Error"]] = failed.get(row["Error"], 0) + int(row["Occurrences"])
    assert failed == {FAULTS[kind]: count for kind, count in struck(server).items()}
    (total,) = [row for row in kit.rows(tmp_path / "run_stats.csv") if row["Name"] == "Aggregated"]
    assert int(total["Request Count"]) == answered + connections + sum(failed.values())
