"""Options and hosts checked before a test starts, on the command line and in the start form alike."""

import argparse
import logging
import math
import sys
from collections.abc import Callable
from typing import Any

from flask import Response, jsonify, request
from locust import events
from locust.argument_parser import LocustArgumentParser, default_args_dict, get_parser
from locust.env import Environment
from locust.runners import WorkerRunner

from locust_tcp.transport.endpoint import Endpoint
from locust_tcp.transport.tls import tls_context
from locust_tcp.user import TcpUser

logger = logging.getLogger(__name__)


def number(unit: str, *, zero: bool = False) -> Callable[[str], float]:
    """Return an argparse type for a number above 0, or with `zero` from 0. `unit` is for its error."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value) or value < 0 or (value == 0 and not zero):
            raise argparse.ArgumentTypeError(f"{text!r} is not a number of {unit} {'from' if zero else 'above'} 0")
        return value

    return parse


def ca_file(text: str) -> str | None:
    """Return a file of certificates that a tls:// service may be verified by, or None for no name; an argparse type."""
    if not text:
        return None
    try:
        tls_context(text, verify=True)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def _bad_host(environment: Environment, host: str | None) -> str | None:
    """Return what is wrong with `host`, or where there is none, with the user classes' own."""
    for user_class in environment.user_classes:
        if issubclass(user_class, TcpUser):
            try:
                _ = Endpoint.parse(host or user_class.host, user_class.tls_ca, user_class.tls_verify).tls
            except ValueError as error:
                return str(error)
    return None


def _bad_option(name: str, text: str) -> str | None:
    """Return what the command line would say to an option's value, or None if it would take it."""
    action = get_parser().args_included_in_web_ui.get(name)
    if action is None or name in default_args_dict():  # Locust checks its own
        return None
    try:
        value = action.type(text) if callable(action.type) else text
    except (argparse.ArgumentTypeError, ValueError, TypeError) as error:
        return f"{name}: {error}"
    if action.choices and value not in action.choices:
        return f"{name}: {text!r} is not one of {', '.join(map(str, action.choices))}"
    return None


@events.init_command_line_parser.add_listener
def _stay_at_home(parser: LocustArgumentParser) -> None:
    """Have the web page, which can start a load test on anybody, listen on this machine only."""
    parser.set_defaults(web_host="127.0.0.1")


@events.init.add_listener
def _check(environment: Environment, **_: Any) -> None:
    """Refuse a bad --host at once, and bad values in the start form when Start is pressed.

    Locust's own form converts values but checks none, and answers a bad number with a
    traceback's last line.
    """
    if isinstance(environment.runner, WorkerRunner):
        return  # its host and options come from the master, which has checked them
    if (environment.host or environment.web_ui is None) and (message := _bad_host(environment, environment.host)):
        sys.exit(f"locust: error: {message}")
    if environment.web_ui is None or environment.web_ui.app is None:
        return

    @environment.web_ui.app.before_request
    def check_form() -> Response | None:
        if request.method != "POST" or not request.path.endswith("/swarm"):
            return None
        options = (_bad_option(name, text) for name, text in request.form.items() if name != "host")
        message = _bad_host(environment, request.form.get("host")) or next(filter(None, options), None)
        if message is None:
            return None
        logger.error("Not started: %s", message)  # the form that Edit opens does not show it
        return jsonify({"success": False, "message": message, "host": environment.host})
