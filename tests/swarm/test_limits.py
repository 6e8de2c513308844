"""Locust's own limits are named as Locust's, with what raises them; and nobody gets in from outside."""

import contextlib
import re
import shutil
import socket
import sys
from pathlib import Path

import psutil
import pytest

from tests import kit

resource = pytest.importorskip("resource")


# A network of its own, in which there are 20 local ports to choose from; the server's is not among them.
FEW_PORTS = """
ip link set lo up && echo 20000 20019 > /proc/sys/net/ipv4/ip_local_port_range || exit 99
{python} -m capserver --port 19000 > {directory}/server &
server=$!
until grep -q listening {directory}/server; do sleep 0.1; done
{locust} --headless --users 50 --spawn-rate 50 --run-time 3s --wait 0.2 --host tcp://127.0.0.1:19000 \
    --csv {directory}/run {options}
code=$?
kill $server && wait $server
exit $code
"""


@pytest.mark.skipif(not shutil.which("unshare") or not shutil.which("ip"), reason="there is no unshare or no ip here")
@pytest.mark.parametrize("options", ["--connection persistent", "--connection per-request"])
def test_locust_out_of_local_ports_says_so(tmp_path: Path, options: str) -> None:
    command = FEW_PORTS.format(python=sys.executable, locust=kit.LOCUST, directory=tmp_path, options=options)
    with kit.program(
        "unshare", "--user", "--map-root-user", "--net", "bash", "-c", command, output=tmp_path / "log"
    ) as run:
        code = run.ends()
    if code == 99 or "unshare failed" in run.output:
        pytest.skip("this machine allows no network of our own")
    assert code == 1, run.output
    assert {row["Error"] for row in kit.rows(tmp_path / "run_failures.csv")} == {"connect: Locust out of local ports"}
    assert run.output.count("net.ipv4.ip_local_port_range") == 1
    assert "Traceback" not in run.output
    requests = {row["Name"]: int(row["Request Count"]) for row in kit.rows(tmp_path / "run_stats.csv")}
    connects, failures = (
        requests["connect"],
        sum(int(r["Occurrences"]) for r in kit.rows(tmp_path / "run_failures.csv")),
    )
    told = re.search(r"answered (\d+) lines on (\d+) connections", (tmp_path / "server").read_text())
    assert told and (int(told[1]), int(told[2])) == (requests["Aggregated"] - connects, connects - failures)


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"])
def test_locust_out_of_file_descriptors_says_so(tmp_path: Path, name: str) -> None:
    with kit.server(output=tmp_path / "server") as server:
        swarm = f"--headless --users 200 --spawn-rate 200 --run-time 3s --wait 0.2 --host tcp://{name}:{server.port}"
        # The hard limit too, which Locust would raise its soft one to.
        limited = f"ulimit -n 60; exec {kit.LOCUST} {swarm} --csv {tmp_path}/run"
        with kit.program("bash", "-c", limited, output=tmp_path / "locust") as locust:
            assert locust.ends() == 1
        assert server.totals()[1] > 0
    assert {row["Error"] for row in kit.rows(tmp_path / "run_failures.csv")} == {
        "connect: Locust out of file descriptors"
    }
    assert locust.output.count("`ulimit -n 65536`") == 1
    assert "Traceback" not in locust.output


def test_the_limit_of_open_files_is_raised_as_far_as_it_goes(tmp_path: Path) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with kit.server(output=tmp_path / "server") as server:
        limited = f"ulimit -S -n 60; exec {kit.LOCUST} --headless --host {server.host}"
        with kit.program("bash", "-c", limited, output=tmp_path / "locust") as locust:
            locust.says(r"word +[1-9]")
            (limit,) = [
                line.split()[3:5]
                for line in Path(f"/proc/{locust.process.pid}/limits").read_text().splitlines()
                if line.startswith("Max open files")
            ]
            assert limit == [str(hard), str(hard)]


def test_the_page_is_for_this_machine_only_unless_asked_for(tmp_path: Path) -> None:
    for options, where in (((), "127.0.0.1"), (("--web-host", "localhost"), "localhost")):
        port = kit.free_port()
        with kit.program(kit.LOCUST, "--web-port", str(port), *options, output=tmp_path / "locust") as locust:
            locust.says(f"Starting web interface at http://{where}:{port}")
            kit.eventually(lambda port=port: kit.listens(port))  # type: ignore[misc]
            locust.stop()


@pytest.mark.parametrize(("host", "warned"), [("0.0.0.0", True), ("127.0.0.1", False)])
def test_the_server_warns_when_other_machines_can_reach_it(tmp_path: Path, host: str, warned: bool) -> None:
    with kit.server("--host", host, output=tmp_path / "server") as server:
        assert server.stop() == 0
        assert ("warning: other machines can reach this address" in server.output) == warned


def test_a_server_out_of_file_descriptors_serves_those_it_has_and_recovers(tmp_path: Path) -> None:
    command = f"ulimit -n 40; exec {sys.executable} -m capserver --port 0"
    with kit.program("bash", "-c", command, output=tmp_path / "server") as server, contextlib.ExitStack() as stack:
        address = ("127.0.0.1", int(server.says(r"listening on .*:(\d+)")[1]))
        clients = [stack.enter_context(socket.create_connection(address, kit.PATIENCE)) for _ in range(60)]
        server.says("new connections wait until others are closed")
        for client in clients[:20]:
            client.sendall(b"hello\n")
            assert client.recv(100) == b"HELLO\n"
        busy = psutil.Process(server.process.pid).cpu_times().user
        clients[59].settimeout(0.5)
        clients[59].sendall(b"hello\n")
        with pytest.raises(TimeoutError):
            clients[59].recv(100)
        assert psutil.Process(server.process.pid).cpu_times().user - busy < 0.25, "the accept loop spins"
        for client in clients[:40]:
            client.close()
        clients[59].settimeout(kit.PATIENCE)
        assert clients[59].recv(100) == b"HELLO\n"
        assert server.stop() == 0
    assert "Traceback" not in server.output
