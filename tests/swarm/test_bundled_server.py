"""locust_tcp/service.py: the bundled server starts with a test that needs it, and ends with Locust."""

import contextlib
import os
import re
import signal
import socket
import struct
import sys
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from capserver import PORT
from locust_tcp import service
from tests import kit

SWARM = ("--headless", "--users", "5", "--spawn-rate", "5")
STARTED = "No service listened on tcp://localhost:59898: started it"


@pytest.fixture(autouse=True)
def port_is_free() -> None:
    """Skip the test where another program listens on the port."""
    with contextlib.suppress(AssertionError):
        kit.eventually(lambda: not kit.listens(PORT), patience=5)
    if kit.listens(PORT):
        pytest.skip(f"another program listens on port {PORT}")


def bundled(locust: kit.Program) -> list[psutil.Process]:
    """Return the servers that a Locust, or one of its workers, has started."""
    children = psutil.Process(locust.process.pid).children(recursive=True)
    return [child for child in children if "capserver" in child.cmdline()]


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_it_starts_when_nobody_listens_and_ends_with_locust(tmp_path: Path, how: signal.Signals) -> None:
    with kit.program(kit.LOCUST, *SWARM, output=tmp_path / "log") as locust:
        locust.says(STARTED)
        locust.says(r"word +[1-9]")
        (server,) = bundled(locust)
        # As Ctrl-C does, to the whole process group: the users still need the server at that moment.
        os.killpg(locust.process.pid, how)
        assert locust.ends() == (-how if how == signal.SIGKILL else 0)
        kit.eventually(lambda: not kit.listens(PORT) and not server.is_running())
    if how != signal.SIGKILL:
        assert "answered" in locust.output.splitlines()[-1], "the server's totals are the last word"
    assert "Traceback" not in locust.output


def test_one_that_listens_already_is_used_and_outlives_locust(tmp_path: Path) -> None:
    with (
        kit.server("--port", str(PORT), output=tmp_path / "server") as server,
        kit.program(kit.LOCUST, *SWARM, output=tmp_path / "log") as locust,
    ):
        locust.says("Using the service that listens on tcp://localhost:59898 already")
        assert bundled(locust) == []
        locust.says(r"word +[1-9]")
        assert locust.stop() == 0
        assert server.process.poll() is None
        assert server.totals()[0] > 0


def test_nothing_is_started_with_a_host(tmp_path: Path) -> None:
    host = ("--host", "tcp://localhost:59898")
    with kit.program(kit.LOCUST, *SWARM, *host, output=tmp_path / "log") as locust:
        locust.says(r"connect +[1-9]")
        assert bundled(locust) == []
        locust.stop()
    assert "connect: refused" in locust.output


def test_nothing_is_started_with_another_host_in_the_form(tmp_path: Path) -> None:
    with kit.server(output=tmp_path / "server") as server, web(tmp_path) as (locust, url):
        start(url, server.host)
        locust.says("All users spawned")
        assert bundled(locust) == []
        assert not kit.listens(PORT)


def test_it_is_started_again_for_the_next_test_when_it_has_died(tmp_path: Path) -> None:
    with web(tmp_path) as (locust, url):
        start(url, "tcp://localhost:59898")
        locust.says("All users spawned")
        (server,) = bundled(locust)
        server.kill()
        locust.says("has ended by itself, with exit code -9")
        urllib.request.urlopen(f"{url}/stop", data=b"", timeout=kit.PATIENCE)
        start(url, "tcp://localhost:59898")
        kit.eventually(lambda: kit.listens(PORT))
        assert len(bundled(locust)) == 1


WITHOUT_SERVICE = """
import sys
from locust import task
from locust_tcp import TcpUser, start_service

start_service("tcp://localhost:{port}", [sys.executable, "-c", "import sys; sys.exit('no')"], directory=".")

class Visitor(TcpUser):
    host = "tcp://localhost:{port}"

    @task
    def word(self):
        self.client.request("hello")
"""


BUNDLED = """
import sys
from locust import task
from locust_tcp import TcpUser, start_service

command = [sys.executable, "-m", "capserver", "--end-with-input", "--port", "{port}"]
start_service("tcp://127.0.0.1:{port}", command, directory="{folder}")

class Visitor(TcpUser):
    host = "tcp://127.0.0.1:{port}"

    @task
    def word(self):
        self.client.request("hello")
"""


@contextlib.contextmanager
def held(port: int) -> Iterator[socket.socket]:
    """Have a connection of another program that starts at a port, so that no server can listen there."""
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket() as client:
        client.bind(("127.0.0.1", port))
        client.connect(listener.getsockname())
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # its end frees the port
        yield client


def test_a_run_waits_for_a_port_that_a_connection_holds(tmp_path: Path) -> None:
    port = kit.free_port()
    (tmp_path / "visit.py").write_text(BUNDLED.format(port=port, folder=kit.KIT))
    command = (kit.LOCUST, *SWARM, "-f", tmp_path / "visit.py")
    with held(port) as client, kit.program(*command, output=tmp_path / "log") as locust:
        locust.says(f"No service listens on tcp://127.0.0.1:{port}, and its port is in use, .* Trying again until")
        assert "started it" not in locust.output
        client.close()
        locust.says("No service listened on .*: started it")
        locust.says(r"request +[1-9]")
        assert locust.stop() == 0
    assert locust.output.count("Trying again until") == 1
    assert "--port" not in locust.output


def test_a_run_that_ends_while_it_waits_for_the_port_has_failed(tmp_path: Path) -> None:
    port = kit.free_port()
    (tmp_path / "visit.py").write_text(BUNDLED.format(port=port, folder=kit.KIT))
    command = (kit.LOCUST, *SWARM, "--run-time", "2s", "-f", tmp_path / "visit.py")
    with held(port), kit.program(*command, output=tmp_path / "log") as locust:
        assert locust.ends() == 1
    assert "Test called off before it began" in locust.output
    assert "Traceback" not in locust.output


def test_a_port_that_stays_in_use_is_refused_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    port = kit.free_port()
    found = service._Service(f"tcp://127.0.0.1:{port}", ["false"], kit.KIT)
    with held(port):
        first = found.ready(None)
        monkeypatch.setattr(service, "HELD", 0.0)
        second = found.ready(None)
    assert first and first.is_brief
    assert second and not second.is_brief
    assert "End that, or start the service on another port yourself" in second.message
    assert found.ready("tcp://127.0.0.1:1") is None, "a test with another host needs no service"


@pytest.mark.parametrize("shape", ["", ",nomercy.py"], ids=["swarm", "shape"])
def test_a_service_that_does_not_start_calls_the_test_off_in_a_line(tmp_path: Path, shape: str) -> None:
    files = ("-f", f"{tmp_path}/visit.py{shape}")
    (tmp_path / "visit.py").write_text(WITHOUT_SERVICE.format(port=kit.free_port()))
    with kit.program(kit.LOCUST, *SWARM, "--stop-timeout", "1", *files, output=tmp_path / "log") as locust:
        assert locust.ends() == 1
    assert "has ended by itself, with exit code 1" in locust.output
    assert re.search(r"Test called off: The service on .* did not start: no$", locust.output, re.MULTILINE)
    assert "started it" not in locust.output
    assert "Traceback" not in locust.output


SERVICE = """
import socket, sys, threading, time

print("starting", flush=True)
time.sleep(1)
with socket.create_server(("127.0.0.1", {port})) as listener:
    threading.Thread(target=sys.stdin.read, daemon=True).start()
    sys.stdout.buffer.write(b"caf\\xe9 is open\\n")
    sys.stdout.flush()
    sock, _ = listener.accept()  # the look at whether it listens
    sock, _ = listener.accept()
    while sock.recv(100):
        sys.stdout.buffer.write(b"\\xe9" * 100_000 + b"\\n")  # more than a pipe holds
        sys.stdout.flush()
        sock.sendall(b"YES\\n")
sys.exit(3)
"""

VISIT = """
import sys
from locust import task
from locust.exception import StopUser
from locust_tcp import TcpUser, start_service

start_service("tcp://127.0.0.1:{port}", {command}, directory=".")

class Visitor(TcpUser):
    host = "tcp://127.0.0.1:{port}"

    @task
    def word(self):
        for _ in range(5):
            self.client.request("hello", name="word", expect="YES")
        self.client.close()
        raise StopUser
"""


def test_the_test_begins_when_the_port_answers_and_the_service_may_print_any_bytes(tmp_path: Path) -> None:
    port = kit.free_port()
    (tmp_path / "service.py").write_text(SERVICE.format(port=port))
    command = repr([sys.executable, f"{tmp_path}/service.py"])
    (tmp_path / "visit.py").write_text(VISIT.format(port=port, command=command))
    options = ("-f", tmp_path / "visit.py", "--headless", "--users", "1", "--csv", tmp_path / "run")
    with kit.program(kit.LOCUST, *options, output=tmp_path / "log") as locust:
        locust.says("has ended by itself, with exit code 3")
        locust.stop()
    total = kit.rows(tmp_path / "run_stats.csv")[-1]
    assert (total["Request Count"], total["Failure Count"]) == ("6", "0"), "a connect and five words"
    assert r"caf\xe9 is open" in locust.output
    assert "Traceback" not in locust.output


@pytest.mark.parametrize("command", [["/no/such/command"], ["."]])
def test_a_command_that_can_not_be_run_calls_the_test_off_in_a_line(tmp_path: Path, command: list[str]) -> None:
    (tmp_path / "visit.py").write_text(VISIT.format(port=kit.free_port(), command=command))
    with kit.program(kit.LOCUST, *SWARM, "-f", tmp_path / "visit.py", output=tmp_path / "log") as locust:
        assert locust.ends() == 1
    assert "and it can't be started: " in locust.output
    assert repr(command[0]) in locust.output
    assert "Traceback" not in locust.output
    assert "connect" not in locust.output.split("can't be started")[1]


def test_only_the_master_starts_one(tmp_path: Path) -> None:
    port = str(kit.free_port())
    worker = (kit.LOCUST, "--worker", "--master-port", port)
    master = (kit.LOCUST, *SWARM, "--master", "--master-bind-port", port, "--expect-workers", "1")
    with (
        kit.program(*worker, output=tmp_path / "worker") as working,
        kit.program(*master, output=tmp_path / "master") as leading,
    ):
        leading.says(STARTED)
        leading.says(r"word +[1-9]")
        assert len(bundled(leading)) == 1
        assert bundled(working) == []
        leading.stop()
        working.ends()


@contextlib.contextmanager
def web(folder: Path) -> Iterator[tuple[kit.Program, str]]:
    """Run Locust with its web UI; yields it and the address."""
    port = kit.free_port()
    options = ("--web-port", str(port), "--web-host", "127.0.0.1")
    with kit.program(kit.LOCUST, *options, output=folder / "log") as locust:
        kit.eventually(lambda: kit.listens(port))
        yield locust, f"http://127.0.0.1:{port}"
        locust.stop()


def start(url: str, host: str) -> None:
    """Press Start."""
    form = urllib.parse.urlencode({"user_count": 3, "spawn_rate": 3, "host": host}).encode()
    with urllib.request.urlopen(f"{url}/swarm", data=form, timeout=kit.PATIENCE) as answer:
        assert b'"success": true' in answer.read().replace(b'":true', b'": true')
