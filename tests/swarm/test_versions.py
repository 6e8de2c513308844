"""A master whose workers have other versions of the kit."""

import json
import re
import sys
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from locust_tcp.version import VERSION
from tests import kit
from tests.browser import web

# What each worker of crafted_report_locustfile.py reports as its version; the first has this kit's.
VERSIONS = {1: "unknown", 2: "99.1", 3: "0.1", 4: "unknown", 5: "2.0"}


@pytest.mark.skipif(sys.platform == "win32", reason="--processes forks")
def test_reports_of_other_versions_cost_one_line_for_each_worker(tmp_path: Path) -> None:
    port = str(kit.free_port())
    processes = ("--processes", str(1 + len(VERSIONS)), "--master-bind-port", port, "--master-port", port)
    locustfile = ("-f", "tests/swarm/crafted_report_locustfile.py")
    with (
        kit.server(output=tmp_path / "server") as server,
        web(*locustfile, *processes, output=tmp_path / "locust") as (locust, url),
    ):

        def shown() -> Any:
            with urllib.request.urlopen(f"{url}stats/requests") as response:
                return json.load(response)

        def rows() -> dict[str, dict[str, Any]]:
            (tab,) = (extra for extra in shown()["extended_stats"] if extra["key"] == "generator")
            return {row["name"]: row for row in tab["data"]}

        kit.eventually(lambda: len(shown()["workers"]) == 1 + len(VERSIONS))
        form = urllib.parse.urlencode({"user_count": 12, "spawn_rate": 100, "host": server.host}).encode()
        urllib.request.urlopen(f"{url}swarm", form).close()

        def are_complete(found: dict[str, dict[str, Any]]) -> bool:
            """Return whether each worker whose figures are readable has reported for a while."""
            readable = [found.get(f"worker {index}", {"rate": "-"}) for index in (0, 2, 3)]
            if any(row["rate"] == "-" for row in readable):
                return False
            users = [row["users"] for row in readable]
            return users == [2, 2, 0] and all(row["seconds"] > 2 for row in readable)

        (found,) = kit.eventually(lambda: [found for found in [rows()] if are_complete(found)])
        urllib.request.urlopen(f"{url}stop", b"").close()
        locust.says("Load generator: worker ")

    # What is missing counts as nothing; without seconds there is no row.
    assert set(found) == {"worker 0", "worker 2", "worker 3", "master"}
    assert [row["users"] for row in found.values()] == [2, 2, 0, 0]
    assert found["worker 3"]["cpu"] == 0
    assert "Traceback" not in locust.output
    line = rf"worker (\d) \(\S+\) has kit version (\S+), its master has {re.escape(VERSION)}\."
    logged = re.findall(line, locust.output)
    assert sorted(logged) == [(str(index), version) for index, version in VERSIONS.items()]
