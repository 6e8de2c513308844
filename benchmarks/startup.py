"""How long until the page answers, and from Start to the first request? The kit beside a bare Locust, in turns.

Prints a Markdown table in about a minute.

python benchmarks/startup.py
"""

import contextlib
import http.client
import json
import os
import platform
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests import kit

ROUNDS = 9
POLL = 0.002  # seconds between two looks at the page
FILES = {"the kit": "locustfile.py", "bare Locust": "benchmarks/plain_locustfile.py"}
USER = {"bare Locust": ("PlainUser",)}  # its other one speaks HTTP


def ask(port: int, path: str, form: str = "") -> dict[str, object]:
    """Return what Locust's page answers; an empty dictionary where it does not answer yet."""
    with contextlib.suppress(OSError, http.client.HTTPException):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=kit.PATIENCE)
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        connection.request("POST" if form else "GET", path, form, headers)
        answer = json.loads(connection.getresponse().read())
        return dict(answer)
    return {}


def seconds(name: str, folder: Path) -> Iterator[float]:
    """Yield the seconds from the command to the page, and from Start to the first byte that the service gets."""
    port = kit.free_port()
    service = socket.create_server(("127.0.0.1", 0))
    service.settimeout(kit.PATIENCE)
    host = f"tcp://127.0.0.1:{service.getsockname()[1]}"
    command = (kit.LOCUST, "-f", FILES[name], *USER.get(name, ()), "--host", host, "--web-port", str(port))
    begun = time.perf_counter()
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    with service, kit.program(*command, "--web-host", "127.0.0.1", output=folder / "locust", environment=environment):
        while not ask(port, "/stats/requests"):
            time.sleep(POLL)
        yield time.perf_counter() - begun
        begun = time.perf_counter()
        assert ask(port, "/swarm", f"user_count=1&spawn_rate=1&host={host}")["success"]
        user, _ = service.accept()
        with user:
            user.settimeout(kit.PATIENCE)
            assert user.recv(1)
            yield time.perf_counter() - begun


def main() -> None:
    """Measure, and print the table."""
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, rounds: {ROUNDS}\n")
    taken: dict[str, list[list[float]]] = {name: [] for name in FILES}
    with tempfile.TemporaryDirectory() as temporary:
        for _ in range(ROUNDS):
            for name in FILES:
                taken[name].append(list(seconds(name, Path(temporary))))
    print("| | s until the page answers | s from Start to the first request |\n| --- | --- | --- |")
    for name, rounds in taken.items():
        cells = (
            f"{statistics.median(each):.2f} ({min(each):.2f} to {max(each):.2f})" for each in zip(*rounds, strict=True)
        )
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
