"""The kit as a package: built, installed into a fresh environment, and used from other folders."""

import contextlib
import email
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from locust_tcp.version import VERSION
from tests import kit

PACKAGES = ("capserver", "locust_tcp")
SWARM = ("--headless", "--users", "2", "--spawn-rate", "100", "--run-time", "2s", "--stop-timeout", "1", "--csv", "run")

LOCUSTFILE = """
from locust import constant, task

from locust_tcp import TcpUser


class Guest(TcpUser):
    host = "tcp://localhost:1"
    wait_time = constant(0.05)

    @task
    def greet(self):
        self.client.request("hello", name="greet", expect="HELLO")
"""


def run(*command: str | Path) -> str:
    """Run a command to its end and return what it prints."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=2 * kit.PATIENCE, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel from a copy of its sources: a build leaves files beside them."""
    folder = tmp_path_factory.mktemp("package")
    sources = folder / "sources"
    for package in PACKAGES:
        shutil.copytree(kit.KIT / package, sources / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "requirements.txt", "README.md"):
        shutil.copy(kit.KIT / name, sources)
    shutil.copytree(kit.KIT / "tests", sources / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    options = ("--no-build-isolation", "--no-deps", "--no-index", "--wheel-dir", folder)
    run(sys.executable, "-m", "pip", "wheel", *options, sources)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the wheel into an environment that borrows Locust from the one the tests run in."""
    environment = tmp_path_factory.mktemp("fresh") / "env"
    run(sys.executable, "-m", "venv", "--without-pip", environment)
    python = environment / Path(sys.executable).relative_to(sys.prefix)
    run(sys.executable, "-m", "pip", "--python", python, "install", "--no-index", "--no-deps", wheel)
    packages = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    (packages / "borrowed.pth").write_text(sysconfig.get_path("purelib"))
    return python


def test_the_wheel_has_both_packages_with_their_types_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names} == {*PACKAGES, f"locust_tcp-{VERSION}.dist-info"}
    sources = [file for package in PACKAGES for file in (kit.KIT / package).rglob("*.py")]
    expected = {str(file.relative_to(kit.KIT)) for file in sources}
    assert {name for name in names if name.endswith(".py")} == expected
    assert {f"{package}/py.typed" for package in PACKAGES} <= set(names)


def test_the_wheel_needs_what_the_kit_needs(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        text = archive.read(f"locust_tcp-{VERSION}.dist-info/METADATA").decode()
    metadata = email.message_from_string(text)
    assert (metadata["Name"], metadata["Version"]) == ("locust-tcp", VERSION)
    lines = (kit.KIT / "requirements.txt").read_text().splitlines()
    needed = {Requirement(line) for line in lines if line and not line.startswith("#")}
    assert {Requirement(line) for line in metadata.get_all("Requires-Dist", [])} == needed != set()


def locust(python: Path, *options: str, output: Path, cwd: Path) -> contextlib.AbstractContextManager[kit.Program]:
    """Run the installed Locust for the length of a with-block."""
    return kit.program(python, "-m", "locust", *options, output=output, cwd=cwd)


def expect_the_totals_of(server: kit.Server, folder: Path) -> None:
    """Stop the server; expect that its totals are those of Locust's CSV."""
    counts = {row["Name"]: int(row["Request Count"]) for row in kit.rows(folder / "run_stats.csv")}
    assert (counts["greet"], counts["connect"], 0) == server.totals()
    assert counts["greet"] > 2


def test_a_locustfile_in_another_folder_finds_the_packages(python: Path, tmp_path: Path) -> None:
    (tmp_path / "guests.py").write_text(LOCUSTFILE)
    with kit.server(output=tmp_path / "server", python=python, cwd=tmp_path) as server:
        options = ("-f", "guests.py", "--host", server.host, *SWARM)
        with locust(python, *options, output=tmp_path / "locust", cwd=tmp_path) as running:
            assert running.ends() == 0, running.output
        expect_the_totals_of(server, tmp_path)


def test_a_worker_with_the_package_needs_no_locustfile(python: Path, tmp_path: Path) -> None:
    at_master, at_worker = tmp_path / "master", tmp_path / "worker"
    at_master.mkdir()
    at_worker.mkdir()
    (at_master / "guests.py").write_text(LOCUSTFILE)
    port = str(kit.free_port())
    with kit.server(output=tmp_path / "server", python=python, cwd=tmp_path) as server:
        options = ("-f", "guests.py", "--host", server.host, "--expect-workers", "1", *SWARM)
        leading = ("--master", "--master-bind-port", port, *options)
        working = ("--worker", "--master-port", port, "-f", "-")
        with (
            locust(python, *leading, output=tmp_path / "master.log", cwd=at_master) as master,
            locust(python, *working, output=tmp_path / "worker.log", cwd=at_worker) as worker,
        ):
            assert (master.ends(), worker.ends()) == (0, 0), master.output + worker.output
        assert "Traceback" not in master.output + worker.output
        expect_the_totals_of(server, at_master)
    assert not list(at_worker.iterdir())
