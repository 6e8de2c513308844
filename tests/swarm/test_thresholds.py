"""Thresholds on real swarms: the lines at the end, and the exit code.

All swarms of this file run at the same time: most of their time they wait.
"""

import contextlib
import csv
import io
import itertools
import json
import re
import socket
import sys
import time
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
ALL_WRONG = ("--fault", "garble=1")
LONGER = ("--processes", "2", "--users", "16", "--run-time", "8s")  # workers report every three seconds ...
SHORT = ("--processes", "2", "--users", "16", "--run-time", "2s")  # ... and a run may be shorter than that
STAGES = ("-f", "locustfile.py,tests/swarm/stages_locustfile.py", "--wait", "0.05", "--accept-saturation")
RAISING = ("-f", "locustfile.py,tests/swarm/raising_locustfile.py", *PACED[2:])
NOTHING_LISTENS = ("--host", "tcp://127.0.0.1:1")  # a port that needs privileges: no test's server has it

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
    "two processes, short": ((), (*PACED, *SHORT, "--max-p95", "1000", "--min-rps", "5")),
    "two processes, short, failing": (HALF_WRONG, (*PACED, *SHORT, "--max-fail-ratio", "0.1")),
    "nothing listens": ((), (*PACED, *NOTHING_LISTENS, "--max-p95", "5")),
    "nothing listens, two processes": ((), (*PACED, *SHORT, *NOTHING_LISTENS, "--max-p95", "5")),
    "all wrong": (ALL_WRONG, (*PACED, "--max-p95", "5000", "--min-rps", "0.1")),
    "half wrong": (HALF_WRONG, (*PACED, "--max-p95", "5000")),
    "half wrong, exit code": (HALF_WRONG, (*PACED, "--max-p95", "5000", "--exit-code-on-error", "7")),
    "half of a row wrong": (HALF_WRONG, (*PACED, "--threshold", "word fail_ratio < 0.9")),
    "raising": ((), (*RAISING, "--max-p95", "5000", "--max-fail-ratio", "0.5")),
    "stages": (DELAYED, (*STAGES, "--max-p50", "5000", "--max-fail-ratio", "0")),
    "stages, slow": (DELAYED, (*STAGES, "--max-p95", "50")),
    "stages, two processes": (DELAYED, (*STAGES, "--processes", "2", "--max-p95", "50")),
    "rows": (
        DELAYED,
        (*PACED, "--threshold", "word p50 < 50, connect p50 < 5000", "--threshold", "long line rps > 0.1, p(50)>50"),
    ),
    "no such row": (DELAYED, (*PACED, "--threshold", "wrd p50 < 5000")),
    "percentiles": (DELAYED, (*PACED, "--max-p50", "50", "--max-p99", "5000", "--max-p999", "5000")),
    "saturated": ((), (*BLOCKING, "--max-p95", "1000")),
    "saturated, slow": ((), (*BLOCKING, "--max-p50", "0.00001")),
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
            command = ["--headless", "--host", server.host, *options]
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
    assert "Traceback" not in locust.output or "a mistake in the locustfile" in locust.output
    return re.findall(r"Thresholds (.*)$", locust.output, re.MULTILINE)


CONFIDENCE = r"\((\S+) to (\S+) ms with 95 % confidence\)"


def test_thresholds_that_are_kept(swarms: dict[str, kit.Program]) -> None:
    failures, latency, rate, line = lines(swarms["kept"], KEPT)
    assert failures == "kept: 0 % of the requests failed, at most 0 %"
    match = re.fullmatch(rf"kept: the 95th percentile was (\S+) ms {CONFIDENCE}, at most 1000 ms", latency)
    assert match
    assert 1000 * DELAY <= float(match[2]) <= float(match[1]) <= float(match[3])
    assert re.fullmatch(r"kept: goodput was \S+ requests/s, at least 10", rate)
    match = re.fullmatch(r"kept, in (\d+) s with all users", line)
    assert match
    assert 1 <= int(match[1]) <= RUN_TIME + 1


def test_a_threshold_of_latency_is_broken_with_figure_and_bound(swarms: dict[str, kit.Program]) -> None:
    failures, latency = lines(swarms["slow"], BROKEN)
    assert failures.startswith("kept: ")
    match = re.fullmatch(rf"broken: the 95th percentile was (\S+) ms {CONFIDENCE}, at most 50 ms", latency)
    assert match
    assert 1000 * DELAY <= float(match[2]) <= float(match[1])


def test_a_threshold_of_goodput_is_broken_with_figure_and_bound(swarms: dict[str, kit.Program]) -> None:
    _, line = lines(swarms["few"], BROKEN)
    match = re.fullmatch(r"broken: goodput was (\S+) requests/s, at least 100", line)
    assert match
    assert 0 < float(match[1]) <= USERS / DELAY


def test_a_threshold_of_failures_is_broken_with_figure_and_bound(swarms: dict[str, kit.Program]) -> None:
    latency, line = lines(swarms["failing"], BROKEN)
    assert latency.startswith("kept: the 95th percentile ")
    match = re.fullmatch(r"broken: (\S+) % of the requests failed, at most 10 %", line)
    assert match
    assert 30 < float(match[1]) < 70


def test_each_broken_threshold_has_a_line(swarms: dict[str, kit.Program]) -> None:
    failures, latency, rate = lines(swarms["all"], BROKEN)
    assert failures.endswith("of the requests failed, at most 10 %")
    assert latency.endswith(", at most 50 ms")
    assert rate.endswith("requests/s, at least 100")


def test_a_kept_threshold_is_exit_code_0_though_requests_failed(swarms: dict[str, kit.Program]) -> None:
    *_, line = lines(swarms["half may fail"], KEPT)
    assert re.fullmatch(r"kept, in \d+ s with all users", line)


def test_requests_of_the_ramp_up_do_not_count(tmp_path: Path) -> None:
    port = kit.free_port()
    options = ("--users", "20", "--spawn-rate", "4", "--run-time", "9s", "--wait", "0.2", "--max-fail-ratio", "0")
    command = (kit.LOCUST, "-f", "locustfile.py", "--headless", "--host", f"tcp://127.0.0.1:{port}", *options)
    # Other programs may hold Locust up: --accept-saturation.
    with kit.program(*command, "--accept-saturation", output=tmp_path / "locust") as locust:
        locust.says(r"^TCP +connect +\d+ +[1-9]")  # nobody listens, and a part of the users is there
        assert "All users spawned" not in locust.output
        with peers.peer(peers.capitalizing, port):  # listens at once, as no program can
            *_, line = lines(locust, KEPT)
    assert re.fullmatch(r"kept, in \d+ s with all users \(before that, [1-9]\d* requests failed\)", line)
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


def test_a_service_that_becomes_slow_is_not_judged_by_both_of_its_times(tmp_path: Path) -> None:
    # Of 1500 quick replies and 1000 slow ones the median is quick.
    answered = itertools.count(1)
    count = 0

    def tiring(sock: socket.socket) -> None:
        nonlocal count
        with sock.makefile("rb") as lines:
            for line in lines:
                count = next(answered)
                if count > 1500:
                    time.sleep(0.03)
                sock.sendall(line.decode().upper().encode())

    with peers.peer(tiring) as port:
        options = ("--users", "10", "--spawn-rate", "100", "--wait", "0.02", "--accept-saturation", "--max-p50", "15")
        command = (kit.LOCUST, "-f", "locustfile.py", "--headless", "--host", f"tcp://127.0.0.1:{port}", *options)
        with kit.program(*command, output=tmp_path / "locust") as locust:
            kit.eventually(lambda: count > 2500)
            locust.process.terminate()
            (line,) = lines(locust, NOT_JUDGED)
    match = re.fullmatch(
        r"not judged: the 50th percentile was (\S+) ms in the first \d+ s and (\S+) ms in the rest, "
        "at most 15 ms: the run was not steady",
        line,
    )
    assert match
    assert float(match[1]) < 15 < 30 <= float(match[2])


def test_without_requests_a_run_is_not_judged(tmp_path: Path) -> None:
    with peers.peer(peers.mute) as port:
        options = (*PACED, "--spawn-rate", "100", "--host", f"tcp://127.0.0.1:{port}", "--max-p95", "1000")
        command = (kit.LOCUST, "--headless", *options, "--timeout", "60")  # no request ends before the run does
        with kit.program(*command, output=tmp_path / "locust") as locust:
            assert lines(locust, NOT_JUDGED) == ["not judged: no requests after all users were spawned"]


def test_a_short_run_of_workers_is_judged(swarms: dict[str, kit.Program]) -> None:
    *_, line = lines(swarms["two processes, short"], KEPT)
    match = re.fullmatch(r"kept, in (\d+) s with all users", line)
    assert match
    assert int(match[1]) <= 3
    (line,) = lines(swarms["two processes, short, failing"], BROKEN)
    assert line.endswith("of the requests failed, at most 10 %")


def test_nothing_that_succeeded_is_never_kept(swarms: dict[str, kit.Program]) -> None:
    for name in ("nothing listens", "nothing listens, two processes"):
        (line,) = lines(swarms[name], BROKEN)
        assert re.fullmatch(r"broken: none of [1-9]\d* requests succeeded, mostly 'connect: refused'", line)
    (line,) = lines(swarms["all wrong"], BROKEN)
    assert re.fullmatch(r"broken: none of [1-9]\d* requests succeeded, mostly 'reply: wrong'", line)


def test_a_kept_threshold_leaves_locusts_own_exit_code(swarms: dict[str, kit.Program]) -> None:
    for name, code in (("half wrong", 1), ("half wrong, exit code", 7), ("half of a row wrong", 1)):
        *_, line = lines(swarms[name], code)
        assert re.fullmatch(
            r"kept, in \d+ s with all users; but [1-9]\d* requests failed \(--max-fail-ratio says how many may\): "
            "Locust's own exit code stands",
            line,
        )


def test_exceptions_of_the_locustfile_count(swarms: dict[str, kit.Program]) -> None:
    *_, line = lines(swarms["raising"], 1)
    assert line.endswith(" s with all users; but the locustfile raised exceptions: Locust's own exit code stands")


def test_a_load_shape_is_judged_as_a_whole(swarms: dict[str, kit.Program]) -> None:
    *_, line = lines(swarms["stages"], KEPT)
    match = re.fullmatch(r"kept, in (\d+) s with all users", line)
    assert match
    assert int(match[1]) >= 3, "longer than any of its stages"
    for name in ("stages, slow", "stages, two processes"):
        (line,) = lines(swarms[name], BROKEN)
        assert line.startswith("broken: the 95th percentile was ")


def test_a_threshold_of_a_row_names_it(swarms: dict[str, kit.Program]) -> None:
    *others, word, connect = lines(swarms["rows"], BROKEN)
    assert re.fullmatch(rf"broken: word: the 50th percentile was \S+ ms {CONFIDENCE}, below 50 ms", word)
    assert [re.sub(r" was .*,", " was ...,", line) for line in others] == [
        "kept: long line: goodput was ..., above 0.1",
        "kept: the 50th percentile was ..., above 50 ms",
    ]
    assert re.fullmatch(
        f"not judged: connect: the 50th percentile needs 6 requests with a response time, there were [0-{USERS}]|"
        "not judged: connect: there were no such requests",
        connect,
    )
    (line,) = lines(swarms["no such row"], NOT_JUDGED)
    assert line == "not judged: wrd: there were no such requests"


def test_a_percentile_of_too_few_requests_is_not_judged(swarms: dict[str, kit.Program]) -> None:
    p50, p99, p999 = lines(swarms["percentiles"], BROKEN)
    assert p50.startswith("broken: the 50th percentile was ")
    for line, words in ((p99, "99th percentile needs 368"), (p999, "99.9th percentile needs 3,688")):
        match = re.fullmatch(rf"not judged: the {words} requests with a response time, there were (\d+)", line)
        assert match
        assert int(match[1]) <= USERS * (RUN_TIME + 1) / DELAY


def test_before_all_users_are_spawned_a_run_is_not_judged(swarms: dict[str, kit.Program]) -> None:
    (line,) = lines(swarms["never all spawned"], NOT_JUDGED)
    match = re.fullmatch(r"not judged: only (\d+) of 50 users had started when the run ended\. Spawn .*", line)
    assert match, line
    assert 1 <= int(match[1]) <= 10  # one a second


@needs_linux
def test_a_saturated_locust_judges_times_by_the_kernel_and_not_the_goodput(swarms: dict[str, kit.Program]) -> None:
    latency, line = lines(swarms["saturated"], KEPT)
    assert latency.startswith("kept: the 95th percentile was ")
    assert line.startswith("kept, ")
    (latency,) = lines(swarms["saturated, slow"], BROKEN)
    assert latency.startswith("broken: the 50th percentile was ")
    (rate,) = lines(swarms["saturated, few"], NOT_JUDGED)
    assert re.fullmatch(
        r"not judged: goodput was \S+ requests/s, at least 1000\. Replies wait mostly for Locust: .* "
        r"To judge all the same: --accept-saturation\.",
        rate,
    )


def test_a_saturated_locust_judges_where_that_is_accepted(swarms: dict[str, kit.Program]) -> None:
    *_, kept = lines(swarms["saturated, accepted"], KEPT)
    assert kept.startswith("kept, ")
    (broken,) = lines(swarms["saturated, accepted, few"], BROKEN)
    match = re.fullmatch(r"broken: goodput was (\S+) requests/s, at least 1000", broken)
    assert match
    assert float(match[1]) <= 1.05 / BLOCKED


def test_requests_that_fail_are_the_services_though_locust_is_saturated(swarms: dict[str, kit.Program]) -> None:
    (line,) = lines(swarms["saturated, failing"], BROKEN)
    assert line.endswith("of the requests failed, at most 10 %")


def test_workers_are_judged_together(swarms: dict[str, kit.Program]) -> None:
    _, line = lines(swarms["two processes kept"], KEPT)
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
        ("--max-fail-ratio", "2", "'2' is not a share of the requests from 0 to 1, such as 0.01 for 1 %"),
        ("--max-fail-ratio", "5%", "'5%' is not a share of the requests from 0 to 1, such as 0.01 for 1 %"),
        ("--max-p95", "fast", "'fast' is not a number of milliseconds, 0 or more"),
        ("--min-rps", "nan", "'nan' is not a number of requests per second, 0 or more"),
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

        def post(**thresholds: str | list[str]) -> bool:
            """Press Start; return whether the test started. A list is a field that occurs several times."""
            form = {"user_count": "2", "spawn_rate": "10", "wait": "0.05", "host": server.host, **thresholds}
            with urllib.request.urlopen(f"{url}swarm", urllib.parse.urlencode(form, doseq=True).encode()) as response:
                return bool(json.load(response)["success"])

        def stop() -> None:
            urllib.request.urlopen(f"{url}stop", b"").close()

        assert not post(max_fail_ratio="2")
        assert not post(max_fail_ratio=["1", "2"])
        assert not post(threshold="word p99 < 5, word")
        assert "Test not started: threshold: 'word' is not a threshold such as 'word p99 < 5'" in locust.output
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
        assert locust.stop() == BROKEN, "the exit code is that of the last test"


def test_after_a_reset_of_the_statistics_the_rest_is_judged(tmp_path: Path) -> None:
    options = ("--autostart", "--users", "5", "--spawn-rate", "100", "--wait", "0.02", "--accept-saturation")
    with (
        kit.server(output=tmp_path / "server") as server,
        web(
            *options, "--max-fail-ratio", "0", "--min-rps", "10", "--host", server.host, output=tmp_path / "locust"
        ) as (
            locust,
            url,
        ),
    ):
        locust.says("All users spawned")
        kit.eventually(lambda: requests(url) > 300)
        urllib.request.urlopen(f"{url}stats/reset", b"").close()
        kit.eventually(lambda: requests(url) > 20)
        assert locust.stop() == KEPT, locust.output
    assert re.search(r"Thresholds kept, in \d+ s with all users$", locust.output, re.MULTILINE)


def requests(url: str) -> int:
    """Return how many requests Locust has counted, from the CSV: the page's may be a second old."""
    with urllib.request.urlopen(f"{url}stats/requests/csv") as response:
        return sum(int(row["Request Count"]) for row in csv.DictReader(io.TextIOWrapper(response, "utf-8")))
