"""Locust's HTML report: what it says of the run, the verdict and the pictures, in one file."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests import kit
from tests.browser import chromium, chromium_for_tests, new_page


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a headless run."""
    folder = tmp_path_factory.mktemp("report")
    swarm = ("--headless", "--users", "3", "--spawn-rate", "3", "--run-time", "8s", "--wait", "0.01")
    with kit.server(output=folder / "server") as server:
        options = ("--host", server.host, "--html", folder / "report.html")
        with kit.program(kit.LOCUST, *swarm, *map(str, options), output=folder / "locust") as locust:
            assert locust.ends() == 0
            assert re.search(r"Progress: 3 users, \d+ requests/s, p95 .* ms, lag p95 .* ms\. ", locust.output)
    return folder / "report.html"


@pytest.fixture
def page(report: Path) -> Iterator[Page]:
    """The report in Chromium. That its scripts raise nothing, and ask for nothing, is part of the test."""
    errors: list[str] = []
    with chromium(chromium_for_tests()) as browser, new_page(browser) as opened:
        opened.on("pageerror", lambda error: errors.append(str(error)))
        opened.on("request", lambda request: errors.extend([request.url] if request.url.startswith("http") else []))
        opened.goto(report.as_uri())
        yield opened
    assert errors == []


def test_the_report_has_verdict_pictures_and_conditions(page: Page) -> None:
    ours = page.locator("#locust-tcp-report")
    expect(ours.locator(".card").filter(has_text=re.compile("^The service takes"))).to_be_visible()
    expect(ours.locator("svg")).to_have_count(3)
    for title, value in (("Users", "3"), ("Run time (s)", "8"), ("Command line", ".*--headless.*")):
        row = ours.locator("tr").filter(has=page.get_by_text(title, exact=True))
        expect(row.locator("td").last).to_have_text(re.compile(f"^{value}$"))
    expect(ours.get_by_text(re.compile("Locust .*, locust_tcp .*, gevent .*, Python "))).to_be_visible()
    expect(page.get_by_text("Request Statistics")).to_be_visible()


def test_nothing_of_the_report_is_wider_than_a_telephone(page: Page) -> None:
    page.set_viewport_size({"width": 400, "height": 900})
    box = page.locator("#locust-tcp-report").bounding_box()
    assert box
    assert box["width"] <= 400
    for drawing in page.locator("#locust-tcp-report svg").all():
        place = drawing.bounding_box()
        assert place
        assert place["x"] + place["width"] <= 400
