"""plugin.py: Ctrl-C, pressed once more than needed."""

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from locust_tcp import plugin
from tests import kit, peers

PROCESSES = pytest.mark.parametrize(
    "workers",
    [(), pytest.param(("--processes", "2"), marks=pytest.mark.skipif(sys.platform == "win32", reason="forks"))],
    ids=["one process", "workers"],
)


def ports(*workers: str) -> list[str]:
    """Return the options for workers, with a port of the test's own."""
    port = str(kit.free_port())
    return [*workers, "--master-bind-port", port, "--master-port", port] if workers else []


def press_ctrl_c(locust: kit.Program) -> None:
    """Interrupt all processes of Locust, as a terminal does."""
    os.killpg(locust.process.pid, signal.SIGINT)


def swarm(workers: tuple[str, ...], *options: str | Path) -> tuple[str | Path, ...]:
    """Return the command for a swarm."""
    users = ("--headless", "--users", "20", "--spawn-rate", "100")
    return (kit.LOCUST, "-f", "locustfile.py", *users, *options, *ports(*workers))


@PROCESSES
def test_a_key_that_repeats_itself_is_one_interrupt(tmp_path: Path, workers: tuple[str, ...]) -> None:
    with kit.server(output=tmp_path / "server") as server:
        command = swarm(workers, "--wait", "0.05", "--host", server.host)
        with kit.program(*command, output=tmp_path / "log") as locust:
            locust.says("All users spawned")
            locust.says(r"word +[1-9]")
            for _ in range(3):
                press_ctrl_c(locust)
                time.sleep(0.005)  # as fast as a keyboard may be
            assert locust.ends() == 0, locust.output
    assert "Response time percentiles" in locust.output
    assert "Traceback" not in locust.output


@PROCESSES
def test_all_exchanges_are_counted(tmp_path: Path, workers: tuple[str, ...]) -> None:
    with kit.server("--fault", "delay=1:400", output=tmp_path / "server") as server:
        command = swarm(workers, "--stop-timeout", "20", "--host", server.host, "--csv", tmp_path / "run")
        with kit.program(*command, output=tmp_path / "log") as locust:
            locust.says("All users spawned")
            press_ctrl_c(locust)
            assert locust.ends() == 0, locust.output
        answered, connections, _ = server.totals()
    *_, total = kit.rows(tmp_path / "run_stats.csv")
    assert int(total["Request Count"]) == answered + connections
    assert "proper args" not in locust.output


@PROCESSES
def test_a_second_interrupt_ends_locust_with_a_sentence(tmp_path: Path, workers: tuple[str, ...]) -> None:
    with peers.peer(peers.mute) as port:
        command = swarm(workers, "--timeout", "600", "--stop-timeout", "600", "--host", f"tcp://127.0.0.1:{port}")
        with kit.program(*command, output=tmp_path / "log") as locust:
            locust.says("All users spawned")
            press_ctrl_c(locust)
            time.sleep(plugin.ONE_CTRL_C + 0.1)
            press_ctrl_c(locust)
            assert locust.ends() == plugin.INTERRUPTED, locust.output
    assert "Interrupted again: Locust ends without its last figures and files." in locust.output
    assert "Traceback" not in locust.output


@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C is no signal there")
def test_a_worker_without_a_word_of_its_master_ends_by_itself(tmp_path: Path) -> None:
    port = str(kit.free_port())
    master = ("--master", "--headless", "--master-bind-port", port, "--users", "2", "--wait", "0.05", "--host")
    worker = ("--worker", "--master-port", port)
    with (
        kit.server(output=tmp_path / "server") as server,
        kit.program(kit.LOCUST, "-f", "locustfile.py", *master, server.host, output=tmp_path / "master") as leading,
        kit.program(kit.LOCUST, "-f", "locustfile.py", *worker, output=tmp_path / "worker") as working,
    ):
        leading.says("All users spawned")
        press_ctrl_c(working)
        assert working.ends() == 0, working.output
    assert "Traceback" not in working.output
