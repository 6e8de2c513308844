"""locust_tcp/web/form.py: the types of options. Whole forms are in tests/swarm/test_web_ui.py."""

import argparse

import pytest

from locust_tcp.web.form import number, share


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
    [("0", False, "above 0"), ("-1", True, "from 0"), ("nan", True, "from 0"), ("x", False, "above 0")],
)
def test_what_is_no_number_is_refused(text: str, zero: bool, bound: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=f"^'{text}' is not a number of seconds {bound}$"):
        number("seconds", zero=zero)(text)
