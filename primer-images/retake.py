"""Take the pictures in this folder again, from Locust's own web UI during real swarms.

    env/bin/python primer-images/retake.py

It takes about seven minutes. Old pictures stay unless all the new ones are good.
"""

import itertools
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from playwright.sync_api import Browser, Error, Locator, Page, expect

sys.path.insert(0, str(Path(__file__).parents[1]))

from capserver import PORT
from tests import kit
from tests.browser import MISSING, WIDTH, chromium, fill, find_chromium, new_page, press, show, table, web

PICTURES = Path(__file__).parent
SHARPNESS = 2  # dots per CSS pixel: text stays crisp on fine screens, and where a picture is shown smaller
LARGEST = 1_000_000  # bytes of one picture; a page with several has to load fast
MARGIN = 12  # CSS pixels below the last thing shown
EMPTY = 48  # CSS pixels that a chart has below its axis
FORM_WIDTH = 960  # CSS pixels; on a wider page the form has only wider margins
ALL_COLUMNS = 1500  # CSS pixels; the tables of our tabs are as wide as that, or scroll
TALL = 3000  # CSS pixels; room for all of the form's options, or all of the steps of no mercy

RUNS = 3  # of each variant that is compared: with fewer nobody can tell what is noise
COMPARED = "10s"  # each of those

PATIENCE = 90.0  # seconds: the end of a connection keeps its port for 60
PLATEAU = 20.0  # seconds that the charts show of a number of users: ten points

# Whether something is wider than the place that it is shown in.
_CUT_OFF = """() => Array.from(document.querySelectorAll("html, :has(> table)"))
    .some(element => element.scrollWidth > element.clientWidth)"""


def take(page: Page, picture: Path, last: Locator, margin: float = MARGIN) -> None:
    """Save what the page shows, from its top to `margin` CSS pixels below the element `last`."""
    page.mouse.move(0, 0)  # nothing is highlighted because the pointer happens to be there
    view = page.viewport_size
    assert view

    def shot() -> bytes:
        box = last.bounding_box()
        assert box
        height = box["y"] + box["height"] + margin
        assert height <= view["height"], f"{picture.name}: cut off at the bottom"
        return page.screenshot(path=picture, clip={"x": 0, "y": 0, "width": view["width"], "height": height})

    kit.eventually(lambda: shot() == shot())  # forms unfold, buttons fade, lines grow
    assert not page.evaluate(_CUT_OFF), f"{picture.name}: cut off at the right"
    assert picture.stat().st_size < LARGEST, f"{picture.name}: more than {LARGEST} bytes"
    print(picture.name, flush=True)


@contextmanager
def swarm(browser: Browser, *options: str) -> Iterator[Page]:
    """Run `locust` as a person does, for the length of a with-block; yields its opening page."""
    with (
        tempfile.TemporaryDirectory() as logs,
        web(*options, output=Path(logs) / "locust") as (_, url),
        new_page(browser, scale=SHARPNESS) as page,
    ):
        page.goto(url)
        yield page


def ramp_to(page: Page, users: int) -> None:
    """Wait until the bar at the top shows so many users."""
    expect(page.get_by_role("banner")).to_have_text(re.compile(rf"Users\s*{users}RPS"))


def opening(page: Page, picture: Path) -> None:
    """The form as it opens, with the kit's own options unfolded."""
    size = page.viewport_size
    assert size
    page.set_viewport_size({"width": FORM_WIDTH, "height": TALL})
    press(page, "Custom parameters")
    start = page.get_by_role("button", name="Start", exact=True)
    take(page, picture, start)
    page.set_viewport_size(size)


def stats(page: Page, picture: Path) -> None:
    """The statistics of twenty users who have been at it for a while."""
    fill(page, {"userCount": "20", "spawnRate": "2"})
    press(page, "Start")
    ramp_to(page, 20)
    page.wait_for_timeout(PLATEAU * 1000)
    rows = table(page)
    assert len(rows) == 5 and {row["# Fails"] for row in rows} == {"0"}, f"{picture.name}: not all's well in {rows}"
    take(page, picture, page.locator("table"))


def charts(page: Page, picture: Path) -> None:
    """The charts of the same users, and then of three times as many."""
    press(page, "Edit")
    fill(page, {"userCount": "60", "spawnRate": "4"})
    press(page, "Update")
    show(page, "Charts")
    ramp_to(page, 60)
    page.wait_for_timeout(PLATEAU * 1000)
    take(page, picture, page.locator("canvas").last, margin=-EMPTY)


def generator(page: Page, picture: Path) -> None:
    """The load generator's own account of those users."""
    show(page, "Load Generator")
    size = page.viewport_size
    assert size
    page.set_viewport_size({"width": ALL_COLUMNS, "height": size["height"]})
    take(page, picture, page.locator("table"))
    page.set_viewport_size(size)


def failures(page: Page, picture: Path, server: kit.Server) -> None:
    """The failures of twenty users at a server that serves five at a time, and then dies."""

    def count(message: str) -> int:
        return sum(int(row["# Failures"]) for row in table(page) if row["Message"] == message)

    fill(page, {"userCount": "20", "spawnRate": "20", "timeout": "0.5", "wait": "0.25"})
    press(page, "Start")
    show(page, "Failures")
    kit.eventually(lambda: count("reply: timed out") > 100)
    server.stop()
    kit.eventually(lambda: count("connect: refused"))
    take(page, picture, page.locator("table"))


def limit(page: Page, picture: Path) -> None:
    """What no mercy finds out about a server with a pool of 20."""
    fill(page, {"timeout": "1", "wait": "0.05", "maxUsers": "100"})
    press(page, "Start")
    show(page, "Limit")
    finding = page.get_by_text("The highest goodput with all thresholds kept")
    expect(finding).to_be_visible(timeout=180_000)
    page.set_viewport_size({"width": ALL_COLUMNS, "height": TALL})
    take(page, picture, page.locator("table"))


def runs(folder: Path, name: str, server: Sequence[str], options: Sequence[str]) -> list[str]:
    """Run a variant several times, each on a new server; return what `compare` is to be told."""
    prefixes = [str(folder / f"{name}{number or ''}") for number in range(RUNS)]
    for prefix in prefixes:
        with kit.server(*server, output=folder / "capserver.log") as service:
            always = ("--headless", "--host", service.host, "--run-time", COMPARED, "--csv", prefix)
            with kit.program(kit.LOCUST, *always, *options, output=folder / "locust.log") as locust:
                locust.ends()
    return prefixes


def comparison(browser: Browser, picture: Path, baseline: Sequence[str], *others: Sequence[str]) -> None:
    """The table and the first picture of variants side by side; the text version goes to the console."""
    html = picture.with_suffix(".html")
    variants = itertools.chain(baseline, *((":", *other) for other in others))
    command = [sys.executable, "-m", "locust_tcp.compare", *variants, "--html", str(html)]
    print(subprocess.run(command, cwd=kit.KIT, check=True, capture_output=True, text=True).stdout)
    with new_page(browser, scale=SHARPNESS) as page:
        page.goto(html.as_uri())
        page.set_viewport_size({"width": WIDTH, "height": TALL})
        take(page, picture, page.locator("svg").first)


def comparisons(browser: Browser, folder: Path) -> None:
    """Four comparisons worth making."""
    few = ("--users", "20", "--spawn-rate", "20", "--wait", "0.02")
    comparison(
        browser,
        folder / "compare-connections.png",
        runs(folder, "persistent", (), few),
        runs(folder, "per-request", (), (*few, "--connection", "per-request")),
    )
    many = ("--users", "40", "--spawn-rate", "40", "--wait", "0.05", "--timeout", "1")
    comparison(
        browser,
        folder / "compare-pool.png",
        runs(folder, "all-at-once", (), many),
        runs(folder, "pool-of-20", ("--pool", "20"), many),
    )
    busy = ("--users", "40", "--spawn-rate", "40", "--connection", "per-request")
    comparison(
        browser,
        folder / "compare-threads.png",
        runs(folder, "one-core", (), busy),
        runs(folder, "all-cores", ("--cores", "all"), busy),
        runs(folder, "pool-of-20-threads", ("--pool", "20"), busy),
    )
    stalling = ("--fault", "delay=0.002:1000")
    comparison(
        browser,
        folder / "compare-schedule.png",
        runs(folder, "closed-loop", stalling, few),
        runs(folder, "schedule", stalling, (*few[:4], "--rate", "50")),
    )


@contextmanager
def small_server(folder: Path, pool: int) -> Iterator[kit.Server]:
    """Run a server with a pool on the usual port, once no other connection's end is in its way."""
    kit.eventually(lambda: is_free(PORT), PATIENCE)
    with kit.server("--port", str(PORT), "--pool", str(pool), output=folder / "capserver.log") as server:
        yield server


def retake(executable: str, folder: Path) -> None:
    """Take all the pictures into a folder."""
    with chromium(executable) as browser:
        with swarm(browser) as page:
            opening(page, folder / "locust-opening.png")
            stats(page, folder / "locust-stats.png")
            charts(page, folder / "locust-charts.png")
            generator(page, folder / "locust-generator.png")
        # On the port of the reader's server, so that the pictures show the host that the reader sees
        with small_server(folder, 5) as server, swarm(browser) as page:
            failures(page, folder / "locust-failures.png", server)
        with small_server(folder, 20), swarm(browser, "-f", "locustfile.py,nomercy.py") as page:
            limit(page, folder / "locust-limit.png")
        comparisons(browser, folder)


def is_free(port: int) -> bool:
    """Say whether a server could listen on a port. One end of a connection is in its way for a minute."""
    with suppress(OSError), socket.create_server(("127.0.0.1", port)):
        return True
    return False


def main() -> int:
    """Return 0 when all the pictures are new, 2 when there is no way to begin, otherwise 1."""
    executable = find_chromium()
    if executable is None:
        print(f"retake: {MISSING}", file=sys.stderr)
        return 2
    if not is_free(PORT):
        print(f"retake: port {PORT} is in use: stop what uses it, or wait a minute", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("retake: stopped"))  # which ends what was started, too
    with tempfile.TemporaryDirectory() as folder:
        try:
            retake(executable, Path(folder))
        except (AssertionError, Error, OSError, subprocess.SubprocessError) as error:
            print(f"retake: {error}", file=sys.stderr)
            return 1
        for picture in Path(folder).glob("*.png"):
            shutil.move(picture, PICTURES / picture.name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
