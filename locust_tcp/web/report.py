"""What Locust's HTML report says beyond its own tables: the conditions of the run, the verdict and the pictures."""

import os
import platform
import re
import shlex
import sys
from collections.abc import Callable, Iterator
from html import escape
from typing import Any

import gevent
import locust
from locust.argument_parser import ui_extra_args_dict
from locust.env import Environment

from locust_tcp.compare.chart import html_table
from locust_tcp.metrics.environment import PerEnvironment
from locust_tcp.version import VERSION
from locust_tcp.web.tabs import PANEL_STYLE

SECRET = re.compile(r"password|secret|token", re.IGNORECASE)

# A shadow tree: its style ends there. The script gives it the colours of the report's theme.
SECTION = """
<div id="locust-tcp-report" style="max-width: 1200px; margin: 0 auto; padding: 0 24px 48px">
<template shadowrootmode="open"><style>{style}
h2 {{ font-size: 20px; margin: 32px 0 8px; break-after: avoid }}
table {{ border-collapse: collapse; font-size: 14px }}
th, td {{ padding: 3px 16px 3px 0; vertical-align: top; text-align: left }}
div {{ break-inside: avoid }}
@media print {{ :host {{ color: #222 !important }} }}
</style>{body}</template></div>
<script>
(() => {{
  const place = document.getElementById("locust-tcp-report");
  const paint = () => {{
    const [red, green, blue] = getComputedStyle(document.body).backgroundColor.match(/[0-9]+/g);
    place.style.color = Number(red) + Number(green) + Number(blue) < 384 ? "#eee" : "#222";
  }};
  setInterval(paint, 500);
}})();
</script>
"""


class Report(PerEnvironment):
    """Our part of the report.

    Attributes:
        parts: Return HTML each, in the order in which it is shown. Parts that return nothing are left out.
    """

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        self.parts: list[Callable[[], str]] = []

    def html(self) -> str:
        """Return our part of the report."""
        shown = [part() for part in self.parts]
        table = html_table(["The run", ""], conditions(self._environment), texts=2)
        return SECTION.format(style=PANEL_STYLE, body="".join([*filter(None, shown), "<h2>Conditions</h2>", table]))


def conditions(environment: Environment) -> Iterator[tuple[str, str]]:
    """Yield the names and values that are needed to repeat the run."""
    options: Any = environment.parsed_options
    yield "Host", environment.host or ", ".join(sorted({str(each.host) for each in environment.user_classes}))
    if options is not None:
        wanted = {"Users": "num_users", "Spawn rate": "spawn_rate", "Run time (s)": "run_time"}
        yield from ((title, str(value)) for title, name in wanted.items() if (value := getattr(options, name, None)))
        shown = {name: getattr(options, name, None) for name in ui_extra_args_dict()}
        yield "Options", ", ".join(f"{name} {'***' if SECRET.search(name) else value}" for name, value in shown.items())
    yield "Machine", f"{os.cpu_count()} cores, {platform.system()} {platform.release()}, {platform.machine()}"
    python = f"Python {platform.python_version()}"
    yield "Versions", f"Locust {locust.__version__}, locust_tcp {VERSION}, gevent {gevent.__version__}, {python}"
    words = [re.sub(r"=.*", "=***", word) if SECRET.search(word) else word for word in sys.argv]
    yield "Command line", shlex.join(words)


def heading(text: str) -> str:
    """Return a heading of a part."""
    return f"<h2>{escape(text)}</h2>"
