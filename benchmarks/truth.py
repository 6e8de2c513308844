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


def capture_percentile(times: list[float], percent: float) -> float:
    """Return the time that `percent` of the exchanges did not exceed."""
    return times[min(len(times) - 1, int(len(times) * percent))]


def run(user: str, users: int, processes: int, folder: Path) -> tuple[list[float], dict[str, float], str, int]:
    """Return the capture's times, Locust's percentiles, its word on fallbacks, and packets dropped."""
    with kit.server(output=folder / "server") as server:
        pcap = folder / "pcap"
        command = ["tcpdump", "-i", "lo", "--time-stamp-precision=nano", "-s", str(SNAPLEN), "-B", str(CAPTURE_BUFFER)]
        command += ["-Z", "root", "-w", str(pcap), f"tcp port {server.port}"]
        with kit.program(*command, output=folder / "tcpdump") as tcpdump:
            tcpdump.says("listening on lo")
            options = ["-f", "benchmarks/truth_locustfile.py", user, "--headless", "--host", server.host]
            options += ["-u", str(users), "-r", str(users), "-t", str(SECONDS), "--csv", str(folder / "run")]
            if processes > 1:
                port = str(kit.free_port())
                options += ["--processes", str(processes), "--master-port", port, "--master-bind-port", port]
            with kit.program(kit.LOCUST, *options, output=folder / "locust") as locust:
                assert locust.process.wait(SECONDS + kit.PATIENCE) == 0, locust.output
            tcpdump.stop(signal.SIGINT)
        dropped = int(tcpdump.says(r"(\d+) packets? dropped by kernel")[1])
        (row,) = [row for row in kit.rows(folder / "run_stats.csv") if row["Name"] == "word"]
        reported = {column: float(row[column]) * 1000 for column in PERCENTILES}
        return exchanges(pcap, server.port), reported, locust.says(r"^fallbacks: (.*)$")[1], dropped


def main() -> int:
    """Measure, print the table, and return 1 where the kit's user is not within the tolerance."""
    command = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    command.add_argument("--users", type=int, nargs="*", default=[1, 20, 200, 1000], help="in one process")
    command.add_argument("--shared", type=int, nargs="*", default=[200], help="numbers of users in two processes")
    options = command.parse_args()
    if not shutil.which("tcpdump"):
        sys.exit("truth.py needs tcpdump: apt install tcpdump")
    print(f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()} {platform.release()}", end=", ")
    print(f"Python {platform.python_version()}, {SECONDS} s each; times in microseconds, capture / Locust\n")
    print("| users | processes | user | p50 | p95 | p99 | p99.9 | exchanges | without arrival time | dropped |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    wrong = 0
    runs = [(users, 1) for users in options.users] + [(users, 2) for users in options.shared]
    for users, processes in runs:
        for user in ("KitUser", "PlainUser"):
            with tempfile.TemporaryDirectory() as folder:
                times, reported, fallbacks, dropped = run(user, users, processes, Path(folder))
            cells = []
            for column, percent in PERCENTILES.items():
                truth = capture_percentile(times, percent)
                cells.append(f"{truth:.0f} / {reported[column]:.0f}")
                off = abs(truth - reported[column]) > max(TOLERANCE[0], TOLERANCE[1] * truth)
                if user == "KitUser" and off:
                    cells[-1] += " (!)"
                    wrong += 1
            unknown = fallbacks if user == "KitUser" else "-"
            print(
                f"| {users} | {processes} | {user} | {' | '.join(cells)} | {len(times)} | {unknown} | {dropped} |",
                flush=True,
            )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
