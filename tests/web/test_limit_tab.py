"""locust_tcp/web/limit_tab.py: rows, CSV, pictures and report of a search."""

import csv
import io
from xml.etree import ElementTree

import pytest

from locust_tcp.metrics.capacity import MOST_REPEATS, MOST_STEPS, CapacitySearch, findings
from locust_tcp.metrics.generator import BUSY, ROOM, SATURATED, UNKNOWN
from locust_tcp.web import limit_tab
from locust_tcp.web.limit_tab import COLUMNS, panel, pictures, report, rows
from tests.made_up_services import PAUSE, at_first, explore, fine, pool_of, step, tried
from tests.pages import Parsed


def test_the_table_is_sorted_by_users_and_marks_what_was_found() -> None:
    search = explore(5, 640, pool_of(20))
    shown = rows(search)
    assert [row["users"] for row in shown] == sorted([*tried(search), 21, 40])
    notes = {row["users"]: row["note"] for row in shown}
    assert notes[20] == "knee; highest goodput"
    assert notes[21] == "failures begin; threshold broken; 1.19 % of the requests failed, at most 1 %"
    assert notes[5] == ""
    (row,) = (row for row in shown if row["users"] == 20)
    assert row == {
        "users": 20,
        "seconds": 5.0,
        "rate": 200.0,
        "margin": "-",
        "failures": 0.0,
        "p50": 10.0,
        "p95": 10.0,
        "p99": 10.0,
        "machine": 20,
        "note": "knee; highest goodput",
        "load": "The claim",
    }


def test_of_a_step_that_was_tried_twice_the_worse_one_says_so() -> None:
    search = explore(5, 80, at_first(10, step(10, 100.0, 500), fine))
    assert [row["note"] for row in rows(search) if row["users"] == 10] == [
        "tried twice, the better step counts; 50 % of the requests failed, at most 1 %",
        "",
    ]


def test_the_uncertainty_of_the_goodput_has_a_column() -> None:
    search = explore(1, 1, lambda users: step(users, 10.0, rates=(9.0, 10.0, 11.0)))
    assert [row["margin"] for row in rows(search)] == [2.5]


@pytest.mark.parametrize("level", [UNKNOWN, ROOM, BUSY, SATURATED])
def test_every_row_has_every_column(level: int) -> None:
    search = explore(5, 640, lambda users: step(users, users / PAUSE, users, level=level))
    for row in rows(search):
        assert list(row) == list(COLUMNS)
        assert row["load"] == "The claim"


def test_the_csv_has_the_steps_and_no_sentences() -> None:
    search = explore(5, 640, pool_of(20))
    read = list(csv.DictReader(io.StringIO(limit_tab.csv(search))))
    assert [row["Users"] for row in read] == [str(users) for users in sorted([*tried(search), 21, 40])]


HOSTILE = "<script>alert('a & b')</script>"


def test_the_report_is_a_page_in_which_texts_of_failures_are_only_texts() -> None:
    search = explore(5, 640, lambda users: step(users, users / PAUSE, 0 if users < 50 else 100, how=HOSTILE))
    page = Parsed(report(search))
    assert "script" not in page.tags
    assert page.tags.count("svg") == 2
    assert page.tags.count("table") == 1
    assert page.tags.count("tr") == 1 + len(search.steps)
    assert any(repr(HOSTILE) in text for text in page.texts["p"])
    assert page.texts["p"] == findings(search)


def test_the_panel_has_the_answers_the_findings_and_two_drawings_with_the_marks() -> None:
    search = explore(5, 640, pool_of(20))
    page = Parsed(panel(search))
    assert page.texts["b"] == ["between 20 and 21 users", "200 requests/s", "10 ms", "the service's"]
    assert page.texts["p"] == findings(search)
    for drawing in pictures(search):
        marks = [each for each in ElementTree.fromstring(drawing).iter() if each.get("class") == "mark" and each.text]
        texts = [element.text for element in marks]
        assert texts == ["1 knee, highest goodput", "2 failures begin, threshold broken", "1", "2"]
    assert pictures(CapacitySearch(5, 640)) == []
    assert Parsed(panel(CapacitySearch(5, 640))).texts["b"] == ["has not begun"]


def test_the_panel_says_how_far_the_search_is_while_findings_may_still_change() -> None:
    search = explore(5, 640, pool_of(20))
    search.is_over = False
    page = Parsed(panel(search))
    assert page.texts["b"][0] == f"step {len(search.steps) + 1} of at most {MOST_STEPS + MOST_REPEATS}"
    assert "p" not in page.texts


def test_pictures_and_report_exist_without_requests() -> None:
    search = explore(5, 640, lambda users: step(users, 0.0))
    page = Parsed(report(search))
    assert page.tags.count("svg") == 2
    assert page.texts["p"] == ["There is no result: there were no requests."]
