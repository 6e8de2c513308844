"""Do the response times that Locust reports agree with a packet capture?

For each number of users the kit's user and a plain one make requests for a few seconds, while tcpdump
captures the loopback interface with nanosecond timestamps. The capture's time of an exchange is from
the packet with the request's first byte to the one with the reply's last. Prints a Markdown table.

Run it as root, or as somebody who may run tcpdump: python benchmarks/truth.py
"""

import argparse
import os
import platform
import shutil
import signal
import struct
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests import kit

PERCENTILES = {"50%": 0.50, "95%": 0.95, "99%": 0.99, "99.9%": 0.999}
SECONDS = 6
GREETED = "GreetedUser"  # its service speaks first: connects and greetings are compared
TOLERANCE = 15.0, 0.05  # microseconds, share of the capture's value: whichever is more
SNAPLEN = 96  # bytes kept of a packet: its headers
CAPTURE_BUFFER = 262_144  # KiB in the kernel, so that a busy machine drops nothing


def packets(file: Path) -> Iterator[tuple[int, bytes]]:
    """Return nanoseconds and bytes of each packet of a capture file (pcap-savefile(5), nanoseconds)."""
    content = file.read_bytes()
    magic, link = struct.unpack_from("=I16xI", content)
    assert (magic, link) == (0xA1B23C4D, 1), "not an Ethernet capture with nanoseconds"
    position = 24
    while position + 16 <= len(content):
        seconds, nanoseconds, kept, _ = struct.unpack_from("=IIII", content, position)
        position += 16
        yield seconds * 1_000_000_000 + nanoseconds, content[position : position + kept]
        position += kept


def exchanges(file: Path, port: int) -> list[float]:
    """Return the time of each complete exchange in a capture, in microseconds, sorted."""
    begun: dict[int, int] = {}  # by the client's port: when its request began
    ended: dict[int, int] = {}  # when the last byte of the reply so far was seen
    times = []
    for moment, packet in packets(file):
        header = 14 + (packet[14] & 15) * 4  # Ethernet, IPv4
        size = int.from_bytes(packet[16:18], "big") - (header - 14) - (packet[header + 12] >> 4) * 4
        if size <= 0:
            continue
        source, destination = struct.unpack_from(">HH", packet, header)
        if source == port:
            ended[destination] = moment
            continue
        if source in ended:
            times.append((ended.pop(source) - begun[source]) / 1000)
        begun[source] = moment
    times += [(end - begun[client]) / 1000 for client, end in ended.items()]
    return sorted(times)


def handshakes(file: Path, port: int) -> dict[str, list[float]]:
    """Return the times of all connects and greetings in a capture, in microseconds, sorted.

    A connect is from the client's first packet (SYN) to the service's (SYN-ACK). A greeting is from
    there to the service's first data.
    """
    begun: dict[int, int] = {}  # by the client's port
    connected: dict[int, int] = {}
    times: dict[str, list[float]] = {"connect": [], "greeting": []}
    for moment, packet in packets(file):
        header = 14 + (packet[14] & 15) * 4
        source, destination = struct.unpack_from(">HH", packet, header)
        size = int.from_bytes(packet[16:18], "big") - (header - 14) - (packet[header + 12] >> 4) * 4
        is_syn = packet[header + 13] & 2
        if is_syn and destination == port:
            begun[source] = moment
        elif is_syn and destination in begun:
            times["connect"].append((moment - begun.pop(destination)) / 1000)
            connected[destination] = moment
        elif size > 0 and source == port and destination in connected:
            times["greeting"].append((moment - connected.pop(destination)) / 1000)
    return {name: sorted(each) for name, each in times.items()}


def capture_percentile(times: list[float], percent: float) -> float:
    """Return the time that `percent` of the exchanges did not exceed."""
    return times[min(len(times) - 1, int(len(times) * percent))]


def run(
    user: str, users: int, processes: int, folder: Path
) -> tuple[dict[str, list[float]], dict[str, dict[str, float]], str, int]:
    """Return the capture's times, Locust's percentiles, its word on fallbacks, and packets dropped.

    The times and the percentiles are those of each row of the statistics.
    """
    module = "benchmarks.greeting_service" if user == GREETED else "capserver"
    service = [sys.executable, "-m", module, *(() if user == GREETED else ("--port", "0"))]
    with kit.program(*service, output=folder / "server") as server:
        port = int(server.says(r"listening on \D*(?:127.0.0.1:)?(\d+)")[1])
        pcap = folder / "pcap"
        command = ["tcpdump", "-i", "lo", "--time-stamp-precision=nano", "-s", str(SNAPLEN), "-B", str(CAPTURE_BUFFER)]
        command += ["-Z", "root", "-w", str(pcap), f"tcp port {port}"]
        with kit.program(*command, output=folder / "tcpdump") as tcpdump:
            tcpdump.says("listening on lo")
            host = f"tcp://127.0.0.1:{port}"
            options = ["-f", "benchmarks/truth_locustfile.py", user, "--headless", "--host", host]
            options += ["-u", str(users), "-r", str(users), "-t", str(SECONDS), "--csv", str(folder / "run")]
            if processes > 1:
                own = str(kit.free_port())
                options += ["--processes", str(processes), "--master-port", own, "--master-bind-port", own]
            with kit.program(kit.LOCUST, *options, output=folder / "locust") as locust:
                assert locust.process.wait(SECONDS + kit.PATIENCE) == 0, locust.output
            tcpdump.stop(signal.SIGINT)
        dropped = int(tcpdump.says(r"(\d+) packets? dropped by kernel")[1])
        reported = {
            row["Name"]: {column: float(row[column]) * 1000 for column in PERCENTILES}
            for row in kit.rows(folder / "run_stats.csv")
        }
        captured = handshakes(pcap, port) if user == GREETED else {"word": exchanges(pcap, port)}
        return captured, reported, locust.says(r"^fallbacks: (.*)$")[1], dropped


def main() -> int:
    """Measure, print the table, and return 1 where the kit's user is not within the tolerance."""
    command = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    command.add_argument("--users", type=int, nargs="*", default=[1, 20, 200, 1000], help="in one process")
    command.add_argument("--greeted", type=int, nargs="*", default=[20, 200], help="of a service that speaks first")
    command.add_argument("--shared", type=int, nargs="*", default=[200], help="numbers of users in two processes")
    options = command.parse_args()
    if not shutil.which("tcpdump"):
        sys.exit("truth.py needs tcpdump: apt install tcpdump")
    print(f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()} {platform.release()}", end=", ")
    print(f"Python {platform.python_version()}, {SECONDS} s each; times in microseconds, capture / Locust\n")
    print("| users | processes | user | row | p50 | p95 | p99 | p99.9 | captured | without arrival time | dropped |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    wrong = 0
    runs = [(users, 1, user) for users in options.users for user in ("KitUser", "PlainUser")]
    runs += [(users, 2, user) for users in options.shared for user in ("KitUser", "PlainUser")]
    runs += [(users, 1, GREETED) for users in options.greeted]
    for users, processes, user in runs:
        with tempfile.TemporaryDirectory() as folder:
            captured, reported, fallbacks, dropped = run(user, users, processes, Path(folder))
        for name, times in captured.items():
            cells = []
            for column, percent in PERCENTILES.items():
                truth, shown = capture_percentile(times, percent), reported[name][column]
                cells.append(f"{truth:.0f} / {shown:.0f}")
                if user != "PlainUser" and abs(truth - shown) > max(TOLERANCE[0], TOLERANCE[1] * truth):
                    cells[-1] += " (!)"
                    wrong += 1
            unknown = "-" if user == "PlainUser" else fallbacks
            counts = f"{len(times)} | {unknown} | {dropped}"
            print(f"| {users} | {processes} | {user} | {name} | {' | '.join(cells)} | {counts} |", flush=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
