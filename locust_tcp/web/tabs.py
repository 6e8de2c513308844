"""Tabs of our own on Locust's page, each with a table and its CSV."""

import csv
import io
import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any

from flask import Response, make_response, request
from locust.env import Environment

from locust_tcp.compare.chart import STYLE
from locust_tcp.metrics.environment import PerEnvironment

Rows = Callable[[], Sequence[Mapping[str, Any]]]
Panel = Callable[[], str]

# Locust's page shows only a table in a tab of ours. This script puts a panel above it, in the tab with this key. The
# panel is in a shadow tree: its style ends there, and that of Locust's page does not reach into it.
SCRIPT = """
(() => {
  const key = %s, style = `%s`;
  let shown = "";
  const show = async () => {
    const table = document.querySelector("table");
    let place = document.getElementById(`${key}-panel`);
    if (new URLSearchParams(location.search).get("tab") !== key || !table) return place?.remove();
    const panel = await (await fetch(`./${key}/panel`)).text();
    if (!place) {
      place = document.createElement("div");
      place.id = `${key}-panel`;
      place.attachShadow({mode: "open"});
      shown = "";
    }
    const root = place.shadowRoot;
    if (shown !== panel) root.innerHTML = `<style>${style}</style>` + panel;
    shown = panel;
    place.style.colorScheme = getComputedStyle(document.documentElement).colorScheme;
    const [red, green, blue] = getComputedStyle(document.body).backgroundColor.match(/[0-9]+/g);
    place.style.color = Number(red) + Number(green) + Number(blue) < 384 ? "#eee" : "#222";
    if (place.nextSibling !== table.parentElement) table.parentElement.before(place);
    table.parentElement.style.overflowX = "auto";
    const isLong = table.rows.length > 5;  // then each row gets one line, and the whole text appears under the mouse
    for (const cell of table.querySelectorAll("td")) {
      if (isLong) cell.style.cssText +=
        "; padding: 4px 12px; max-width: 300px; white-space: nowrap; overflow: hidden; text-overflow: ellipsis";
      else if (cell.innerText.length > 60) cell.style.minWidth = "300px";
      cell.title = cell.innerText;
    }
  };
  const again = () => show().catch(() => {}).finally(() => setTimeout(again, 1000));
  again();
})();
"""

PANEL_STYLE = f"""
:host {{ display: block; margin: 16px 0; font: 15px/1.5 system-ui, sans-serif }}
.cards {{ display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 240px), 1fr)); gap: 12px }}
.card {{ border: 1px solid #8886; border-left-width: 6px; border-radius: 6px; padding: 8px 14px }}
.card b {{ display: block; font-size: 26px; line-height: 1.25 }}
.card small {{ opacity: 0.8 }}
.good {{ border-left-color: #009e73 }}
.warn {{ border-left-color: #e69f00 }}
.bad {{ border-left-color: #d55e00 }}
{STYLE}"""


FORMULA = re.compile(r"[=+@\t\r]|-.")  # the beginning of one; a single dash stands for no figure


def card(title: str, value: str, detail: str, kind: str = "") -> str:
    """Return a box with an answer in large letters.

    Args:
        title: The question.
        value: The answer, in a few words.
        detail: What it rests on.
        kind: `good`, `warn`, `bad`, or nothing, for its colour.
    """
    return f'<div class="card {kind}">{escape(title)}<b>{escape(value)}</b><small>{escape(detail)}</small></div>'


def cards(boxes: Sequence[str]) -> str:
    """Return boxes side by side, as far as there is room."""
    return f'<div class="cards">{"".join(boxes)}</div>'


def csv_text(columns: Mapping[str, str], rows: Sequence[Mapping[str, Any]]) -> str:
    """Return a table as CSV. `columns` maps the keys of its rows to their headings."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(columns.values())
    writer.writerows([_no_formula(row[key]) for key in columns] for row in rows)
    return text.getvalue()


def _no_formula(cell: Any) -> Any:
    """Put an apostrophe before a text that a spreadsheet would take for a formula, and perhaps run."""
    return f"'{cell}" if isinstance(cell, str) and FORMULA.match(cell) else cell


def csv_name(environment: Environment, key: str) -> str:
    """Return the name of a download as Locust names its own, and as a browser stores it."""
    began = time.strftime("%Y-%m-%d-%Hh%M", time.localtime(environment.stats.start_time))
    parts = ("Locust", began, environment.locustfile, environment.host, key)
    return re.sub(r"[^\w.-]", "_", "_".join(filter(None, parts)), flags=re.ASCII) + ".csv"


def path(environment: Environment, name: str) -> str:
    """Return the path of a name on Locust's web server."""
    base = getattr(environment.parsed_options, "web_base_path", None)  # an option since 2.32.2
    return f"{base or ''}/{name}"


def download(content: str, kind: str, name: str) -> Response:
    """Return a response that the browser saves as a file."""
    response = make_response(content)
    response.headers["Content-Type"] = kind
    response.headers["Content-Disposition"] = f"attachment;filename={name}"
    return response


def add_script(environment: Environment, script: str) -> None:
    """Add a script to Locust's page, after its data and before its own script begins. The report gets none."""
    assert environment.web_ui is not None and environment.web_ui.app is not None

    @environment.web_ui.app.after_request
    def add(response: Response) -> Response:
        if response.mimetype == "text/html" and not request.path.endswith("/stats/report"):
            before, end, after = response.get_data(as_text=True).rpartition("</body>")
            if end:
                response.set_data(f"{before}<script>{script}</script>{end}{after}")
        return response


# While the users stop, Locust's page would hear a state with which it stops asking: it would never hear the last one.
STOPPING = re.compile(rb'("state": ?)"(?:cleanup|stopping)"')


class _Tables(PerEnvironment):
    """Adds the rows of our tabs to the statistics that Locust's page asks for.

    Attributes:
        rows: Return the rows of a tab each, by its key.
    """

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        self.rows: dict[str, Rows] = {}
        self._state = ""
        assert environment.web_ui is not None and environment.web_ui.app is not None
        self._app = environment.web_ui.app
        self._app.before_request(self._forget)
        self._app.after_request(self._add)

    def _forget(self) -> None:
        """Have Locust make a new answer if the state has changed: it keeps an answer for two seconds."""
        runner = self._environment.runner
        if _asks_for_statistics() and runner is not None and runner.state != self._state:
            self._state = runner.state
            view = self._app.view_functions[request.endpoint or ""]
            getattr(view, "clear_cache", lambda: None)()

    def _add(self, response: Response) -> Response:
        if not _asks_for_statistics() or not response.is_json or hasattr(response, "has_our_rows"):
            return response
        response.has_our_rows = True  # type: ignore[attr-defined]  # Locust sends it again
        tables = [{"key": key, "data": rows()} for key, rows in self.rows.items()]
        text = STOPPING.sub(rb'\1"running"', response.get_data()).rstrip()
        if b'"extended_stats"' in text:  # the locustfile has tabs of its own
            shown = json.loads(text)
            response.set_data(json.dumps({**shown, "extended_stats": [*shown["extended_stats"], *tables]}))
        else:  # parsing the rows of hundreds of names takes longer than all else
            response.set_data(text.removesuffix(b"}") + b', "extended_stats": ' + json.dumps(tables).encode() + b"}")
        return response


def _asks_for_statistics() -> bool:
    return request.path.endswith("/stats/requests")


def add_tab(
    environment: Environment,
    key: str,
    title: str,
    columns: Mapping[str, str],
    rows: Rows,
    panel: Panel | None = None,
) -> None:
    """Add a tab with a table, and a link to its CSV in the Download Data tab, if there is a page.

    Args:
        environment: The environment whose page gets the tab.
        key: The tab's name in addresses.
        title: The tab's title.
        columns: The keys of the table's rows, and their headings.
        rows: Returns the rows. It is called at most every two seconds, whenever Locust's page gets new statistics.
        panel: Returns HTML to show above the table. It is called every second while the tab is shown.
    """
    if environment.web_ui is None or environment.web_ui.app is None:
        return
    app = environment.web_ui.app
    structure = [{"key": column, "title": title} for column, title in columns.items()]
    arguments = environment.web_ui.template_args
    arguments.setdefault("extended_tabs", []).append({"title": title, "key": key})
    arguments.setdefault("extended_tables", []).append({"key": key, "structure": structure})
    link = {"href": f"./{key}/csv", "title": f"Download {title.lower()} CSV"}
    arguments.setdefault("extended_csv_files", []).append(link)

    _Tables.of(environment).rows[key] = rows

    @environment.web_ui.auth_required_if_enabled
    def send_csv() -> Response:
        return download(csv_text(columns, rows()), "text/csv", csv_name(environment, key))

    app.add_url_rule(path(environment, f"{key}/csv"), f"{key}_csv", send_csv)
    if panel is None:
        return

    @environment.web_ui.auth_required_if_enabled
    def send_panel() -> str:
        return panel()

    app.add_url_rule(path(environment, f"{key}/panel"), f"{key}_panel", send_panel)
    add_script(environment, SCRIPT % (json.dumps(key), PANEL_STYLE))
