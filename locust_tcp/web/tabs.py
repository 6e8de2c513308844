"""Tabs of our own on Locust's page, each with a table and its CSV."""

import csv
import io
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from flask import Response, make_response, request
from locust.env import Environment

Rows = Callable[[], Sequence[Mapping[str, Any]]]
Pictures = Callable[[], Sequence[str]]

# Locust's page shows only a table in a tab of ours. This script puts pictures above it, in tab %s.
SHOW_PICTURES = """
(() => {
  const key = "%s";
  let shown = "";
  const show = async () => {
    let place = document.getElementById(`${key}-pictures`);
    const table = document.querySelector("table");
    if (new URLSearchParams(location.search).get("tab") !== key || !table) return place?.remove();
    const pictures = await (await fetch(`./${key}/pictures`)).text();
    if (place && pictures === shown) return;
    place?.remove();
    place = document.createElement("div");
    place.id = `${key}-pictures`;
    place.style.margin = "24px 0";
    place.innerHTML = shown = pictures;
    table.parentElement.before(place);
  };
  setInterval(() => show().catch(() => {}), 1000);
})();
"""


def csv_text(columns: Mapping[str, str], rows: Sequence[Mapping[str, Any]]) -> str:
    """Return a table as CSV. `columns` maps the keys of its rows to their headings."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(columns.values())
    writer.writerows([row[key] for key in columns] for row in rows)
    return text.getvalue()


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


def add_tab(
    environment: Environment,
    key: str,
    title: str,
    columns: Mapping[str, str],
    rows: Rows,
    csv_rows: Rows | None = None,
    pictures: Pictures | None = None,
) -> None:
    """Add a tab with a table, and a link to its CSV in the Download Data tab, if there is a page.

    Args:
        environment: The environment whose page gets the tab.
        key: The tab's name in addresses.
        title: The tab's title.
        columns: The keys of the table's rows, and their headings.
        rows: Returns the rows. It is called whenever the page asks for the statistics.
        csv_rows: Returns the rows of the CSV if they differ from those of the table.
        pictures: Returns SVG or other HTML to show above the table.
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

    @app.after_request
    def add_rows(response: Response) -> Response:
        if request.path.endswith("/stats/requests") and response.is_json:
            shown = response.get_json()
            # Locust caches a response for a second: it may contain our rows already.
            others = [extra for extra in shown.get("extended_stats", []) if extra["key"] != key]
            shown["extended_stats"] = [*others, {"key": key, "data": rows()}]
            response.set_data(app.json.dumps(shown))
        return response

    @environment.web_ui.auth_required_if_enabled
    def send_csv() -> Response:
        return download(csv_text(columns, (csv_rows or rows)()), "text/csv", f"{key}_{int(time.time())}.csv")

    app.add_url_rule(path(environment, f"{key}/csv"), f"{key}_csv", send_csv)
    if pictures is None:
        return

    @environment.web_ui.auth_required_if_enabled
    def send_pictures() -> str:
        return "\n".join(pictures())

    app.add_url_rule(path(environment, f"{key}/pictures"), f"{key}_pictures", send_pictures)

    @app.after_request
    def add_script(response: Response) -> Response:
        if response.mimetype == "text/html" and b"</body>" in response.get_data():
            script = f"<script>{SHOW_PICTURES.replace('%s', key)}</script></body>"
            response.set_data(response.get_data().replace(b"</body>", script.encode()))
        return response
