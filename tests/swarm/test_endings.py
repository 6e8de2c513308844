"""Each way in which a run ends: its thresholds are judged, and the exit code says so.

All runs of this file go on at the same time. Each breaks a threshold of goodput, which is known at any moment.
"""

import contextlib
import os
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests import kit
from tests.browser import web

BROKEN, NOT_JUDGED = 1, 2  # the exit codes
USERS = 4

SWARM = ("-f", "locustfile.py", "--wait", "0.05", "--users", str(USERS), "--spawn-rate", "100", "--accept-saturation")
BREAKING = ("--min-rps", "100000")
HEADLESS, AUTOSTART = ("--headless",), ("--autostart", "--print-stats")
WORKERS = ("--processes", "2")
BRIEF = ("--run-time", "3s")


def terminate(locust: kit.Program) -> None:
    locust.process.terminate()


def interrupt(locust: kit.Program) -> None:
    locust.process.send_signal(signal.SIGINT)


def press_ctrl_c(locust: kit.Program) -> None:
    """Interrupt all processes of Locust, as a terminal does."""
    os.killpg(locust.process.pid, signal.SIGINT)


def wait(locust: kit.Program) -> None:
    """Let the run come to its own end."""


def await_verdict(locust: kit.Program) -> None:
    """Let the run come to its own end, which leaves the page, and then end Locust."""
    locust.says("Thresholds ")
    locust.process.terminate()


# Options, and what ends the run when all users have been spawned and some requests made
ENDINGS: dict[str, tuple[tuple[str, ...], Callable[[kit.Program], None]]] = {
    "headless, SIGTERM": (HEADLESS, terminate),
    "headless, SIGINT": (HEADLESS, interrupt),
    "headless, workers, SIGTERM": ((*HEADLESS, *WORKERS), terminate),
    "headless, workers, SIGINT": ((*HEADLESS, *WORKERS), interrupt),
    "headless, workers, Ctrl-C": ((*HEADLESS, *WORKERS), press_ctrl_c),
    "page, SIGTERM": (AUTOSTART, terminate),
    "page, SIGINT": (AUTOSTART, interrupt),
    "page, workers, SIGTERM": ((*AUTOSTART, *WORKERS), terminate),
    "page, workers, Ctrl-C": ((*AUTOSTART, *WORKERS), press_ctrl_c),
    "page, run time": ((*AUTOSTART, *BRIEF), await_verdict),
    "page, workers, run time": ((*AUTOSTART, *WORKERS, *BRIEF), await_verdict),
    "page, autoquit": ((*AUTOSTART, *BRIEF, "--autoquit", "0"), wait),
    "page, workers, autoquit": ((*AUTOSTART, *WORKERS, *BRIEF, "--autoquit", "0"), wait),
}


def ports(*options: str) -> list[str]:
    """Return options with ports of the test's own for the page and the master."""
    found = [*options]
    if "--headless" not in options:
        found += ["--web-port", str(kit.free_port())]
    if "--processes" in options:
        port = str(kit.free_port())
        found += ["--master-bind-port", port, "--master-port", port]
    return found


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, kit.Program]]:
    """All runs, started one after the other."""
    with contextlib.ExitStack() as stack:
        folder = tmp_path_factory.mktemp("endings")
        server = stack.enter_context(kit.server(output=folder / "server"))
        running = {}
        for number, (name, (options, _)) in enumerate(ENDINGS.items()):
            command: tuple[str | Path, ...] = (kit.LOCUST, *SWARM, *BREAKING, "--host", server.host, *ports(*options))
            running[name] = stack.enter_context(kit.program(*command, output=folder / f"locust{number}"))
            running[name].says("Ramping to |Sending spawn jobs")  # so that they don't all start in the same second
        yield running


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_run_is_judged_however_it_ends(runs: dict[str, kit.Program], ending: str) -> None:
    locust = runs[ending]
    options, end = ENDINGS[ending]
    locust.says("All users spawned")
    if "--run-time" not in options:
        locust.says(r"^TCP +word +[1-9]")
    end(locust)
    code = locust.ends()
    assert "Traceback" not in locust.output
    (line,) = re.findall(r"Thresholds (.*)$", locust.output, re.MULTILINE)
    # Workers that a busy machine keeps from their heartbeats for seconds are missing.
    verdict, reason = (
        (NOT_JUDGED, "not judged: goodput ") if "no longer report" in line else (BROKEN, "broken: goodput ")
    )
    assert "no longer report" not in line or "setting state to missing" in locust.output
    assert code == verdict, locust.output
    assert line.startswith(reason)


def test_a_run_that_never_began_is_not_judged_and_a_page_alone_is_no_run(tmp_path: Path) -> None:
    port = str(kit.free_port())
    options = (*SWARM, *BREAKING, "--master", "--master-bind-port", port, "--host", "tcp://127.0.0.1:1")
    with web(*options, "--autostart", output=tmp_path / "autostart") as (locust, _):
        locust.says("Starting web interface")
        assert locust.stop() == NOT_JUDGED, locust.output
    assert "Thresholds not judged: only 0 of " in locust.output
    with web(*options, output=tmp_path / "page") as (locust, _):
        assert locust.stop() == 0, locust.output
    assert "Thresholds" not in locust.output


def test_a_worker_that_is_killed_leaves_the_goodput_unjudged(tmp_path: Path) -> None:
    with kit.server(output=tmp_path / "server") as server:
        command: tuple[str | Path, ...] = (
            kit.LOCUST,
            *SWARM,
            *BREAKING,
            "--host",
            server.host,
            *ports(*HEADLESS, *WORKERS),
        )
        with kit.program(*command, "--max-p95", "5000", output=tmp_path / "locust") as locust:
            locust.says("All users spawned")
            worker, *_ = psutil.Process(locust.process.pid).children()
            worker.kill()
            locust.says("setting state to missing")
            assert locust.stop() == NOT_JUDGED, locust.output
    verdicts = re.findall(r"Thresholds (.*)$", locust.output, re.MULTILINE)
    assert len(verdicts) == 2
    for verdict in verdicts:
        assert re.fullmatch(
            "not judged: .* 1 of the workers no longer report, so that not all users were there.", verdict
        )
