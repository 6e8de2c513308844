"""The verdict on real swarms, and the lag of workers on their master."""

import os
import re
import socket
import sys
import threading
from pathlib import Path

import pytest

from locust_tcp.metrics.generator import CPU_BUSY, CPU_LIMIT, LAG_LIMIT, MIN_LAGS
from tests import kit, peers

SATURATED = {"SATURATED": "1"}
FULL = "(?:Locust is saturated|Replies wait mostly for Locust)"  # the second where other programs have the core
LOCUSTFILE = "tests/swarm/generator_locustfile.py"
needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="arrival times are Linux's")


def slow(sock: socket.socket) -> None:
    """Answer each line in capitals, after 50 ms."""
    with sock.makefile("rb") as lines:
        for line in lines:
            threading.Event().wait(0.05)
            sock.sendall(line.decode().upper().encode())


@pytest.fixture(params=["arrival times", "timer"])
def environment(request: pytest.FixtureRequest) -> dict[str, str]:
    """Both sources of the lag. Each test has the same result with either."""
    if request.param == "timer":
        return os.environ | {"NO_ARRIVAL_TIMES": "1"}
    if sys.platform != "linux":
        pytest.skip("arrival times are Linux's")
    return dict(os.environ)


def run(folder: Path, environment: dict[str, str], host: str, *options: str, code: int = 0) -> kit.Program:
    always = ("-f", LOCUSTFILE, "--headless", "--host", host, "--run-time", "4s")
    with kit.program(kit.LOCUST, *always, *options, output=folder / "locust", environment=environment) as locust:
        assert locust.ends() == code
    return locust


def test_a_slow_service_is_no_limit_of_locust(tmp_path: Path, environment: dict[str, str]) -> None:
    with peers.peer(slow) as port:
        locust = run(tmp_path, environment, f"tcp://127.0.0.1:{port}", "--users", "5")
    said = locust.says(
        "Load generator: Locust (has room|is held up at times): replies wait ([0-9.]+) ms .*"
        "the service takes ([0-9.]+) ms"
    )
    assert float(said[3]) >= 50
    # A busy machine holds Locust up, and the verdict says so; the service's 50 ms never count as Locust's.
    assert (said[1] == "has room") == (float(said[2]) < LAG_LIMIT)
    assert float(said[2]) < 50
    by_timer = "the response times contain the wait" in locust.output
    assert by_timer == ("NO_ARRIVAL_TIMES" in environment)


def test_a_saturated_locust_is_no_limit_of_a_fast_service(tmp_path: Path, environment: dict[str, str]) -> None:
    with kit.server(output=tmp_path / "server") as server:
        locust = run(tmp_path, environment | SATURATED, server.host, "--users", "50", "--spawn-rate", "50")
    match = locust.says(rf"Load generator: {FULL}: replies wait ([0-9.]+) ms .*the service takes ([0-9.]+) ms")
    assert float(match[1]) > 1


@needs_linux
def test_a_few_replies_are_no_evidence_of_lag(tmp_path: Path) -> None:
    # The users send all at once, and each keeps the others waiting. After that Locust has nothing to do.
    with kit.server(output=tmp_path / "server") as server:
        options = ("--users", "50", "--spawn-rate", "50", "--wait", "60")
        locust = run(tmp_path, os.environ | SATURATED, server.host, *options)
    said = locust.says("Load generator: (.*)")[1]
    assert f"; 50 samples of the lag are too few for a p95 ({MIN_LAGS}); CPU " in said
    assert said.startswith("Locust has room") or int(re.findall(r"CPU (\d+) %", said)[0]) >= CPU_BUSY


@pytest.mark.parametrize("wait", ["0", "0.1"])
def test_where_nothing_listens_no_master_is_blamed(tmp_path: Path, wait: str) -> None:
    options = ("--users", "10", "--spawn-rate", "10", "--wait", wait)
    locust = run(tmp_path, dict(os.environ), f"tcp://127.0.0.1:{kit.free_port()}", *options, code=1)
    said = locust.says("Load generator: (.*no response time was measured.*)")[1]
    assert "master" not in said
    assert "workers" not in said
    cpu = float(re.findall(r"CPU (\d+) %", said)[0])
    assert said.startswith("Locust is saturated: CPU") == (cpu >= CPU_LIMIT) or cpu == CPU_LIMIT  # it is rounded


@needs_linux
def test_workers_send_their_lag_to_the_master(tmp_path: Path) -> None:
    port = str(kit.free_port())
    ports = ("--master-bind-port", port, "--master-port", port)
    with kit.server(output=tmp_path / "server") as server:
        options = ("--users", "50", "--spawn-rate", "50", "--processes", "2", *ports)
        locust = run(tmp_path, os.environ | SATURATED, server.host, *options)
    locust.says(rf"Load generator: worker \d: {FULL}: replies wait [0-9.]+ ms")


@needs_linux
def test_new_connections_have_arrival_times_too(tmp_path: Path) -> None:
    with kit.server(output=tmp_path / "server") as server:
        options = ("--users", "5", "--spawn-rate", "100", "--connection", "per-request", "--wait", "0.1")
        locust = run(tmp_path, dict(os.environ), server.host, *options)
    counts = locust.says(r"without arrival time: (\d+) of (\d+)")
    without, exchanges = int(counts[1]), int(counts[2])
    assert exchanges > 0
    assert without <= 0.05 * exchanges  # about half, where the kernel may stop in between
