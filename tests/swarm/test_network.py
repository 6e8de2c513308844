"""A network that loses packets or is slow is told from a slow service, in networks that the tests make.

Each swarm has a network to itself: Locust, a router and the server in a network namespace each. All
swarms run at the same time; they mostly wait.
"""

import contextlib
import os
import re
import shutil
import sys
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from tests import kit

TOOLS = ("unshare", "nsenter", "ip", "tc", "nft")
SWARM = """
add_host() {{  # its number
    unshare --net sleep 300 &
    until [ "$(readlink /proc/$!/ns/net)" != "$(readlink /proc/self/ns/net)" ]; do sleep 0.05; done
    ip link add to$1 type veth peer name eth0 netns $! && ip addr add 10.0.$1.1/24 dev to$1 && ip link set to$1 up &&
    nsenter --target $! --net bash -c "ip link set lo up && ip addr add 10.0.$1.2/24 dev eth0 && ip link set eth0 up &&
        ip route add default via 10.0.$1.1"
}}
echo 1 > /proc/sys/net/ipv4/ip_forward && add_host 1 && locust=$! && add_host 2 && service=$! || exit 99
{router} || exit 99
nsenter --target $service --net {python} {service} > {folder}/service &
until grep -q listening {folder}/service; do sleep 0.1; done
nsenter --target $locust --net {locust} --headless --users 20 --spawn-rate 10 --run-time 8s --wait 0.05 \
    --host tcp://10.0.2.2:19000 {options}
"""


def dropping(what: str, percent: int = 4) -> str:
    """Return a command of the router that drops some of the packets that match."""
    return (
        "nft 'add table inet loss; add chain inet loss forward { type filter hook forward priority 0; }; "
        f"add rule inet loss forward {what} numgen random mod 100 < {percent} drop'"
    )


def narrow(queue: int) -> str:
    """Return commands of the router that let 300 kbit/s pass each way, and queue so many bytes at most."""
    return " && ".join(f"tc qdisc add dev to{end} root tbf rate 300kbit burst 2000 limit {queue}" for end in (1, 2))


CAPSERVER = "-m capserver --host 10.0.2.2 --port 19000"
# It takes 40 connections per second, fewer than are opened, and has room for two that wait.
FULL = """-c '
import socket, time
with socket.create_server(("10.0.2.2", 19000), backlog=1) as listener:
    print("listening", flush=True)
    while True:
        time.sleep(0.025)
        with listener.accept()[0] as sock:
            sock.sendall(sock.recv(100).upper())
'"""
WORDS = "-f tests/swarm/words_locustfile.py"
# Within the timeout a packet is sent again once.
NOMERCY = "-f locustfile.py,nomercy.py --timeout 0.35 --start-users 10 --max-users 20 --step-time 3 --settle-time 0.5"


class Swarm(NamedTuple):
    """The router's commands, the service as arguments of Python, and Locust's options."""

    router: str = "true"
    service: str = CAPSERVER
    options: str = ""


SWARMS = {
    "good": Swarm(),
    # The first service answers before its kernel must acknowledge, so that TCP's round-trip time contains its time.
    "service that takes 30 ms": Swarm(service=f"{CAPSERVER} --fault delay=1:30"),
    "service that takes 300 ms": Swarm(service=f"{CAPSERVER} --fault delay=1:300"),
    "full backlog": Swarm(service=FULL, options=f"{WORDS} --connection per-request"),
    "lossy": Swarm(dropping("tcp dport 19000")),
    "lossy, two workers": Swarm(dropping("tcp dport 19000"), options="--processes 2"),
    "lossy back": Swarm(dropping("tcp sport 19000")),
    "lossy, per request": Swarm(dropping("tcp dport 19000"), options=f"{WORDS} --connection per-request"),
    "narrow": Swarm(narrow(queue=3000)),
    "narrow, per request": Swarm(narrow(queue=60000), options=f"{WORDS} --connection per-request --wait 0"),
    "lossy, nomercy": Swarm(dropping("tcp dport 19000", percent=20), options=NOMERCY),
}


@pytest.fixture(scope="module")
def swarms(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, kit.Program]]:
    """All swarms, which run."""
    if missing := [tool for tool in TOOLS if not shutil.which(tool)]:
        if os.environ.get("CI"):
            pytest.fail(f"CI needs {', '.join(missing)}")
        pytest.skip(f"there is no {', '.join(missing)} here")
    running = {}
    with contextlib.ExitStack() as stack:
        for name, swarm in SWARMS.items():
            folder = tmp_path_factory.mktemp("network")
            command = SWARM.format(python=sys.executable, locust=kit.LOCUST, folder=folder, **swarm._asdict())
            # With a process namespace of its own, all that it has started ends with it.
            namespaces = ("--user", "--map-root-user", "--net", "--pid", "--fork", "--kill-child", "--mount-proc")
            program = kit.program("unshare", *namespaces, "bash", "-c", command, output=folder / "log")
            running[name] = stack.enter_context(program)
        yield running


def ended(swarm: kit.Program) -> str:
    """Wait for the end of a swarm; return its log."""
    code = kit.eventually(lambda: [code for code in [swarm.process.poll()] if code is not None], 90.0)[0]
    if code == 99 or "unshare failed" in swarm.output:
        pytest.skip(f"this machine allows no network of our own: {swarm.output}")
    assert "Traceback" not in swarm.output
    return swarm.output


def verdict(swarm: kit.Program) -> str:
    """Return the verdict of a swarm when it has ended."""
    match = re.search(r"Load generator: (.*)", ended(swarm))
    assert match
    return match[1]


@pytest.mark.parametrize("name", ["good", "service that takes 30 ms", "service that takes 300 ms"])
def test_a_service_on_a_good_path_is_never_called_network(swarms: dict[str, kit.Program], name: str) -> None:
    said = verdict(swarms[name])
    assert "network" not in said
    taken = re.search(r"the service takes ([\d.]+) ms", said)
    assert taken
    assert float(taken[1]) >= float((re.findall("[0-9]+", name) or [0])[0])


@pytest.mark.parametrize("name", ["lossy", "lossy, two workers", "lossy back", "narrow"])
def test_a_path_that_loses_packets_is_called_network(swarms: dict[str, kit.Program], name: str) -> None:
    said = verdict(swarms[name])
    match = re.search(
        r"The network loses packets: ([\d.]+) % of the segments were sent again \((\d+) of (\d+)\), one for each "
        r"([\d.]+) exchanges, where the shortest round trip takes ([\d.]+) ms",
        said,
    )
    assert match, said
    share, again, segments, exchanges, shortest = map(float, match.groups())
    assert again >= 10
    assert share == pytest.approx(100 * again / segments, rel=0.01)
    assert 0.1 <= share < (9 if name.startswith("lossy") else 70)  # 4 of 100 are dropped
    assert exchanges <= 100
    assert shortest < 20
    assert "The limit is the service's" not in said


def test_a_round_trip_that_takes_most_of_the_response_time_is_called_network(swarms: dict[str, kit.Program]) -> None:
    said = verdict(swarms["narrow, per request"])
    match = re.search(
        r"The network is slow: a round trip takes ([\d.]+) ms at the shortest, of response times of ([\d.]+) ms", said
    )
    assert match, said
    # 20 users each have a packet of some 70 bytes in a queue that 300 kbit/s leave.
    assert 1 <= float(match[1]) <= float(match[2]) <= 2 * float(match[1])
    assert "The limit is the service's" not in said


@pytest.mark.parametrize("name", ["lossy, per request", "full backlog"])
def test_packets_that_are_lost_while_a_connection_is_opened_may_also_be_the_services(
    swarms: dict[str, kit.Program], name: str
) -> None:
    said = verdict(swarms[name])
    if name != "full backlog" and "The network loses packets: " in said:
        return  # so many connections had lasted for a while that there is evidence of that kind too
    match = re.search(
        r"The network loses packets, or the service's backlog of connections is full: ([\d.]+) % of the new "
        r"connections had to send a packet again \((\d+) of (\d+)\)",
        said,
    )
    assert match, said
    assert float(match[1]) >= 1
    assert int(match[2]) >= 10


def test_no_mercy_does_not_take_a_bad_network_for_the_services_limit(swarms: dict[str, kit.Program]) -> None:
    output = ended(swarms["lossy, nomercy"])
    assert re.search(
        "No mercy: Failures began .*mostly 'reply: timed out'.* That is not known to be the service's limit. The "
        "network loses packets: ",
        output,
    ), output
    assert "is the service's limit" not in output
