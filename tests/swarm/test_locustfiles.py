"""The three locustfiles in a real, headless `locust`, and what it writes."""

import json
import re
import shutil
import signal
from pathlib import Path
from typing import Any

import psutil
import pytest

from locust_tcp.metrics.rounding import three_digits
from tests import kit, peers

NAMES = ["connect", "long line", "sentence", "word"]
ORDER = ("avg", "min", "max", "median")  # of the times in the console's table
SWARM = ("--headless", "--users", "20", "--spawn-rate", "100")


def report(file: Path) -> dict[str, Any]:
    """Return what Locust's HTML report shows, which is JSON in a script."""
    shown = re.search(r"window\.templateArgs = (.*)$", file.read_text(), re.MULTILINE)
    assert shown
    values: dict[str, Any] = json.loads(shown[1])
    return values


def summary(output: str) -> dict[str, tuple[int, int]]:
    """Return requests and failures by name, from the last table that Locust printed."""
    table = output[output.index("Shutting down") :].split("Response time percentiles")[0]
    lines = re.findall(r"^(?:TCP|GET|SAMPLE)? +(\S.*?) +(\d+) +(\d+)\(", table, re.MULTILINE)
    return {name: (int(requests), int(failures)) for name, requests, failures in lines}


def times(output: str) -> dict[str, list[float]]:
    """Return average, minimum, maximum and median by name, from the last table that Locust printed."""
    table = output[output.index("Shutting down") :].split("Response time percentiles")[0]
    lines = re.findall(r"^TCP +(\S.*?) +\d+ +\d+\(.*?\| *(.*?) *\|", table, re.MULTILINE)
    return {name: [float(value) for value in values.split()] for name, values in lines}


def lines_and_connections(swarm: kit.Program) -> tuple[int, int]:
    counts = summary(swarm.output)
    return counts["Aggregated"][0] - counts["connect"][0], counts["connect"][0]


@pytest.mark.parametrize(
    ("options", "users"),
    [((), 20), (("--connection", "per-request", "--wait", "0.1"), None), (("--processes", "2"), 20)],
    ids=["persistent", "per-request", "two processes"],
)
def test_console_csv_html_and_server_tell_of_the_same_swarm(
    tmp_path: Path, options: tuple[str, ...], users: int | None
) -> None:
    files = ("--csv", str(tmp_path / "run"), "--html", str(tmp_path / "run.html"))
    master = ("--master-bind-port", str(kit.free_port())) if "--processes" in options else ()
    workers = ("--master-port", master[1]) if master else ()
    with kit.server(output=tmp_path / "server") as server:
        swarm = (*SWARM, "--host", server.host, "--run-time", "4s", *files, *options, *master, *workers)
        with kit.program(kit.LOCUST, *swarm, output=tmp_path / "log") as locust:
            assert locust.ends() == 0
        requests, connections = lines_and_connections(locust)
        assert server.totals() == (requests, connections, 0)
    assert connections == (users or requests)
    assert "Traceback" not in locust.output

    console = summary(locust.output)
    assert sorted(console) == ["Aggregated", *NAMES]
    html = {row["name"]: row for row in report(tmp_path / "run.html")["requests_statistics"]}
    assert {name: (row["num_requests"], row["num_failures"]) for name, row in html.items()} == console

    csv = {row["Name"]: row for row in kit.rows(tmp_path / "run_stats.csv")}
    assert list(csv) == [*NAMES, "Aggregated"]
    assert {name: (int(row["Request Count"]), int(row["Failure Count"])) for name, row in csv.items()} == console
    assert sum(console[name][0] for name in NAMES) == console["Aggregated"][0]
    assert kit.rows(tmp_path / "run_failures.csv") == kit.rows(tmp_path / "run_exceptions.csv") == []
    history = [int(row["Total Request Count"]) for row in kit.rows(tmp_path / "run_stats_history.csv")]
    assert history == sorted(history)
    assert history[-1] == int(csv["Aggregated"]["Request Count"])

    for row in report(tmp_path / "run.html")["response_time_statistics"]:
        percentiles = [value for column, value in row.items() if column not in ("name", "method")]
        assert percentiles == [three_digits(value) for value in percentiles]

    # Three significant digits everywhere, of a service that takes about a tenth of a millisecond.
    median = html["word"]["median_response_time"]
    assert 0 < median < 10
    assert times(locust.output)["word"] == [html["word"][f"{which}_response_time"] for which in ORDER]
    assert three_digits(float(csv["word"]["Median Response Time"])) == three_digits(float(csv["word"]["50%"])) == median
    for name, row in csv.items():
        percentiles = [float(value) for column, value in row.items() if column.endswith("%")]
        assert percentiles == sorted(percentiles)
        assert float(row["Min Response Time"]) <= percentiles[0]
        assert percentiles[-1] <= float(row["Max Response Time"])
        assert three_digits(percentiles[-1]) == html[name]["max_response_time"]


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_swarm_stopped_in_the_middle_leaves_no_false_account(tmp_path: Path, how: signal.Signals) -> None:
    with kit.server(output=tmp_path / "server") as server:
        with kit.program(kit.LOCUST, *SWARM, "--host", server.host, output=tmp_path / "log") as locust:
            locust.says(r"word +[1-9]")
            assert locust.stop(how) == 0
        assert server.totals() == (*lines_and_connections(locust), 0)
    assert summary(locust.output)["Aggregated"][1] == 0
    assert "Traceback" not in locust.output


def test_users_that_are_stopped_leave_no_connection_behind(tmp_path: Path) -> None:
    with kit.server(output=tmp_path / "server") as server, peers.peer(peers.mute) as mute:
        web = ("--web-port", str(kit.free_port()), "--web-host", "127.0.0.1", "--autostart", "--users", "9")
        for port, seen in ((server.port, r"word +[1-9]"), (mute, r"connect +9 ")):
            stop_soon = ("--host", f"tcp://127.0.0.1:{port}", "--run-time", "5", "--spawn-rate", "9", "--print-stats")
            with kit.program(kit.LOCUST, *web, *stop_soon, output=tmp_path / "log") as locust:
                locust.says(seen)
                assert len(connections_to(port, locust)) == 9
                locust.says("limit reached, stopping test")
                kit.eventually(lambda port=port, locust=locust: not connections_to(port, locust))  # type: ignore[misc]


def connections_to(port: int, program: kit.Program) -> list[Any]:
    connections = psutil.Process(program.process.pid).net_connections("tcp")
    return [connection for connection in connections if connection.raddr and connection.raddr.port == port]


@pytest.mark.parametrize(
    ("options", "code", "says"),
    [
        (("--timeout", "0"), 2, "argument --timeout: '0' is not a number of seconds above 0"),
        (("--timeout", "soon"), 2, "argument --timeout: 'soon' is not a number of seconds above 0"),
        (("--wait", "-1"), 2, "argument --wait: '-1' is not a number of seconds, 0 or more"),
        (("--wait", "nan"), 2, "argument --wait: 'nan' is not a number of seconds, 0 or more"),
        (("--connection", "none"), 2, "argument --connection: invalid choice: 'none'"),
        (("--host", "localhost"), 1, "host 'localhost' has no port: write it as tcp://name:port"),
        (("--host", "localhost:x"), 1, "host 'localhost:x' has a bad port: write it as tcp://name:port"),
        (("--host", "http://localhost:1"), 1, "host 'http://localhost:1' is not a TCP service"),
    ],
)
def test_a_wrong_value_is_one_clear_line(tmp_path: Path, options: tuple[str, ...], code: int, says: str) -> None:
    with kit.program(kit.LOCUST, *SWARM, *options, output=tmp_path / "log") as locust:
        assert locust.ends() == code
    errors = [line for line in locust.output.splitlines() if "Starting Locust" not in line]
    assert len(errors) == 1
    assert says in errors[0]


@pytest.mark.parametrize("swap", ["-f", "rename"])
@pytest.mark.parametrize(
    ("variant", "failure"),
    [
        ("babylocustfile.py", r"GET /hello: BadStatusLine\('GET /HELLO HTTP/1\.1"),
        ("locustfile-sample.py", r"SAMPLE connect: NotFilledIn\('FILL IN \(1 of 2\): connect'\)"),
    ],
)
def test_both_ways_to_swap_in_a_variant_show_its_failures(
    tmp_path: Path, variant: str, failure: str, swap: str
) -> None:
    options: tuple[str, ...] = ("--headless", "--users", "2")
    with kit.server(output=tmp_path / "server") as server:
        if swap == "rename":
            folder = copy_of_the_kit(tmp_path)
            (folder / "locustfile.py").rename(folder / "mylocustfile.py")
            (folder / variant).rename(folder / "locustfile.py")
        else:
            folder = kit.KIT
            options = ("-f", variant, *options)
        host = f"http://127.0.0.1:{server.port}"
        with kit.program(kit.LOCUST, *options, "--host", host, output=tmp_path / "log", cwd=folder) as locust:
            locust.says(r"^(GET|SAMPLE) .* [1-9]\d*\(100\.00%\)")
            assert locust.stop() == 1
    requests, failures = summary(locust.output)["Aggregated"]
    assert requests == failures > 0
    assert re.search(failure, locust.output)
    assert "Traceback" not in locust.output


def test_the_sample_works_once_its_two_places_are_filled_in(tmp_path: Path) -> None:
    text = "import socket\n" + (kit.KIT / "locustfile-sample.py").read_text()
    with kit.server(output=tmp_path / "server") as server:
        text = fill_in(text, 1, f'return socket.create_connection(("127.0.0.1", {server.port}), timeout=5)')
        text = fill_in(text, 2, r'connection.sendall(b"hello\n"); return connection.makefile("rb").readline()')
        mine = tmp_path / "mine.py"
        mine.write_text(text)
        options = ("-f", mine, "--headless", "--users", "3", "--spawn-rate", "3", "--stop-timeout", "5")
        with kit.program(kit.LOCUST, *options, output=tmp_path / "log") as locust:
            locust.says(r"^SAMPLE +connect +3 ")
            locust.says(r"^SAMPLE +request +[1-9]")
            assert locust.stop() == 0
        counts = summary(locust.output)
        assert counts["connect"] == (3, 0)
        assert counts["request"][0] > 0 == counts["request"][1]
        assert server.totals() == (counts["request"][0], 3, 0)


def fill_in(text: str, place: int, filling: str) -> str:
    """Put a line in the place of one of the sample's placeholders."""
    head, mark, rest = text.partition(f"# FILL IN ({place} of 2)")
    placeholder = re.search(r"    print\(.*\)\n    raise NotFilledIn\(.*\)\n", rest)
    assert placeholder
    return f"{head}{mark}{rest[: placeholder.start()]}    {filling}\n{rest[placeholder.end() :]}"


def copy_of_the_kit(folder: Path) -> Path:
    """Copy what a clone would have, and return its folder."""
    return Path(
        shutil.copytree(
            kit.KIT, folder / "kit", ignore=shutil.ignore_patterns("env", ".*", "tests", "primer-images", "__pycache__")
        )
    )
