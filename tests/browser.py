"""Locust's web UI in a real Chromium, for the tests and for the pictures in primer-images/."""

import contextlib
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.kit import LOCUST, PATIENCE, Program, eventually, free_port, listens, program

NAMES = ("chromium", "chromium-browser", "google-chrome")
VARIABLE = "CHROMIUM"
MISSING = f"no Chromium: install one, or set {VARIABLE} to its path"
# Without its sandbox, so that it runs as root and in containers: all that it opens is Locust's own UI.
OPTIONS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
RUN_TIME = "120s"  # ends a swarm that nobody stops because its test has died
WIDTH = 1180  # while a test runs, the bar and the table of Locust's UI are cut off below about 1150 pixels
HEIGHT = 1100  # all of each tab

_READ_TABLE = """table => {
    const texts = cells => Array.from(cells, cell => cell.innerText.replace(/\\s+/g, " ").trim());
    const titles = texts(table.querySelectorAll("thead th"));
    return Array.from(table.querySelectorAll("tbody tr"), row => {
        const cells = texts(row.cells);
        return Object.fromEntries(titles.map((title, column) => [title, cells[column]]));
    });
}"""


def find_chromium() -> str | None:
    """Return the Chromium that the environment names, or else the first one on the path."""
    chosen = os.environ.get(VARIABLE)
    return next(filter(None, map(shutil.which, [chosen] if chosen else NAMES)), None)


def chromium_for_tests() -> str:
    """Return the Chromium to test with; without one, skip the test, or on CI fail it."""
    executable = find_chromium()
    if executable is None:
        if os.environ.get("CI"):
            pytest.fail(MISSING)  # a skip there would pass for a UI that works
        pytest.skip(MISSING)
    return executable


@contextlib.contextmanager
def web(*options: str, output: Path) -> Iterator[tuple[Program, str]]:
    """Run Locust with its web UI for the length of a with-block; yields it and the UI's address."""
    port = free_port()
    where = ("--web-host", "127.0.0.1", "--web-port", str(port))
    with program(LOCUST, *where, "--run-time", RUN_TIME, *options, output=output) as locust:
        locust.says("Starting web interface")
        eventually(lambda: listens(port))
        try:
            yield locust, f"http://127.0.0.1:{port}/"
        finally:
            locust.stop()  # by itself, so that the bundled server ends with it


@contextlib.contextmanager
def chromium(executable: str) -> Iterator[Browser]:
    """Run Chromium for the length of a with-block."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=list(OPTIONS))
        try:
            yield browser
        finally:
            browser.close()


@contextlib.contextmanager
def new_page(browser: Browser, *, scale: float = 1) -> Iterator[Page]:
    """Open a page that shares nothing with the others. `scale` is how many dots a CSS pixel has."""
    page = browser.new_page(
        viewport={"width": WIDTH, "height": HEIGHT},
        device_scale_factor=scale,
        color_scheme="light",
        locale="en-GB",  # the 24-hour clock: with AM and PM the charts' times run into one another
    )
    page.set_default_timeout(PATIENCE * 1000)
    expect.set_options(timeout=PATIENCE * 1000)
    try:
        yield page
    finally:
        page.close()


def fill(page: Page, fields: Mapping[str, str]) -> None:
    """Fill in fields of the form that is shown, by their names."""
    for name, value in fields.items():
        field = page.locator(f"form [name='{name}']")
        if not field.is_visible():
            page.get_by_role("button", name="Custom parameters").click()
        if field.evaluate("field => field.tagName") == "SELECT":
            field.select_option(value)
        else:
            field.fill(value)


def press(page: Page, button: str) -> None:
    """Press a button."""
    page.get_by_role("button", name=button, exact=True).click()


def show(page: Page, tab: str) -> None:
    """Go to a tab."""
    page.get_by_role("tab", name=tab).click()


def await_state(page: Page, state: str) -> None:
    """Wait until the bar at the top tells that a test is running, or stopped."""
    expect(page.get_by_role("banner")).to_have_text(re.compile(rf"Status\s*{state}"))


def table(page: Page) -> list[dict[str, str]]:
    """Return the rows of the first table that is shown, each by the columns' titles."""
    rows: Any = page.locator("table").first.evaluate(_READ_TABLE)
    return list(rows)
