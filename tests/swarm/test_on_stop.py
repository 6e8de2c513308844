"""user.py: a user that is stopped runs its on_stop to the end, and Locust counts what the service has answered."""

from pathlib import Path

from tests import kit

USERS = "300"
LONG = f"{kit.PATIENCE:g}s"


def test_on_stop_runs_to_its_end_and_every_exchange_is_counted(tmp_path: Path) -> None:
    locustfile = ("-f", kit.KIT / "tests/swarm/on_stop_locustfile.py", "--csv", tmp_path / "run")
    options = ("--headless", "--users", USERS, "--spawn-rate", USERS, "--run-time", "3s", "--stop-timeout", LONG)
    with kit.server(output=tmp_path / "server") as server:
        command = (kit.LOCUST, *locustfile, *options, "--host", server.host)
        with kit.program(*command, output=tmp_path / "log") as locust:
            assert locust.ends() == 0, locust.output
        lines, _, errors = server.totals()
    counts = {row["Name"]: int(row["Request Count"]) for row in kit.rows(tmp_path / "run_stats.csv")}
    assert counts["logout"] == int(USERS)
    assert (lines, errors) == (counts["login"] + counts["word"] + 2 * counts["logout"], 0)
