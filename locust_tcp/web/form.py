"""Checks of hosts and options, on the command line and in the start form alike."""

import argparse
import logging
import math
import sys
from collections.abc import Callable
from pathlib import Path

from flask import Response, jsonify, request
from locust.argument_parser import default_args_dict, get_parser
from locust.env import Environment

from locust_tcp.metrics.thresholds import parse_all
from locust_tcp.transport.tls import tls_context
from locust_tcp.user import TcpUser, endpoint_of

logger = logging.getLogger(__name__)


def number(unit: str, *, zero: bool = False) -> Callable[[str], float]:
    """Return an argparse type for a number above 0.

    Args:
        unit: What the number counts, for the error message.
        zero: Whether 0 is allowed too.
    """

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value) or value < 0 or (value == 0 and not zero):
            bound = ", 0 or more" if zero else " above 0"
            raise argparse.ArgumentTypeError(f"{text!r} is not a number of {unit}{bound}")
        return value

    return parse


def share(text: str) -> float:
    """Parse a share of the requests, from 0 to 1; an argparse type."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a share of the requests from 0 to 1, such as 0.01 for 1 %")
    return value


def thresholds(text: str) -> str:
    """Check thresholds with commas between them; an argparse type."""
    try:
        parse_all(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def ca_file(text: str) -> str | None:
    """Check a file of certificates for tls:// services; an argparse type. No name gives None."""
    if not text:
        return None
    try:
        tls_context(text, verify=True)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def tls_file(text: str) -> str | None:
    """Check that a file of a certificate or key can be read; an argparse type. No name gives None."""
    if not text:
        return None
    try:
        Path(text).read_bytes()
    except OSError as error:
        raise argparse.ArgumentTypeError(f"TLS file {text!r} can't be read: {error.strerror}") from None
    return text


def _host_error(environment: Environment, host: str | None) -> str | None:
    """Return what is wrong with `host`, or without one, with the hosts of the user classes."""
    for user_class in environment.user_classes:
        if issubclass(user_class, TcpUser):
            try:
                endpoint = endpoint_of(user_class, host or user_class.host)
                if endpoint.is_tls or endpoint.tls_ca or endpoint.tls_cert or endpoint.tls_key:
                    _ = endpoint.tls_context
            except ValueError as error:
                return str(error)
    return None


def _option_error(name: str, text: str) -> str | None:
    """Return what the command line finds wrong with the value of an option."""
    action = get_parser().args_included_in_web_ui.get(name)
    if action is None or name in default_args_dict():  # Locust checks its own options
        return None
    try:
        value = action.type(text) if callable(action.type) else text
    except (argparse.ArgumentTypeError, ValueError, TypeError) as error:
        return f"{name}: {error}"
    if action.choices and value not in action.choices:
        return f"{name}: {text!r} is not one of {', '.join(map(str, action.choices))}"
    return None


def check_host(environment: Environment) -> None:
    """Exit if --host is wrong, or without a page, if a host of the user classes is."""
    if (environment.host or environment.web_ui is None) and (message := _host_error(environment, environment.host)):
        sys.exit(f"locust: error: {message}")


def check_start_form(environment: Environment) -> None:
    """Refuse wrong values in the start form when Start is pressed.

    Locust's form converts values and checks none: its answer to a wrong number is the last line of
    a traceback.
    """
    if environment.web_ui is None or environment.web_ui.app is None:
        return

    @environment.web_ui.app.before_request
    def check() -> Response | None:
        if request.method != "POST" or not request.path.endswith("/swarm"):
            return None
        options = vars(environment.parsed_options) if environment.parsed_options else {}
        errors = (
            _option_error(name, text)
            for name, value in request.form.items(multi=True)  # a field may occur several times
            if name != "host"
            for text in (value.split(",") if isinstance(options.get(name), list) else [value])  # as Locust splits it
        )
        message = _host_error(environment, request.form.get("host")) or next(filter(None, errors), None)
        if message is None:
            return None
        logger.error("Test not started: %s", message)  # the form that Edit opens does not show the message
        return jsonify({"success": False, "message": message, "host": environment.host})
