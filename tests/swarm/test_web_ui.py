"""Locust's own web UI in a real browser, from the form to the report."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from playwright.sync_api import Browser, Page, expect

from tests import kit
from tests.browser import await_state, chromium, chromium_for_tests, fill, new_page, press, show, table, web
from tests.swarm.test_bundled_server import BUNDLED, WITHOUT_SERVICE, held

TASKS = ["long line", "sentence", "word"]
NAMES = ["connect", *TASKS, "Aggregated"]
USERS = 5
SWARM = {"userCount": str(USERS), "spawnRate": str(USERS)}
GENTLE = {"wait": "0.02"}  # for tests that need no more than a few requests

CSV_COLUMNS = {
    "requests": {
        *("Type", "Name", "Request Count", "Failure Count", "Requests/s", "Failures/s"),
        *(f"{what} Response Time" for what in ("Median", "Average", "Min", "Max")),
        *("Average Content Size", "50%", "95%", "99%", "99.9%", "100%"),
    },
    "failures": {"Method", "Name", "Error", "Occurrences"},
    "exceptions": {"Count", "Message", "Traceback", "Nodes"},
}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium(chromium_for_tests()) as running:
        yield running


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page of the test's own. That its scripts raise nothing is part of every test."""
    errors: list[str] = []
    with new_page(browser) as opened:
        opened.on("pageerror", lambda error: errors.append(str(error)))
        yield opened
    assert errors == []


@pytest.fixture(scope="module")
def idle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a Locust in which no test starts."""
    with web(output=tmp_path_factory.mktemp("idle") / "locust") as (_, url):
        yield url


@contextmanager
def swarm(
    page: Page, folder: Path, options: Mapping[str, str] | None = None
) -> Iterator[tuple[kit.Server, kit.Program, str]]:
    """Press Start for a server of the test's own; yields it, Locust, and the page's address."""
    with kit.server(output=folder / "server") as server, web(output=folder / "locust") as (locust, url):
        page.goto(url)
        fill(page, {**SWARM, **(options or {}), "host": server.host})
        press(page, "Start")
        yield server, locust, url


def requests(page: Page, name: str) -> int:
    """Return the number of requests in a row of the statistics, 0 while there is no such row."""
    return next((int(row["# Requests"]) for row in table(page) if row["Name"] == name), 0)


def drawings(page: Page) -> list[str]:
    """Return what the charts look like."""
    return [str(chart.evaluate("chart => chart.toDataURL()")) for chart in page.locator("canvas").all()]


def expect_charts(page: Page) -> None:
    """Expect three charts that have an area."""
    charts = page.locator("canvas")
    expect(charts).to_have_count(3)
    for chart in charts.all():
        box = chart.bounding_box()
        assert box
        assert min(box["width"], box["height"]) > 100


def download(page: Page, folder: Path) -> dict[str, Path]:
    """Click on every link of the Download Data tab; return the files by the texts of the links."""
    show(page, "Download Data")
    links = page.locator("main").get_by_role("link")
    expect(links).not_to_have_count(0)
    files = {}
    for link in links.all():
        title = link.inner_text()
        files[title] = folder / title
        if link.get_attribute("target"):  # the report opens in a tab, and is downloaded from there
            with page.expect_popup() as opened:
                link.click()
            with opened.value.expect_download() as downloaded:
                opened.value.get_by_role("link", name="Download the Report").click()
            files[title] = files[title].with_suffix(".html")
        else:
            with page.expect_download() as downloaded:
                link.click()
        downloaded.value.save_as(files[title])
    return files


def test_the_opening_form_is_filled_in(page: Page, idle: str) -> None:
    page.goto(idle)
    expect(page.locator("[name=host]")).to_have_value("tcp://localhost:59898")
    connection = page.get_by_role("combobox", name="Connection")
    expect(connection).not_to_be_visible()
    press(page, "Custom parameters")
    expect(connection).to_be_visible()
    expect(connection).to_have_value("persistent")
    assert connection.locator("option").all_inner_texts() == ["persistent", "per-request"]
    expect(page.get_by_label("Timeout")).to_have_value("5")
    expect(page.get_by_label("Wait")).to_have_value("0")
    expect(page.get_by_text("seconds for a whole request and its reply")).to_be_visible()
    names = page.locator("form h3, form label").all_inner_texts()
    wanted = ["Users", "Connection", "Timeout (s)", "Thresholds", "Longest p95 (ms)", "TLS", "TLS verification"]
    assert [name for name in names if name in wanted] == wanted


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("timeout", "abc", "timeout: 'abc' is not a number of seconds above 0"),
        ("wait", "-1", "wait: '-1' is not a number of seconds, 0 or more"),
        ("host", "tcp://localhost", "host 'tcp://localhost' has no port: write it as tcp://name:port"),
        ("host", "http://localhost:1", "host 'http://localhost:1' is not a TCP service: write it as tcp://name:port"),
    ],
)
def test_a_wrong_value_is_refused_and_no_test_starts(
    page: Page, idle: str, name: str, value: str, sentence: str
) -> None:
    page.goto(idle)
    fill(page, {name: value})
    press(page, "Start")
    expect(page.get_by_role("alert").filter(has_text=sentence)).to_be_visible()
    await_state(page, "ready")
    state = page.request.get(f"{idle}stats/requests").json()
    assert (state["state"], state["user_count"]) == ("ready", 0)


def test_a_run_fills_the_table_and_the_charts(page: Page, tmp_path: Path) -> None:
    with swarm(page, tmp_path) as (_, locust, _):
        await_state(page, "running")
        kit.eventually(lambda: [row["Name"] for row in table(page)] == NAMES)
        seen = {name: requests(page, name) for name in [*TASKS, "Aggregated"]}
        kit.eventually(lambda: all(requests(page, name) > count for name, count in seen.items()))
        kit.eventually(lambda: requests(page, "connect") == USERS)
        assert {row["# Fails"] for row in table(page)} == {"0"}

        show(page, "Charts")
        expect_charts(page)
        before = drawings(page)
        kit.eventually(lambda: all(new != old for new, old in zip(drawings(page), before, strict=True)))

        press(page, "Stop")
        await_state(page, "stopped")
        assert psutil.Process(locust.process.pid).children() == [], "the bundled server started for another host"
        assert "started it" not in locust.output


def test_edit_changes_the_options_of_a_running_test(page: Page, tmp_path: Path) -> None:
    with swarm(page, tmp_path, GENTLE) as (_, locust, _url):
        kit.eventually(lambda: requests(page, "word") > 2 * USERS)
        assert requests(page, "connect") == USERS
        press(page, "Edit")
        fill(page, {"connection": "per-request"})
        press(page, "Update")
        kit.eventually(lambda: requests(page, "connect") > 2 * USERS)
        press(page, "Edit")
        fill(page, {"timeout": "-1"})
        press(page, "Update")
        expect(page.get_by_role("alert")).to_have_text("timeout: '-1' is not a number of seconds above 0")
        locust.says("ERROR/.*: Not changed: timeout: '-1' is not a number of seconds above 0$")
        assert "not started" not in locust.output
        await_state(page, "running")


def test_times_below_a_millisecond_have_three_digits(page: Page, tmp_path: Path) -> None:
    with swarm(page, tmp_path, GENTLE) as (_, _, url):
        kit.eventually(lambda: requests(page, "word") > 2 * USERS)
        press(page, "Stop")
        await_state(page, "stopped")
        row = next(row for row in page.request.get(f"{url}stats/requests").json()["stats"] if row["name"] == "word")
        (shown,) = (shown for shown in table(page) if shown["Name"] == "word")
        for which, title in (("median", "Median"), ("avg", "Average"), ("min", "Min"), ("max", "Max")):
            value = row[f"{which}_response_time"]
            assert float(shown[f"{title} (ms)"]) == value == float(f"{value:.3g}") > 0
        assert row["min_response_time"] < 1


def test_the_thresholds_tab_shows_what_is_kept_and_what_is_broken(page: Page, tmp_path: Path) -> None:
    bounds = {"minRps": "1", "threshold": "word p99 < 0.000001"}
    with swarm(page, tmp_path, GENTLE | bounds) as (_, locust, _url):
        show(page, "Thresholds")
        verdicts = page.locator("#thresholds-panel b")
        expect(verdicts).to_have_text(["at risk", "kept so far"])
        page.reload()
        expect(verdicts).to_have_text(["at risk", "kept so far"])
        press(page, "Stop")
        await_state(page, "stopped")
        expect(verdicts).to_have_text(["broken", "kept"])
        broken = kit.eventually(lambda: next((row for row in table(page) if row["Verdict"] == "broken"), None))
        assert broken
        assert locust.says("Thresholds broken: (.*)$")[1] == broken["Figure and bound"]
        show(page, "Logs")
        for decided in (f"Thresholds broken: {broken['Figure and bound']}", "Thresholds kept: ", "Load generator: "):
            expect(page.get_by_text(decided)).to_be_visible()


def test_a_page_that_hears_of_the_stop_while_users_stop_still_hears_of_its_end(page: Page, tmp_path: Path) -> None:
    slow = kit.server("--fault", "delay=1:12000", output=tmp_path / "server")
    with slow as server, web("--stop-timeout", "20", output=tmp_path / "locust") as (_, url):
        page.goto(url)
        fill(page, {**SWARM, "timeout": "20", "host": server.host})
        press(page, "Start")
        await_state(page, "running")
        kit.eventually(lambda: requests(page, "connect") == USERS)  # their first requests take a while from here
        press(page, "Stop")
        await_state(page, "stopped")
        kit.eventually(lambda: requests(page, "Aggregated") == 2 * USERS)  # each has finished its exchange


def test_the_load_generator_tab_shows_lag_and_verdict(page: Page, tmp_path: Path) -> None:
    with swarm(page, tmp_path, GENTLE) as (_, locust, url):
        show(page, "Load Generator")

        def row() -> dict[str, str]:
            return next(iter(table(page)), {}) if page.locator("table").count() else {}

        kit.eventually(lambda: row().get("Users") == str(USERS) and float(row()["Requests/s"]) > 0)
        assert row()["Process"] == "Locust"
        assert row()["Lag known by"] in ("arrival times", "timer")
        assert 0 < float(row()["Lag p50 (ms)"]) <= float(row()["Lag p95 (ms)"]) <= float(row()["Lag p99 (ms)"])

        def seconds() -> float:
            stats = page.request.get(f"{url}stats/requests").json()["extended_stats"]
            (tab,) = (extra for extra in stats if extra["key"] == "generator")
            return sum(float(each["seconds"]) for each in tab["data"])

        kit.eventually(lambda: seconds() > 2)
        press(page, "Reset")
        kit.eventually(lambda: seconds() < 2)
        press(page, "Stop")
        await_state(page, "stopped")
        verdict = locust.says("Load generator: (.*)$")[1]
        kit.eventually(lambda: row()["Whose limit is near?"] == verdict)
        (downloaded,) = kit.rows(download(page, tmp_path)["Download load generator CSV"])
        assert downloaded["Whose limit is near?"] == verdict


def test_the_downloads_agree_with_one_another_and_with_the_server(page: Page, tmp_path: Path) -> None:
    with swarm(page, tmp_path, GENTLE) as (server, _, _):
        kit.eventually(lambda: all(requests(page, name) for name in NAMES))
        answered = server.totals()  # which ends it, so that there are failures to download
        kit.eventually(lambda: any(row["Name"] == "connect" and row["# Fails"] != "0" for row in table(page)))
        press(page, "Stop")
        await_state(page, "stopped")
        files = download(page, tmp_path)

    csvs = {what: kit.rows(files[f"Download {what} CSV"]) for what in CSV_COLUMNS}
    assert [row["Name"] for row in csvs["requests"]] == NAMES
    for what, columns in CSV_COLUMNS.items():
        with files[f"Download {what} CSV"].open() as file:
            assert columns <= set(file.readline().strip().split(","))
    assert csvs["exceptions"] == []

    counts = {row["Name"]: (int(row["Request Count"]), int(row["Failure Count"])) for row in csvs["requests"]}
    sums = tuple(sum(counts[name][column] for name in NAMES[:-1]) for column in (0, 1))
    assert counts["Aggregated"] == sums
    succeeded = {name: requests - failures for name, (requests, failures) in counts.items()}
    assert (sum(succeeded[name] for name in TASKS), succeeded["connect"], 0) == answered
    assert sum(int(row["Occurrences"]) for row in csvs["failures"]) == counts["Aggregated"][1]
    assert "connect: refused" in {row["Error"] for row in csvs["failures"]}

    page.goto(files["Download Report"].as_uri())
    reported = {row["Name"]: (int(row["# Requests"]), int(row["# Fails"])) for row in table(page)}
    assert reported == counts
    expect(page.get_by_role("cell", name="connect: refused")).to_be_visible()
    expect_charts(page)


def test_a_new_test_takes_another_choice(page: Page, tmp_path: Path) -> None:
    with swarm(page, tmp_path, GENTLE) as (server, _, _):
        kit.eventually(lambda: requests(page, "connect") == USERS and requests(page, "word") > 2 * USERS)
        press(page, "Stop")
        await_state(page, "stopped")
        assert requests(page, "connect") == USERS

        press(page, "New")
        expect(page.locator("form [name=host]")).to_have_value(server.host)
        fill(page, {"connection": "per-request"})
        press(page, "Start")
        await_state(page, "running")
        kit.eventually(lambda: requests(page, "connect") > 2 * USERS)
        press(page, "Stop")
        await_state(page, "stopped")


def test_the_baby_shows_why_its_requests_fail(page: Page, tmp_path: Path) -> None:
    baby = web("-f", "babylocustfile.py", output=tmp_path / "locust")
    with kit.server(output=tmp_path / "server") as server, baby as (_, url):
        page.goto(url)
        expect(page.locator("[name=host]")).to_have_value("http://localhost:59898")
        fill(page, {"host": f"http://127.0.0.1:{server.port}"})
        press(page, "Start")
        await_state(page, "running")
        show(page, "Failures")
        for path in ("/hello", "/world"):
            failure = page.get_by_role("row", name=f"GET {path}")
            expect(failure).to_contain_text(f"BadStatusLine('GET {path.upper()} HTTP/1.1")
        show(page, "Statistics")
        rows = table(page)
        assert [row["Name"] for row in rows] == ["/hello", "/world", "Aggregated"]
        assert all(row["# Requests"] == row["# Fails"] != "0" for row in rows)
        press(page, "Stop")
        await_state(page, "stopped")


def test_each_threshold_of_the_form_is_judged(page: Page, tmp_path: Path) -> None:
    # The page makes a field's name out of the option's: not every name comes back as it was.
    fields = dict.fromkeys(("maxMedian", "maxPercentile", "maxTwoNines", "maxThreeNines"), "0.00001")
    with swarm(page, tmp_path, {**GENTLE, **fields, "threshold": "word p51 < 0.01, p52 < 0.01"}) as (_, locust, _url):
        kit.eventually(lambda: requests(page, "Aggregated") > 100)
        press(page, "Stop")
        await_state(page, "stopped")
        for name in ("the 50th", "the 95th", "the 99th", "the 99.9th", "word: the 51st", "the 52nd"):
            locust.says(rf"Thresholds broken: {name} percentile was ")


def test_start_waits_in_the_form_for_a_port_that_a_connection_holds(page: Page, tmp_path: Path) -> None:
    port = kit.free_port()
    (tmp_path / "visit.py").write_text(BUNDLED.format(port=port, folder=kit.KIT))
    with held(port) as client, web("-f", str(tmp_path / "visit.py"), output=tmp_path / "locust") as (locust, url):
        page.goto(url)
        press(page, "Start")
        waiting = page.get_by_role("alert").filter(has_text="Trying again until it is free")
        expect(waiting).to_be_visible()
        await_state(page, "ready")
        client.close()
        await_state(page, "running")
        expect(waiting).not_to_be_visible()
        kit.eventually(lambda: requests(page, "request"))
        assert locust.output.count("Trying again until") == 1


def test_start_is_refused_in_the_form_where_the_service_does_not_start(page: Page, tmp_path: Path) -> None:
    (tmp_path / "visit.py").write_text(WITHOUT_SERVICE.format(port=kit.free_port()))
    with web("-f", str(tmp_path / "visit.py"), output=tmp_path / "locust") as (locust, url):
        page.goto(url)
        press(page, "Start")
        expect(page.get_by_role("alert").filter(has_text=re.compile("did not start: no$"))).to_be_visible()
        await_state(page, "ready")
        assert "started it" not in locust.output
