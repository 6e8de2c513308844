"""A swarm of one process that has no time left: its users are treated alike, and its deadlines hold."""

import json
import re

import pytest

from tests import kit

USERS = 200
SECONDS = 5
TIMEOUT = 1.0  # seconds, in full_load_locustfile.py: threads may wait for a part of one on a busy machine
STALLS = 0.0005  # of the replies: so that there are some each second, and most users never meet one


@pytest.fixture(scope="module")
def swarm(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[int], list[tuple[str, float]], str]:
    """Return each user's number of requests, the failures with their times in milliseconds, and the server's totals."""
    folder = tmp_path_factory.mktemp("full-load")
    with kit.server("--fault", f"stall={STALLS}", output=folder / "server") as server:
        command = ("-f", "tests/swarm/full_load_locustfile.py", "--headless", "--host", server.host)
        load = ("-u", str(USERS), "-r", str(USERS), "-t", f"{SECONDS}s", "--stop-timeout", "1")
        with kit.program(kit.LOCUST, *command, *load, output=folder / "locust") as locust:
            told = json.loads(locust.says("^told: (.*)$")[1])
        assert server.stop() == 0
        return told["made"], told["failures"], server.output.splitlines()[-1]


def test_every_user_has_its_turn(swarm: tuple[list[int], list[tuple[str, float]], str]) -> None:
    made, _, _ = swarm
    assert len(made) == USERS
    assert min(made) >= sum(made) / USERS / 2


def test_no_deadline_is_over_before_its_time(swarm: tuple[list[int], list[tuple[str, float]], str]) -> None:
    _, failures, totals = swarm
    assert failures
    assert {failure for failure, _ in failures} == {"reply: timed out"}
    assert all(taken >= TIMEOUT * 1000 for _, taken in failures)
    stalls = re.search(r"(\d+) stall", totals)
    assert stalls, totals
    assert len(failures) == int(stalls[1])  # none but those that were to fail
