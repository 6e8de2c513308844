"""Whole swarms on a service with TLS: the accounts agree, and each failure has its text."""

import contextlib
import os
import re
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests import kit, peers
from tests.certificates import Certificates
from tests.swarm.test_faults import struck

FEW = ("--headless", "--users", "2", "--spawn-rate", "2", "--wait", "0.1", "--run-time", "1s")
MANY = ("--headless", "--users", "20", "--spawn-rate", "100", "--run-time", "1s")
FAULTS = {
    "stall": "reply: timed out",
    "truncate": "reply: closed halfway",
    "garble": "reply: wrong",
    "close": "reply: closed",
    "reset": "reply: reset",
    "refuse": "connect: reset",  # in the handshake
}


@contextlib.contextmanager
def serving(certificate: Path, folder: Path, *options: str) -> Iterator[kit.Server]:
    """A capitalization server with a certificate."""
    with kit.server("--tls-cert", str(certificate), *options, output=folder / "server") as running:
        yield running


def swarm(
    folder: Path,
    port: int,
    *options: str | Path,
    name: str = "localhost",
    environment: Mapping[str, str] | None = None,
) -> tuple[int, str]:
    """Run a swarm to its end; return its exit code and its output. Its CSVs are in the folder."""
    command = (kit.LOCUST, "--host", f"tls://{name}:{port}", "--csv", folder / "run", *options)
    with kit.program(*command, output=folder / "locust", environment=environment) as locust:
        code = locust.ends()
    assert "Traceback" not in locust.output
    return code, locust.output


def failures(folder: Path) -> set[str]:
    """Return the texts on the Failures page."""
    return {row["Error"] for row in kit.rows(folder / "run_failures.csv")}


def counts(folder: Path) -> tuple[int, int, int, int]:
    """Return exchanges that succeeded and failed, then the same of connects."""
    rows = {row["Name"]: row for row in kit.rows(folder / "run_stats.csv")}
    total, failed = (int(rows["Aggregated"][column]) for column in ("Request Count", "Failure Count"))
    connects, refused = (int(rows["connect"][column]) for column in ("Request Count", "Failure Count"))
    return total - connects - (failed - refused), failed - refused, connects - refused, refused


@pytest.mark.parametrize(
    "options",
    [(), ("--connection", "per-request"), ("--processes", "2", "--run-time", "4s")],
    ids=["persistent", "per-request", "two processes"],
)
def test_the_accounts_of_both_sides_agree(tmp_path: Path, files: Certificates, options: tuple[str, ...]) -> None:
    if "--processes" in options:
        options += ("--master-bind-port", str(port := kit.free_port()), "--master-port", str(port))
    with serving(files.good, tmp_path) as server:
        code, output = swarm(tmp_path, server.port, *MANY, "--tls-ca", files.ca, *options)
        answered, connections, errors = server.totals()
    assert (code, failures(tmp_path)) == (0, set())
    assert counts(tmp_path) == (answered, 0, connections, 0)
    assert errors == 0
    assert connections == (answered if "per-request" in options else 20)
    assert answered > 0
    assert "certificate" not in output


@pytest.mark.parametrize("kind", FAULTS)
def test_a_fault_inside_tls_is_the_failure_that_it_is_without(tmp_path: Path, files: Certificates, kind: str) -> None:
    with serving(files.good, tmp_path, "--fault", f"{kind}=0.2") as server:
        lives = "per-request" if kind == "refuse" else "persistent"  # refuse strikes connections
        options = ("--tls-ca", files.ca, "--connection", lives, "--wait", "0.05", "--timeout", "0.5")
        code, _ = swarm(tmp_path, server.port, *MANY, *options)
        answered, connections, errors = server.totals()
    strikes = struck(server)[kind]
    assert strikes > 0
    assert (code, errors, failures(tmp_path)) == (1, 0, {FAULTS[kind]})
    if kind == "refuse":
        assert counts(tmp_path) == (answered, 0, connections - strikes, strikes)
    else:
        assert counts(tmp_path) == (answered, strikes, connections, 0)


@pytest.mark.parametrize(
    ("certificate", "name", "text"),
    [
        ("foreign", "localhost", "connect: certificate not trusted"),
        ("other_name", "localhost", "connect: certificate for another name"),
        ("dns_only", "127.0.0.1", "connect: certificate for another name"),
    ],
)
def test_who_can_not_prove_who_it_is_gets_no_request(
    tmp_path: Path, files: Certificates, certificate: str, name: str, text: str
) -> None:
    with serving(getattr(files, certificate), tmp_path) as server:
        code, output = swarm(tmp_path, server.port, *FEW, "--run-time", "3s", "--tls-ca", files.ca, name=name)
        answered, connections, _ = server.totals()
    assert (code, failures(tmp_path)) == (1, {text})
    (row,) = kit.rows(tmp_path / "run_failures.csv")
    assert row["Name"] == "connect"
    assert (int(row["Occurrences"]), answered) == (connections, 0)
    assert connections > 2  # each user has tried again
    advice = re.findall(r"WARNING.*certificate not trusted: .*--tls-ca.*--tls-verify no", output)
    assert len(advice) == ("not trusted" in text)


def _garbage(sock: socket.socket) -> None:
    sock.recv(65536)
    sock.sendall(b"error: what is this?\n")


def test_a_service_without_tls_is_a_failed_handshake(tmp_path: Path, files: Certificates) -> None:
    with peers.peer(_garbage) as port:
        code, _ = swarm(tmp_path, port, *FEW, "--tls-ca", files.ca)
    assert (code, failures(tmp_path)) == (1, {"connect: TLS handshake failed"})


def test_without_verification_anybody_may_answer(tmp_path: Path, files: Certificates) -> None:
    with serving(files.foreign, tmp_path) as server:
        code, output = swarm(tmp_path, server.port, *FEW, "--tls-verify", "no")
        answered, connections, _ = server.totals()
    assert (code, failures(tmp_path)) == (0, set())
    assert counts(tmp_path) == (answered, 0, connections, 0)
    assert "certificate not trusted" not in output


def test_the_environment_may_name_the_authority(tmp_path: Path, files: Certificates) -> None:
    with serving(files.good, tmp_path) as server:
        code, _ = swarm(tmp_path, server.port, *FEW, environment={**os.environ, "SSL_CERT_FILE": str(files.ca)})
        assert server.totals()[:2] == (counts(tmp_path)[0], 2)
    assert (code, failures(tmp_path)) == (0, set())


@pytest.mark.parametrize(
    ("file", "says"),
    [("missing.pem", "can't be read: No such file or directory"), ("key.pem", r"has no certificate \(PEM\) in it")],
)
def test_a_bad_ca_file_is_one_clear_line(tmp_path: Path, files: Certificates, file: str, says: str) -> None:
    path = files.folder / file
    code, output = swarm(tmp_path, kit.free_port(), *FEW, "--tls-ca", path)
    assert code != 0
    assert len(re.findall(rf"^.*error: .*--tls-ca.*{re.escape(str(path))}.* {says}$", output, re.MULTILINE)) == 1
    assert output.count(str(path)) == 1


def test_a_worker_without_the_ca_file_makes_the_test_fail_and_says_why(tmp_path: Path, files: Certificates) -> None:
    # The file's name travels to the workers, the file does not.
    port = str(kit.free_port())
    locust = (kit.LOCUST, "-f", kit.KIT / "locustfile.py")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    with serving(files.good, tmp_path) as server:
        leader = ("--master", "--master-bind-port", port, "--expect-workers", "1", "--tls-ca", files.ca.name)
        host = ("--host", f"tls://localhost:{server.port}")
        worker = ("--worker", "--master-port", port)
        with (
            kit.program(*locust, *FEW, *leader, *host, output=tmp_path / "master", cwd=files.folder) as leading,
            kit.program(*locust, *worker, output=tmp_path / "worker", cwd=elsewhere) as working,
        ):
            assert leading.ends() != 0
            working.ends()
        assert server.totals()[0] == 0
    assert files.ca.name in leading.output + working.output
    assert "Traceback" not in leading.output + working.output
