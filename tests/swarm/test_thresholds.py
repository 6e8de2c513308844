"""Thresholds on real swarms: the lines at the end, and the exit code.

All swarms of this file run at the same time: most of their time they wait.
"""

import contextlib
import csv
import io
import json
import re
import sys
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import kit, peers
from tests.browser import web

KEPT, BROKEN, NOT_JUDGED = 0, 1, 2  # the exit codes
DELAY = 0.1  # seconds that a service takes for each answer
BLOCKED = 0.005  # seconds that each request blocks its process: blocking_locustfile.py
USERS = 5
RUN_TIME = 4  # seconds

needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="the lag of users is known by arrival times")

# On a busy machine Locust is saturated, and would not judge: --accept-saturation.
FEW = ("-f", "locustfile.py", "--wait", "0.05", "--users", str(USERS), "--run-time", f"{RUN_TIME}s")
PACED = (*FEW, "--accept-saturation")
BLOCKING = ("-f", "tests/swarm/blocking_locustfile.py", "--users", "8", "--run-time", f"{RUN_TIME}s")
DELAYED = ("--fault", f"delay=1:{1000 * DELAY:.0f}")
HALF_WRONG = ("--fault", "garble=0.5")
LONGER = ("--processes", "2", "--users", "16", "--run-time", "8s")  # as workers report every three seconds

# The server's options, and Locust's
SWARMS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "two processes kept": ((), (*BLOCKING, *LONGER, "--accept-saturation", "--min-rps", "20")),
    "two processes broken": ((), (*BLOCKING, *LONGER, "--accept-saturation", "--min-rps", "450")),
    "two processes failing": (HALF_WRONG, (*PACED, *LONGER, "--max-fail-ratio", "0.1")),
    "kept": (DELAYED, (*PACED, "--max-fail-ratio", "0", "--max-p95", "1000", "--min-rps", "10")),
    "slow": (DELAYED, (*PACED, "--max-p95", "50", "--max-fail-ratio", "0")),
    "few": (DELAYED, (*PACED, "--min-rps", "100", "--max-p95", "5000")),
    "failing": (HALF_WRONG, (*PACED, "--max-fail-ratio", "0.1", "--max-p95", "5000")),
    "all": (
        ("--fault", "delay=0.5:100", *HALF_WRONG),
        (*PACED, "--max-fail-ratio", "0.1", "--max-p95", "50", "--min-rps", "100"),
    ),
    "half may fail": (("--fault", "delay=0.5:100", *HALF_WRONG), (*PACED, "--max-fail-ratio", "0.9", "--min-rps", "5")),
    "never all spawned": ((), (*PACED, "--users", "50", "--spawn-rate", "1", "--max-p95", "1000")),
    "saturated": ((), (*BLOCKING, "--max-p95", "1000")),
    "saturated, accepted": ((), (*BLOCKING, "--max-p95", "1000", "--accept-saturation")),
    "saturated, accepted, few": ((), (*BLOCKING, "--min-rps", "1000", "--accept-saturation")),
    "saturated, few": ((), (*BLOCKING, "--min-rps", "1000")),
    "saturated, failing": (HALF_WRONG, (*BLOCKING, "--max-fail-ratio", "0.1")),
    "no thresholds": ((), PACED),
    "no thresholds, failing": (HALF_WRONG, PACED),
    "no thresholds, failing, exit code": (HALF_WRONG, (*PACED, "--exit-code-on-error", "7")),
}


@pytest.fixture(scope="module")
def swarms(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, kit.Program]]:
    """All swarms, each started after the one before had begun."""
    running = {}
    with contextlib.ExitStack() as stack:
        for name, (service, options) in SWARMS.items():
            folder = tmp_path_factory.mktemp("swarm")
            server = stack.enter_context(kit.server(*service, output=folder / "server"))
            command = [*options, "--headless", "--host", server.host]
            if "--spawn-rate" not in options:
                command += ["--spawn-rate", "100"]
            if "--processes" in options:
                port = str(kit.free_port())
                command += ["--master-bind-port", port, "--master-port", port]
            locust = stack.enter_context(kit.program(kit.LOCUST, *command, output=folder / "locust"))
            locust.says("Ramping to |Sending spawn jobs")  # so that they don't all start in the same second
            running[name] = locust
        yield running


def lines(locust: kit.Program, code: int) -> list[str]:
    """Wait for a swarm's end and its exit code; return the lines about thresholds."""
    assert locust.ends() == code, locust.output
    assert "Traceback" not in locust.output
    return re.findall(r"Thresholds (.*)$", locust.output, re.MULTILINE)


def test_thresholds_that_are_kept(swarms: dict[str, kit.Program]) -> None:
    (line,) = lines(swarms["kept"], KEPT)
    match = re.fullmatch(r"kept, in (\d+) s with all users", line)
    assert match
    assert 1 <= int(match[1]) <= RUN_TIME + 1


def test_a_threshold_of_latency_is_broken_with_figure_and_bound(swarms: dict[str, kit.Program]) -> None:
    (line,) = lines(swarms["slow"], BROKEN)
    match = re.fullmatch(r"broken: the 95th percentile was (\S+) ms, at most 50 ms", line)
    assert match
    assert float(match[1]) >= 1000 * DELAY


def test_a_threshold_of_goodput_is_broken_with_figure_and_bound(swarms: dict[str, kit.Program]) -> None:
    (line,) = lines(swarms["few"], BROKEN)
    match = re.fullmatch(r"broken: goodput was (\S+) requests/s, at least 100", line)
    assert match
    assert 0 < float(match[1]) <= USERS / DELAY


def test_a_threshold_of_failures_is_broken_with_figure_and_bound(swarms: dict[str, kit.Program]) -> None:
    (line,) = lines(swarms["failing"], BROKEN)
    match = re.fullmatch(r"broken: (\S+) % of the requests failed, at most 10 %", line)
    assert match
    assert 30 < float(match[1]) < 70


def test_each_broken_threshold_has_a_line(swarms: dict[str, kit.Program]) -> None:
    failures, latency, rate = lines(swarms["all"], BROKEN)
    assert failures.endswith("of the requests failed, at most 10 %")
    assert latency.endswith("ms, at most 50 ms")
    assert rate.endswith("requests/s, at least 100")


def test_a_kept_threshold_is_exit_code_0_though_requests_failed(swarms: dict[str, kit.Program]) -> None:
    (line,) = lines(swarms["half may fail"], KEPT)
    assert line.startswith("kept, ")


def test_requests_of_the_ramp_up_do_not_count(tmp_path: Path) -> None:
    port = kit.free_port()
    options = ("--users", "20", "--spawn-rate", "4", "--run-time", "9s", "--wait", "0.2", "--max-fail-ratio", "0")
    command = (kit.LOCUST, "-f", "locustfile.py", "--headless", "--host", f"tcp://127.0.0.1:{port}", *options)
    # Other programs may hold Locust up: --accept-saturation.
    with kit.program(*command, "--accept-saturation", output=tmp_path / "locust") as locust:
        locust.says(r"^TCP +connect +\d+ +[1-9]")  # nobody listens, and a part of the users is there
        assert "All users spawned" not in locust.output
        with peers.peer(peers.capitalizing, port):  # listens at once, as no program can
            (line,) = lines(locust, KEPT)
    assert line.startswith("kept, ")
    assert "connect: refused" in locust.output


def test_failures_with_all_users_count(tmp_path: Path) -> None:
    # The counterpart: the same failures, later.
    options = ("--users", "5", "--spawn-rate", "100", "--run-time", "6s", "--wait", "0.2", "--max-fail-ratio", "0")
    with kit.server(output=tmp_path / "server") as server:
        command = (kit.LOCUST, "-f", "locustfile.py", "--headless", "--host", server.host, *options)
        with kit.program(*command, output=tmp_path / "locust") as locust:
            locust.says(r"^TCP +word +[1-9]")
            assert server.stop() == 0
            (line,) = lines(locust, BROKEN)
    assert re.fullmatch(r"broken: \S+ % of the requests failed, at most 0 %", line)


def test_without_requests_a_run_is_not_judged(tmp_path: Path) -> None:
    with peers.peer(peers.mute) as port:
        command = (kit.LOCUST, *PACED, "--headless", "--host", f"tcp://127.0.0.1:{port}", "--max-p95", "1000")
        with kit.program(*command, output=tmp_path / "locust") as locust:
            assert lines(locust, NOT_JUDGED) == ["not judged: no requests after all users were spawned"]


def test_before_all_users_are_spawned_a_run_is_not_judged(swarms: dict[str, kit.Program]) -> None:
    assert lines(swarms["never all spawned"], NOT_JUDGED) == ["not judged: no requests after all users were spawned"]


@needs_linux
def test_a_saturated_locust_does_not_judge(swarms: dict[str, kit.Program]) -> None:
    (line,) = lines(swarms["saturated"], NOT_JUDGED)
    assert re.fullmatch(r"not judged: Locust is saturated: .* To judge all the same: --accept-saturation\.", line)
    broken, not_judged = lines(swarms["saturated, few"], NOT_JUDGED)
    assert broken.endswith("requests/s, at least 1000")
    assert not_judged.startswith("not judged: Locust is saturated: ")


def test_a_saturated_locust_judges_where_that_is_accepted(swarms: dict[str, kit.Program]) -> None:
    (kept,) = lines(swarms["saturated, accepted"], KEPT)
    assert kept.startswith("kept, ")
    (broken,) = lines(swarms["saturated, accepted, few"], BROKEN)
    match = re.fullmatch(r"broken: goodput was (\S+) requests/s, at least 1000", broken)
    assert match
    assert float(match[1]) <= 1.05 / BLOCKED


def test_requests_that_fail_are_the_services_though_locust_is_saturated(swarms: dict[str, kit.Program]) -> None:
    (line,) = lines(swarms["saturated, failing"], BROKEN)
    assert line.endswith("of the requests failed, at most 10 %")


def test_workers_are_judged_together(swarms: dict[str, kit.Program]) -> None:
    (line,) = lines(swarms["two processes kept"], KEPT)
    assert line.startswith("kept, ")
    (line,) = lines(swarms["two processes failing"], BROKEN)
    assert line.endswith("of the requests failed, at most 10 %")


def test_the_goodput_of_workers_is_not_higher_than_they_can_reach(swarms: dict[str, kit.Program]) -> None:
    (line,) = lines(swarms["two processes broken"], BROKEN)
    match = re.fullmatch(r"broken: goodput was (\S+) requests/s, at least 450", line)
    assert match
    # These bounds hold on any machine: each request blocks its process for BLOCKED seconds.
    assert float(match[1]) <= 1.05 * 2 / BLOCKED


def test_without_thresholds_the_exit_codes_are_locusts_own(swarms: dict[str, kit.Program]) -> None:
    assert lines(swarms["no thresholds"], 0) == []
    assert lines(swarms["no thresholds, failing"], 1) == []
    assert lines(swarms["no thresholds, failing, exit code"], 7) == []


@pytest.mark.parametrize(
    ("option", "value", "sentence"),
    [
        ("--max-fail-ratio", "2", "'2' is not a share from 0 to 1"),
        ("--max-fail-ratio", "-0.1", "'-0.1' is not a number of requests that may fail from 0"),
        ("--max-p95", "fast", "'fast' is not a number of milliseconds from 0"),
        ("--min-rps", "nan", "'nan' is not a number of requests per second from 0"),
    ],
)
def test_a_bad_value_is_one_clear_line(tmp_path: Path, option: str, value: str, sentence: str) -> None:
    command = (kit.LOCUST, "-f", "locustfile.py", "--headless", f"{option}={value}")
    with kit.program(*command, output=tmp_path / "locust") as locust:
        assert locust.ends() == 2
    assert f"error: argument {option}: {sentence}" in locust.output.splitlines()[-1]
    assert "Traceback" not in locust.output


def test_the_thresholds_of_the_start_form_are_judged_at_stop(tmp_path: Path) -> None:
    with (
        kit.server(*HALF_WRONG, output=tmp_path / "server") as server,
        web(output=tmp_path / "locust") as (locust, url),
    ):

        def post(**thresholds: str) -> bool:
            """Press Start; return whether the test started."""
            form = {"user_count": "2", "spawn_rate": "10", "wait": "0.05", "host": server.host, **thresholds}
            with urllib.request.urlopen(f"{url}swarm", urllib.parse.urlencode(form).encode()) as response:
                return bool(json.load(response)["success"])

        def stop() -> None:
            urllib.request.urlopen(f"{url}stop", b"").close()

        assert not post(max_fail_ratio="2")
        assert post(max_fail_ratio="1")
        kit.eventually(lambda: requests(url) > 50)
        stop()
        locust.says("Load generator:")
        assert "Thresholds" not in locust.output, "there were none"

        assert post(max_fail_ratio="0.1")
        kit.eventually(lambda: locust.output.count("All users spawned") == 2)
        kit.eventually(lambda: requests(url) > 50)
        assert "Thresholds" not in locust.output
        stop()
        locust.says(r"Thresholds broken: \S+ % of the requests failed, at most 10 %")


def requests(url: str) -> int:
    """Return how many requests Locust has counted, from the CSV: the page's may be a second old."""
    with urllib.request.urlopen(f"{url}stats/requests/csv") as response:
        return sum(int(row["Request Count"]) for row in csv.DictReader(io.TextIOWrapper(response, "utf-8")))
