"""Take every tab of the page, and the report, at four widths in light and dark: pictures to look at.

Run it from anywhere: env/bin/python primer-images/contact_sheet.py FOLDER. It takes about two minutes, and makes a
picture of each tab at each width, the report as it is printed, and index.html, which shows all of them side by side.
"""

import argparse
import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from playwright.sync_api import Page

from tests import kit
from tests.browser import chromium, fill, find_chromium, new_page, press, show, web

WIDTHS = (400, 768, 1280, 1920)  # CSS pixels: a telephone, a tablet, a laptop, a large screen
THEMES = ("light", "dark")
TABS = ("Statistics", "Charts", "Failures", "Load Generator", "Thresholds", "Limit", "Download Data")
SETTLE = 1500  # milliseconds until the page has drawn itself anew
SEARCH_TIME = 120  # seconds that the search below takes at most
SEARCH = {"startUsers": "5", "maxUsers": "40", "stepTime": "3", "settleTime": "1", "timeout": "0.5", "wait": "0.02"}
INDEX = """<!doctype html><meta charset="utf-8"><title>Contact sheet</title>
<style>body {{ font: 14px system-ui; background: #888 }} figure {{ display: inline-block; margin: 8px; width: 22% }}
img {{ width: 100%; border: 1px solid #000; vertical-align: top }}</style>{figures}"""


def take(page: Page, name: str, folder: Path) -> list[str]:
    """Take what is shown, at each width; return the names of the files."""
    files = []
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 1000})
        page.wait_for_timeout(SETTLE)
        files.append(f"{name}-{width}.png")
        page.screenshot(path=folder / files[-1])
    page.set_viewport_size({"width": 1280, "height": 1000})
    return files


def main() -> int:
    """Take the pictures; return 0, or 2 where there is no Chromium."""
    command = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    command.add_argument("folder", type=Path)
    folder: Path = command.parse_args().folder
    executable = find_chromium()
    if executable is None:
        print("contact_sheet.py needs Chromium: apt install chromium", file=sys.stderr)
        return 2
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    with (
        kit.server("--pool", "20", output=folder / "server.log") as server,
        web("--host", server.host, "-f", "locustfile.py,nomercy.py", output=folder / "locust.log") as (locust, url),
        chromium(executable) as browser,
        new_page(browser) as page,
    ):
        for theme in THEMES:
            page.goto(url)
            page.evaluate("theme => localStorage.setItem('theme', theme)", theme)
            page.reload()
            page.get_by_role("button", name="Custom parameters").click()
            files += take(page, f"{theme}-form", folder)
        fill(page, SEARCH)
        press(page, "Start")
        locust.says("No mercy: 10 users")
        for tab in ("Load Generator", "Limit"):
            show(page, tab)
            files += take(page, f"running-{tab.replace(' ', '-')}", folder)
        kit.eventually(lambda: re.search("No mercy: The (highest )?goodput", locust.output), SEARCH_TIME)
        for theme in THEMES:
            page.evaluate("theme => localStorage.setItem('theme', theme)", theme)
            page.reload()
            for tab in TABS:
                show(page, tab)
                files += take(page, f"{theme}-{tab.replace(' ', '-')}", folder)
            page.goto(f"{url}stats/report?theme={theme}")
            files += take(page, f"{theme}-report", folder)
            page.pdf(path=folder / f"{theme}-report.pdf", print_background=False)  # as a printer's dialog has it
            page.goto(url)
    figures = [f'<figure><img src="{file}"><figcaption>{file}</figcaption></figure>' for file in files]
    (folder / "index.html").write_text(INDEX.format(figures="".join(figures)))
    print(f"{len(files)} pictures: {folder / 'index.html'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
