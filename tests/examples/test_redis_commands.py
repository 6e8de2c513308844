"""examples/redis_commands.py on Redis: killed users log in again, and both sides' accounts agree."""

import re
from pathlib import Path

from tests import kit
from tests.examples.redis_server import Redis, redis
from tests.examples.swarms import CLOSED, USERS, swarm

EXAMPLE = "redis_commands.py"
PASSWORD = "sesame"
DATABASE = "5"
PIPELINE = 10  # commands
KILLS = 2


def await_users(server: Redis, logins: int) -> None:
    """Wait until each user has logged in a number of times, and fifty values more are read."""
    kit.eventually(lambda: server.calls("select") == logins * USERS)
    enough = server.calls("get") + 50
    kit.eventually(lambda: server.calls("get") >= enough)


def test_killed_users_log_in_again_and_both_sides_accounts_agree(tmp_path: Path) -> None:
    settings = {"REDIS_PASSWORD": PASSWORD, "REDIS_DATABASE": DATABASE}
    with redis(tmp_path, PASSWORD) as server, swarm(EXAMPLE, port=server.port, folder=tmp_path, **settings) as locust:
        for logins in range(1, KILLS + 1):
            await_users(server, logins)
            assert server.kill("normal") == USERS
        await_users(server, KILLS + 1)
        locust.stop()
        requests, failed = locust.requests(), locust.failed()
        calls = {name: server.calls(name.lower()) for name in requests}
        databases = re.findall(r"^db(\d+):", server.ask("INFO keyspace"), re.MULTILINE)
        assert databases == [DATABASE]
        server.ask(f"SELECT {DATABASE}")
        count = int(server.ask("GET locust:count"))

    assert requests["connect"] == requests["AUTH"] == requests["SELECT"] == calls["SELECT"] == (KILLS + 1) * USERS
    assert calls["AUTH"] == requests["AUTH"] + 1  # the test's own
    assert locust.exceptions() == []
    assert locust.texts() <= CLOSED
    assert set(failed) <= {"SET", "GET", "INCR"}
    assert requests["INCR"] % PIPELINE == 0
    # A killed connection fails one command, or all that is left of a pipeline.
    pipelines = KILLS * USERS - failed["SET"] - failed["GET"]
    assert pipelines <= failed["INCR"] <= pipelines * PIPELINE
    for name in ("SET", "GET", "INCR"):
        assert requests[name] - failed[name] <= calls[name] <= requests[name]
    assert count == calls["INCR"]


def test_a_wrong_password_ends_the_login(tmp_path: Path) -> None:
    with redis(tmp_path, PASSWORD) as server:
        with swarm(EXAMPLE, port=server.port, folder=tmp_path, REDIS_PASSWORD="wrong") as locust:
            kit.eventually(lambda: server.calls("auth") > 3 * USERS)
            locust.stop()
        requests, failed = locust.requests(), locust.failed()
        assert server.calls("auth") == requests["AUTH"] + 1
        assert server.ask("DBSIZE") == "0"
    assert set(requests) == {"connect", "AUTH", "Aggregated"}
    assert failed == {"AUTH": requests["AUTH"]}
    assert locust.texts() == {"reply: WRONGPASS"}
    assert locust.exceptions() == []
