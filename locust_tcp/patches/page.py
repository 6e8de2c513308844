"""The scripts of the web page and of the HTML report without the rounding to two decimals.

The scripts round the median and the average (StatsTable.tsx, HtmlReport.tsx). The numbers that
reach them have three significant digits, which six decimals show in full.
"""

import functools
import logging
import re
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

from flask import Response, request
from locust.env import Environment
from locust.html import get_html_report

from locust_tcp.patches import rows
from locust_tcp.patches.guard import Patch

logger = logging.getLogger(__name__)

_ROUNDED = re.compile(r'(key:(["`])(?:median|avg)ResponseTime\2,title:\2[^"`]*\2,round:)2\b')
_parts: WeakKeyDictionary[Environment, Callable[[], str]] = WeakKeyDictionary()
_SCRIPT = re.compile(rb'(src="[^"]*/assets/[^"]*\.js)"')


def unrounded(script: str) -> str:
    """Return the script of Locust's page or report without the rounding of its median and average."""
    changed, count = _ROUNDED.subn(r"\g<1>6", script)
    if not count:
        _warn()
    return changed


@functools.cache  # once
def _warn() -> None:
    logger.warning("This Locust's page is not one that the kit was tested with: it shows two decimals")


def add_to_report(environment: Environment, part: Callable[[], str]) -> None:
    """Add HTML to the end of the reports of an environment.

    Args:
        environment: The environment.
        part: Returns the HTML. It is called for each report.
    """
    _parts[environment] = part


def _html_report(environment: Environment, *arguments: Any, **options: Any) -> str:
    report = unrounded(get_html_report(environment, *arguments, **options))
    part = _parts.get(environment)
    if part is None:
        return report
    before, end, after = report.rpartition("</body>")
    return before + part() + end + after


def serve_unrounded(environment: Environment, **_: Any) -> None:
    """Change the script that the web UI of an environment serves. Listens to Locust's `init` event."""
    if not PATCH.applied or environment.web_ui is None or environment.web_ui.app is None:
        return

    @environment.web_ui.app.after_request
    def unround(response: Response) -> Response:
        if response.mimetype == "text/html":
            # A new address: the browser may have cached the script of another Locust.
            response.set_data(_SCRIPT.sub(rb'\1?three-digits"', response.get_data()))
        elif "/assets/" in request.path and request.path.endswith(".js") and response.status_code == 200:
            response.direct_passthrough = False
            response.set_data(unrounded(response.get_data(as_text=True)))
        return response


_REPORT = {
    "b480ecf83fb393e9",  # 2.32.0
    "d99001b0d0b36e8e",  # 2.32.2
    "abd6e0ab9cb7e313",  # 2.35.0
    "33e7f8a92206ad7c",  # 2.36.0
    "e77bca67fb0536c0",  # 2.37.13
    "3b27a855363d26ec",  # 2.41.4
}

PATCH = Patch(
    lost="sub-millisecond digits of median and average in the web page and the report, and our part of the report",
    tested={
        "locust.web:get_html_report": _REPORT,
        "locust.main:get_html_report": _REPORT,
    },
    replacements={"locust.web:get_html_report": _html_report, "locust.main:get_html_report": _html_report},
    requires=[rows.TABLES],
)
