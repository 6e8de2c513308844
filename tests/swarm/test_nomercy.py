"""nomercy.py on services whose limit is known, and in the browser.

A step takes seconds in which next to nothing happens: the services wait, and so do their users.
All swarms of this file run at the same time.
"""

import contextlib
import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from playwright.sync_api import Page, expect

from locust_tcp.metrics.thresholds import NOT_JUDGED
from tests import kit
from tests.browser import await_state, chromium, chromium_for_tests, fill, new_page, press, show, table, web
from tests.pages import Parsed

PATIENCE = 120.0  # seconds for a dozen steps
WAIT = 0.1  # seconds that a user waits between two requests
DELAY = 0.1  # seconds that a service takes for each answer
BLOCKED = 0.005  # seconds that each request blocks its process: blocking_locustfile.py

LOCUSTFILE = ("-f", "locustfile.py,nomercy.py", "--step-time", "3", "--settle-time", "1")
BLOCKING = ("-f", "tests/swarm/blocking_locustfile.py,nomercy.py", "--step-time", "3", "--settle-time", "1")
LONGER = ("--step-time", "5")  # so that a step has enough parts for its uncertainty
PACED = ("--wait", str(WAIT), "--timeout", "1")

# The server's options, and Locust's
SWARMS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "pool": (("--pool", "20"), (*LOCUSTFILE, *PACED, "--start-users", "8", "--max-users", "60")),
    "full": (("--max-connections", "12"), (*LOCUSTFILE, *PACED, "--start-users", "8", "--max-users", "60")),
    "delay": (
        ("--fault", f"delay=1:{1000 * DELAY:.0f}"),
        (*LOCUSTFILE, *LONGER, "--start-users", "5", "--max-users", "20"),
    ),
    "one process": ((), (*BLOCKING, "--start-users", "4", "--max-users", "16")),
    "two processes": ((), (*BLOCKING, "--start-users", "8", "--max-users", "16", "--processes", "2")),
    "no descriptors": ((), (*LOCUSTFILE, *PACED, "--start-users", "20", "--max-users", "80")),
    "few": ((), (*LOCUSTFILE, *PACED, "--start-users", "2", "--max-users", "3")),
    "stopped": ((), (*LOCUSTFILE, *PACED, "--start-users", "2", "--max-users", "200")),
    "refused": ((), (*LOCUSTFILE, *PACED, "--start-users", "2", "--max-users", "3")),
    "half a user": ((), (*LOCUSTFILE, *PACED, "--start-users", "9", "--max-users", "0.5")),
    "baby": (
        (),
        ("-f", "babylocustfile.py,nomercy.py", "--step-time", "3", "--settle-time", "0", "--start-users", "2"),
    ),
}


class Swarm(NamedTuple):
    """A swarm with nomercy.py."""

    locust: kit.Program
    prefix: str

    def ends(self) -> int:
        """Wait for the end of the swarm; return its exit code."""
        return kit.eventually(lambda: [code for code in [self.locust.process.poll()] if code is not None], PATIENCE)[0]

    def findings(self, code: int = 0) -> str:
        """Wait for the end of the swarm and its exit code; return the findings."""
        assert self.ends() == code, self.locust.output
        # Locust's own greenlets may fail at the end, such as the writer of a CSV that is closed.
        assert not re.search(r'File ".*/(nomercy|locust_tcp/.+)\.py"', self.locust.output), self.locust.output
        return "\n".join(Parsed(Path(f"{self.prefix}_limit.html").read_text()).texts["p"])

    @property
    def csv(self) -> Path:
        """The file of the steps."""
        return Path(f"{self.prefix}_limit.csv")

    @property
    def is_alone(self) -> bool:
        """Whether the machine had an idle core; otherwise it may limit the goodput itself."""
        return all(float(row["All cores (%)"]) < 95 for row in kit.rows(self.csv))

    def goodput(self) -> dict[int, float]:
        """Return the goodput of each step, by its users."""
        return {int(row["Users"]): float(row["Good requests/s"]) for row in kit.rows(self.csv)}


@pytest.fixture(scope="module")
def swarms(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Swarm]]:
    """All swarms, each started after the one before had begun."""
    running = {}
    with contextlib.ExitStack() as stack:
        for name, (service, options) in SWARMS.items():
            folder = tmp_path_factory.mktemp("swarm")
            scheme = "http" if name == "baby" else "tcp"
            if name == "refused":
                host = f"tcp://127.0.0.1:{kit.free_port()}"
            else:
                host = (
                    f"{scheme}://127.0.0.1:{stack.enter_context(kit.server(*service, output=folder / 'server')).port}"
                )
            command = [str(kit.LOCUST), *options, "--headless", "--host", host, "--csv", f"{folder}/run"]
            if "--processes" in options:
                port = str(kit.free_port())
                command += ["--master-bind-port", port, "--master-port", port]
            if name == "no descriptors":
                # The hard limit too, which Locust would raise its soft one to.
                command = ["bash", "-c", f"ulimit -n 60; exec {' '.join(command)}"]
            locust = stack.enter_context(kit.program(*command, output=folder / "locust"))
            locust.says("Shape test starting")  # so that they don't all start in the same second
            running[name] = Swarm(locust, f"{folder}/run")
        yield running


def found(pattern: str, findings: str) -> re.Match[str]:
    """Return the match of a pattern in the findings."""
    match = re.search(pattern, findings)
    assert match, findings
    return match


def test_a_run_stopped_early_has_findings(swarms: dict[str, Swarm]) -> None:
    swarm = swarms["stopped"]
    swarm.locust.says("No mercy: 4 users, ")
    swarm.locust.process.send_signal(signal.SIGINT)
    findings = swarm.findings()
    assert "No request failed, with up to " in findings
    assert {2, 4} <= set(swarm.goodput())
    assert len(re.findall("No mercy: No request failed", swarm.locust.output)) == 1
    assert Path(f"{swarm.prefix}_limit.html").exists()


def test_a_pool_has_a_limit_of_users(swarms: dict[str, Swarm]) -> None:
    findings = swarms["pool"].findings()
    found(
        "Failures began between 20 and 21 users: .*mostly 'reply: timed out', and none of .* with 20. That is the "
        "service's limit: ",
        findings,
    )
    # A user makes no more than one request each WAIT seconds.
    match = found(r"The highest goodput with all thresholds kept was (\d+) requests/s, at (\d+) users", findings)
    assert 0.7 * 20 / WAIT <= float(match[1]) <= 1.05 * int(match[2]) / WAIT
    assert int(match[2]) in (20, 21, 22)
    assert "The goodput is the service's limit" in findings or not swarms["pool"].is_alone


def test_the_findings_are_in_the_log_and_the_page_and_the_steps_in_the_csv(swarms: dict[str, Swarm]) -> None:
    swarm = swarms["pool"]
    findings = swarm.findings()
    for finding in findings.splitlines():
        assert f"No mercy: {finding}\n" in swarm.locust.output
    logged = re.findall(r"No mercy: (\d+) users?, ", swarm.locust.output)
    assert sorted(row["Users"] for row in kit.rows(swarm.csv)) == sorted(logged), "each row is a step"
    page = Parsed(Path(f"{swarm.prefix}_limit.html").read_text())
    assert {str(users) for users in swarm.goodput()} <= set(page.texts["td"])


def test_a_full_server_has_a_limit_of_connections(swarms: dict[str, Swarm]) -> None:
    findings = swarms["full"].findings()
    found(
        "Failures began between 12 and 13 users: .*, and none of .* with 12. "
        "(That is the service's limit|The failure does not say)",
        findings,
    )
    assert max(swarms["full"].goodput()) == 16, "users are not doubled after a broken threshold"


def test_a_delay_alone_has_no_limit(swarms: dict[str, Swarm]) -> None:
    findings = swarms["delay"].findings()
    assert "No request failed, with up to 20 users." in findings
    sentence = "No limit was found: the goodput still grew at 20 users. Allow more: --max-users."
    assert sentence in findings or not swarms["delay"].is_alone
    goodput = swarms["delay"].goodput()
    assert {5, 10, 20} <= set(goodput)
    for users, rate in goodput.items():
        assert 0.75 * users / DELAY <= rate <= 1.05 * users / DELAY, goodput
    match = found(r"kept was (\d+) \+- ([\d.]+) requests/s, at 20 users", findings)
    assert abs(float(match[1]) - goodput[20]) <= 0.5
    (margin,) = {row["Margin (95 %)"] for row in kit.rows(swarms["delay"].csv) if row["Users"] == "20"}
    assert float(match[2]) == pytest.approx(float(margin), abs=0.1 + 0.05 * float(margin))
    match = found(r"percentile of ([\d.]+) ms", findings)
    assert 1000 * DELAY <= float(match[1]) <= 2 * 1000 * DELAY


@pytest.mark.skipif(sys.platform != "linux", reason="the verdict rests on arrival times")
def test_the_limit_of_a_process_of_locust_is_not_the_services_limit(swarms: dict[str, Swarm]) -> None:
    findings = swarms["one process"].findings()
    assert "The goodput is Locust's limit, and the service's is still unknown." in findings
    assert "Replies wait mostly for Locust" in findings  # its process sleeps
    assert "service's limit" not in findings
    assert "No limit was found" not in findings


def test_with_a_second_process_the_limit_moves_and_no_step_is_faster_than_both_can_be(swarms: dict[str, Swarm]) -> None:
    findings = swarms["two processes"].findings()
    one, two = swarms["one process"].goodput(), swarms["two processes"].goodput()
    assert "The goodput is Locust's limit" in findings
    assert max(two.values()) > 1.4 * max(one.values()), (one, two)
    # These bounds hold on any machine: each request blocks its process for BLOCKED seconds.
    assert max(one.values()) <= 1.05 / BLOCKED, one
    assert max(two.values()) <= 1.1 * 2 / BLOCKED, two


def test_locust_out_of_file_descriptors_is_not_the_services_limit(swarms: dict[str, Swarm]) -> None:
    findings = swarms["no descriptors"].findings()
    found(
        "Failures began between .*mostly 'connect: Locust out of file descriptors', and none of .* with .*. "
        "That is the limit of Locust's machine: Locust out of file descriptors; .*`ulimit -n 65536`",
        findings,
    )
    assert "service's limit" not in findings


def test_the_first_and_the_most_users_are_those_of_the_options(swarms: dict[str, Swarm]) -> None:
    findings = swarms["few"].findings()
    assert {2, 3} <= set(swarms["few"].goodput()) <= {1, 2, 3}
    assert "No request failed, with up to 3 users." in findings


def test_there_is_at_least_one_user(swarms: dict[str, Swarm]) -> None:
    swarms["half a user"].findings()
    assert set(swarms["half a user"].goodput()) == {1}


def test_where_the_port_is_closed_all_requests_fail(swarms: dict[str, Swarm]) -> None:
    findings = swarms["refused"].findings(NOT_JUDGED)
    assert re.fullmatch(
        "There is no result: none of .* requests succeeded, mostly 'connect: refused'. That is no limit: look at that "
        "failure first.",
        findings,
    )


def test_users_of_http_work_too(swarms: dict[str, Swarm]) -> None:
    findings = swarms["baby"].findings(NOT_JUDGED)
    found("There is no result: none of .* requests succeeded, mostly .*BadStatusLine", findings)
    assert set(swarms["baby"].goodput()) == {1, 2}


@pytest.fixture
def page() -> Iterator[Page]:
    """A page in Chromium. That its scripts raise nothing is part of the test."""
    errors: list[str] = []
    with chromium(chromium_for_tests()) as browser, new_page(browser) as opened:
        opened.on("pageerror", lambda error: errors.append(str(error)))
        yield opened
    assert errors == []


def test_the_page_shows_the_steps_the_findings_and_two_pictures(page: Page, tmp_path: Path) -> None:
    pool = kit.server("--pool", "3", output=tmp_path / "server")
    with pool as server, web("-f", "locustfile.py,nomercy.py", output=tmp_path / "locust") as (locust, url):
        page.goto(url)
        quick = {"startUsers": "2", "maxUsers": "8", "stepTime": "2", "settleTime": "0.5"}
        fill(page, quick | {"wait": "0.1", "timeout": "0.5", "host": server.host})
        press(page, "Start")
        show(page, "Limit")
        locust.says("No mercy: The highest goodput")
        await_state(page, "stopped")

        drawings = page.locator("#limit-panel svg")
        expect(drawings).to_have_count(2)
        for drawing in drawings.all():
            expect(drawing).to_be_visible()
            box = drawing.bounding_box()
            assert box
            assert min(box["width"], box["height"]) > 100
        expect(page.locator("#limit-panel text.mark").filter(has_text="knee")).to_have_count(2)
        expect(page.locator("#limit-panel text.mark").filter(has_text="failures begin")).to_have_count(2)

        findings = re.findall(r"No mercy: ([A-Z].*)$", locust.output, re.MULTILINE)
        assert any(finding.startswith("Failures began between 3 and 4 users") for finding in findings), findings
        kit.eventually(lambda: page.locator("#limit-panel p").all_inner_texts() == findings)

        tried = sorted(map(int, re.findall(r"No mercy: (\d+) users?, ", locust.output)))
        kit.eventually(lambda: [row.get("Users") for row in table(page)] == [str(users) for users in tried])
        row, again = (row for row in table(page) if row["Users"] == "4")
        row, again = (row, again) if "tried twice" in again["What was found out"] else (again, row)
        assert again["What was found out"].startswith("tried twice, the better step counts; ")
        assert "failures begin" in row["What was found out"]
        assert float(row["Failures (%)"]) > 0

        show(page, "Statistics")
        expect(page.locator("#limit-panel")).to_have_count(0)
        header = page.get_by_role("banner").screenshot()
        show(page, "Limit")
        expect(drawings).to_have_count(2)
        assert page.get_by_role("banner").screenshot() == header, "the panel changes the rest of the page"

        show(page, "Download Data")
        expect(page.locator("#limit-panel")).to_have_count(0)
        with page.expect_download() as downloaded:
            page.get_by_role("link", name="Download limit CSV").click()
        downloaded.value.save_as(tmp_path / "limit.csv")
        rows = kit.rows(tmp_path / "limit.csv")
        assert [row["Users"] for row in rows] == [str(users) for users in tried]
        began = r"Locust_\d{4}-\d\d-\d\d-\d\dh\d\d_"
        with page.expect_download() as requests:
            page.get_by_role("link", name="Download requests CSV").click()
        ours, locusts = downloaded.value.suggested_filename, requests.value.suggested_filename
        assert re.match(began, ours), ours
        assert ours == locusts.replace("_requests.csv", "_limit.csv")


def test_a_reset_in_the_middle_of_a_step_starts_it_anew(page: Page, tmp_path: Path) -> None:
    files = ("-f", "locustfile.py,nomercy.py")
    with kit.server(output=tmp_path / "server") as server, web(*files, output=tmp_path / "locust") as (locust, url):
        page.goto(url)
        quick = {"startUsers": "2", "maxUsers": "4", "stepTime": "4", "settleTime": "1"}
        fill(page, quick | {"wait": "0.1", "host": server.host})
        press(page, "Start")
        locust.says("No mercy: 2 users, ")
        kit.eventually(lambda: page.request.get(f"{url}stats/requests").json()["user_count"] == 4)
        page.wait_for_timeout(3000)  # until the measured part of the step has begun
        press(page, "Reset")
        rate = locust.says(r"No mercy: 4 users, goodput (\S+) requests/s")[1]
        assert 0 < float(rate) <= 1.05 * 4 / WAIT
        locust.says("No mercy: The highest goodput")


def test_a_settle_time_that_leaves_nothing_to_measure_is_refused(page: Page, tmp_path: Path) -> None:
    line = "--settle-time 2 must be shorter than --step-time 2, whose first part it is"
    shape = ("-f", "locustfile.py,nomercy.py")
    with kit.program(kit.LOCUST, *shape, "--headless", "--step-time", "2", output=tmp_path / "headless") as locust:
        assert locust.ends() == 1
    assert locust.output.endswith(f"\nlocust: error: {line}\n")
    assert "Traceback" not in locust.output
    with web(*shape, output=tmp_path / "locust") as (locust, url):
        page.goto(url)
        fill(page, {"stepTime": "2", "settleTime": "2"})
        press(page, "Start")
        expect(page.get_by_text(line)).to_be_visible()
    assert "No mercy: " not in locust.output


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_files_that_can_not_be_written_do_not_cost_the_exit_code(tmp_path: Path) -> None:
    for name in ("csv", "html"):
        (tmp_path / f"run_limit.{name}").symlink_to("/dev/full")
    command = ("-f", "locustfile.py,nomercy.py", "--max-users", "1", "--step-time", "1", "--settle-time", "0")
    with kit.server(output=tmp_path / "server") as server:
        options = ("--headless", "--host", server.host, "--csv", f"{tmp_path}/run", "--wait", "0.1")
        with kit.program(kit.LOCUST, *command, *options, output=tmp_path / "locust") as locust:
            assert locust.ends() == 0, locust.output
    for name in ("csv", "html"):
        line = f"No mercy: can't write {tmp_path}/run_limit.{name}: No space left on device"
        assert line in locust.output
    assert "Traceback" not in locust.output


def test_a_bad_number_of_users_is_one_clear_line(tmp_path: Path) -> None:
    with kit.program(
        kit.LOCUST,
        *("-f", "locustfile.py,nomercy.py", "--max-users", "none", "--headless"),
        output=tmp_path / "locust",
    ) as locust:
        assert locust.ends() == 2
    assert "--max-users: 'none' is not a number of users above 0" in locust.output
