"""nomercy.py on a service whose limit is known."""

from pathlib import Path

from tests import kit

QUICK = ("-f", "locustfile.py,nomercy.py", "--headless", "--step-time", "4", "--wait", "0.1")


def test_it_finds_where_failures_begin(tmp_path: Path) -> None:
    with kit.server("--pool", "20", output=tmp_path / "server") as server:
        options = ("--host", server.host, "--timeout", "0.5")
        with kit.program(kit.LOCUST, *QUICK, *options, output=tmp_path / "locust") as locust:
            assert locust.ends() == 1
    for users in (10, 20):
        locust.says(rf"No mercy: {users} users, .* 0.00 % failures")
    locust.says("No mercy: failures began at 40 users; the highest rate .* requests/s at 20 users")


def test_it_ends_where_it_is_told(tmp_path: Path) -> None:
    with kit.server(output=tmp_path / "server") as server:
        options = ("--host", server.host, "--start-users", "2", "--max-users", "3")
        with kit.program(kit.LOCUST, *QUICK, *options, output=tmp_path / "locust") as locust:
            assert locust.ends() == 0
    locust.says("No mercy: nothing broke up to 3 users; the highest rate .* requests/s at 3 users")
