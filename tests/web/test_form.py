"""locust_tcp/web/form.py: the types of options. Whole forms are in tests/swarm/test_web_ui.py."""

import argparse
from unittest.mock import Mock, patch

import pytest
from flask import Flask
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment

from locust_tcp.web.form import check_start_form, number, share, thresholds


@pytest.mark.parametrize("text", ["0", "0.01", "1", "1e-3"])
def test_a_share_is_accepted(text: str) -> None:
    assert share(text) == float(text)


@pytest.mark.parametrize("text", ["-0.1", "1.01", "5", "nan", "inf", "1 %", ""])
def test_what_is_no_share_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=f"^{text!r} is not a "):
        share(text)


@pytest.mark.parametrize(("text", "zero"), [("1", False), ("0.5", False), ("0", True), ("1e3", True)])
def test_a_number_is_accepted(text: str, zero: bool) -> None:
    assert number("seconds", zero=zero)(text) == float(text)


@pytest.mark.parametrize(
    ("text", "zero", "bound"),
    [("0", False, " above 0"), ("-1", True, ", 0 or more"), ("nan", True, ", 0 or more"), ("x", False, " above 0")],
)
def test_what_is_no_number_is_refused(text: str, zero: bool, bound: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=f"^'{text}' is not a number of seconds{bound}$"):
        number("seconds", zero=zero)(text)


def test_thresholds_are_accepted_and_what_is_none_is_refused() -> None:
    assert thresholds("word p99 < 5, rps > 1") == "word p99 < 5, rps > 1"
    assert thresholds("") == ""
    with pytest.raises(argparse.ArgumentTypeError, match=r"^'word' is not a threshold such as"):
        thresholds("rps > 1, word")


@pytest.mark.parametrize(
    ("values", "bad"), [(["1"], ""), (["1", "2"], ""), (["1", "x"], "x"), (["1,2"], ""), (["1,y"], "y")]
)
def test_each_value_of_a_field_is_checked(values: list[str], bad: str) -> None:
    parser = LocustArgumentParser()
    parser.add_argument("--sizes", type=number("bytes"), nargs="+", default=[1.0])
    environment = Environment(parsed_options=parser.parse_args([]))
    app = Flask("page")
    environment.web_ui = Mock(app=app, auth_required_if_enabled=lambda view: view)
    with patch("locust_tcp.web.form.get_parser", return_value=parser):
        check_start_form(environment)
        answer = app.test_client().post("/swarm", data={"sizes": values})
    if bad:
        assert answer.json is not None
        assert answer.json["message"] == f"sizes: {bad!r} is not a number of bytes above 0"
    else:
        assert answer.status_code == 404, "it reaches the page, which this one lacks"
