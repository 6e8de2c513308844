"""A TcpUser's tasks in a real swarm: methods, weights, nested sets and tags, as with any user of Locust."""

from pathlib import Path

import pytest

from tests import kit


def counts(folder: Path, *options: str) -> dict[str, int]:
    """Return how often each task ran in a short swarm."""
    with kit.server(output=folder / "server") as server:
        swarm = ("-f", "tests/swarm/tasks_locustfile.py", "--headless", "-u", "4", "-r", "4")
        results = ("--host", server.host, "--csv", folder / "run")
        with kit.program(kit.LOCUST, *swarm, *results, *options, output=folder / "log") as locust:
            assert locust.ends() == 0, locust.output
        assert "Traceback" not in locust.output
    rows = {row["Name"]: int(row["Request Count"]) for row in kit.rows(folder / "run_stats.csv")}
    return {name: rows[name] for name in rows if name not in ("connect", "Aggregated")}


@pytest.mark.parametrize(
    ("user", "often", "seldom", "ratio"),
    [("Methods", "often", "seldom", 3), ("Weights", "first", "second", 3), ("Nested", "leave", "outside", 1)],
)
def test_tasks_run_by_their_weight(user: str, often: str, seldom: str, ratio: float, tmp_path: Path) -> None:
    ran = counts(tmp_path, user)
    assert ran.keys() == {often, seldom} | ({"inside"} if user == "Nested" else set())
    assert 0.7 * ratio < ran[often] / ran[seldom] < 1.4 * ratio


@pytest.mark.parametrize(
    ("user", "option", "names"),
    [("Methods", "--tags", {"seldom"}), ("Nested", "--exclude-tags", {"inside", "leave"})],
)
def test_tags_choose_among_tasks(user: str, option: str, names: set[str], tmp_path: Path) -> None:
    assert counts(tmp_path, user, option, "rare").keys() == names
