"""locust_tcp/web/tabs.py: our tables in the statistics that Locust's page asks for."""

import csv
import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import pytest
from locust.argument_parser import get_parser
from locust.env import Environment
from locust.web import WebUI

from locust_tcp import TcpUser, plugin
from locust_tcp.web.tabs import _Tables, add_tab, csv_text


class Word(TcpUser):
    host = "tcp://localhost:1"


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> Environment:
    """An environment with Locust's page and our tabs, which no socket serves."""
    monkeypatch.setattr(sys, "argv", ["locust", "--max-p95", "5"])  # the page reads it again
    found = Environment(user_classes=[Word], parsed_options=get_parser().parse_args())
    found.create_local_runner()
    WebUI(found, "127.0.0.1", 0, delayed_start=True)
    with patch("gevent.signal_handler"), patch("gevent.spawn"), patch("locust_tcp.plugin.keep_arrival_times"):
        plugin._init(found)
    return found


def ask(environment: Environment) -> Any:
    assert environment.web_ui and environment.web_ui.app
    return environment.web_ui.app.test_client().get("/stats/requests", headers={"Host": "localhost"}).json


def set_state(environment: Environment, state: str) -> None:
    assert environment.runner
    environment.runner.state = state


def test_an_answer_of_another_state_is_not_given_again(environment: Environment) -> None:
    for state in ("ready", "spawning", "running", "stopped"):
        set_state(environment, state)
        assert [ask(environment)["state"], ask(environment)["state"]] == [state] * 2


@pytest.mark.parametrize("state", ["cleanup", "stopping"])
def test_a_test_whose_users_stop_still_runs_for_the_page(environment: Environment, state: str) -> None:
    set_state(environment, state)
    assert ask(environment)["state"] == "running"


def test_each_tab_has_its_rows_beside_those_of_the_locustfile(environment: Environment) -> None:
    assert environment.web_ui and environment.web_ui.app
    app = environment.web_ui.app

    @app.after_request
    def own(response: Any) -> Any:
        if response.is_json and "extended_stats" not in response.json:
            response.set_data(app.json.dumps({**response.json, "extended_stats": [{"key": "own", "data": [1]}]}))
        return response

    add_tab(environment, "more", "More", {"a": "A"}, rows=lambda: [{"a": "</b>"}])
    for _ in range(2):
        tables = {each["key"]: each["data"] for each in ask(environment)["extended_stats"]}
        assert tables == {"own": [1], "more": [{"a": "</b>"}], "generator": [], "thresholds": []}


@contextmanager
def counted() -> Iterator[list[int]]:
    """Count the calls of Python and C functions in a with-block."""
    calls = [0]

    def count(_: Any, event: str, __: Any) -> None:
        calls[0] += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        yield calls
    finally:
        sys.setprofile(None)


def test_our_part_of_an_answer_is_the_same_work_for_any_number_of_names(environment: Environment) -> None:
    assert environment.web_ui and environment.web_ui.app
    app, hooks = environment.web_ui.app, environment.events
    work = []
    for names in (10, 5000):
        environment.stats.clear_all()
        hooks.test_start.fire(environment=environment)
        hooks.spawning_complete.fire(user_count=1)
        for number in range(names):
            for time in range(1, 11):
                environment.stats.log_request("TCP", f"name {number}", time, 0)
        view: Any = next(each for name, each in app.view_functions.items() if name.endswith("request_stats"))
        view.clear_cache()
        with app.test_request_context("/stats/requests"):
            answer = view()
            with counted() as calls:
                _Tables.of(environment)._add(answer)
        assert answer.json["extended_stats"][1]["data"], "the thresholds are judged"
        work.append(calls[0])
    assert work[1] < work[0] + 50, "numbers of other lengths are formatted in another way"


@pytest.mark.parametrize(
    ("cell", "written"),
    [
        *((text, f"'{text}") for text in ("=1+1", "+1", "-1+cmd", "@SUM(A1)", "\t=1", "\r=1")),
        *((text, text) for text in ("-", "word", "a=b", "1-2", "")),
        (-1.5, "-1.5"),
    ],
)
def test_a_cell_of_our_csvs_is_no_formula(cell: object, written: str) -> None:
    (row,) = csv.DictReader(io.StringIO(csv_text({"name": "Name"}, [{"name": cell}]), newline=""))
    assert row == {"Name": written}
