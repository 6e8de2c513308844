"""locust_tcp/patches/page.py."""

import importlib.util
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from flask import Flask, Response

from locust_tcp.patches import page

ROUNDING = 'key:"avgResponseTime",title:"Average (ms)",round:2'


@pytest.fixture(autouse=True)
def no_warning_yet() -> None:
    page._warn.cache_clear()


@pytest.mark.parametrize(("file", "columns"), [("assets/*.js", 2), ("report.html", 3)])
def test_the_installed_script_rounds_where_the_kit_replaces_it(file: str, columns: int) -> None:
    spec = importlib.util.find_spec("locust")
    assert spec and spec.origin
    (script,) = (Path(spec.origin).parent / "webui/dist").glob(file)
    text = script.read_text()
    changed = page.unrounded(text)
    assert len(text) == len(changed)
    assert sum(old != new for old, new in zip(text, changed, strict=True)) == columns


def served() -> Any:
    app = Flask(__name__)
    app.add_url_rule("/", "page", lambda: '<script src="./assets/index.js"></script>')
    app.add_url_rule("/assets/index.js", "script", lambda: Response(f"{{{ROUNDING}}}", mimetype="text/javascript"))
    environment: Any = SimpleNamespace(web_ui=SimpleNamespace(app=app))
    page.serve_unrounded(environment)
    return app.test_client()


def test_the_page_gets_its_script_unrounded_from_an_address_of_its_own() -> None:
    browser = served()
    assert browser.get("/").text == '<script src="./assets/index.js?three-digits"></script>'
    assert browser.get("/assets/index.js?three-digits").text == f"{{{ROUNDING[:-1]}6}}"


def test_the_page_is_served_as_it_is_where_the_patch_is_not_applied(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page.PATCH, "applied", False)
    browser = served()
    assert browser.get("/").text == '<script src="./assets/index.js"></script>'
    assert browser.get("/assets/index.js").text == f"{{{ROUNDING}}}"


def test_a_script_that_rounds_in_another_way_is_left_as_it_is_with_one_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    another = ROUNDING.replace("round:2", "digits:2")
    assert [page.unrounded(another) for _ in range(2)] == [another] * 2
    assert len(caplog.messages) == 1
