"""Checks of hosts and options, on the command line and in the start form alike."""

import argparse
import errno
import logging
import math
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from flask import Response, jsonify, make_response, request
from gevent import socket
from locust.argument_parser import default_args_dict, get_parser
from locust.env import Environment
from locust.runners import STATE_RUNNING, STATE_SPAWNING

from locust_tcp.metrics.thresholds import parse_all
from locust_tcp.transport.tls import check_is_regular, tls_context
from locust_tcp.user import TcpUser, endpoint_of

logger = logging.getLogger(__name__)

# The fields of Locust's own form. Locust takes a field of any name for an option: one such as html_file, which no form
# has, would have it write a file.
LOCUSTS_FIELDS = {"host", "user_count", "spawn_rate", "run_time", "profile", "user_classes", "shape_class"}


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
        check_is_regular(text)
        Path(text).read_bytes()
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    except OSError as error:
        raise argparse.ArgumentTypeError(f"TLS file {text!r} can't be read: {error.strerror}") from None
    return text


FILES = ca_file, tls_file


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


def _option_error(action: argparse.Action | None, name: str, text: str, now: Any) -> str | None:
    """Return what the command line finds wrong with the value of an option, which has another one `now`."""
    if action is None:
        return f"{name} is not a field of this form: give it on the command line"
    if action.type in FILES and text != (now or ""):
        return f"{name}: a file is named on the command line only ({action.option_strings[0]})"
    try:
        value = action.type(text) if callable(action.type) else text
    except (argparse.ArgumentTypeError, ValueError, TypeError) as error:
        return f"{name}: {error}"
    if action.choices and value not in action.choices:
        return f"{name}: {text!r} is not one of {', '.join(map(str, action.choices))}"
    return None


def _form_error(environment: Environment, fields: Mapping[str, list[str]]) -> str | None:
    """Return what is wrong with the start form's fields, each of which may occur several times."""
    if message := _host_error(environment, next(iter(fields.get("host", [])), None)):
        return message
    options = vars(environment.parsed_options) if environment.parsed_options else {}
    shown, own = get_parser().args_included_in_web_ui, default_args_dict()
    for name in options.keys() & fields.keys() - LOCUSTS_FIELDS:
        for value in fields[name]:
            for text in value.split(",") if isinstance(options[name], list) else [value]:  # as Locust splits it
                if message := _option_error(None if name in own else shown.get(name), name, text, options[name]):
                    return message
    return None


def check_host(environment: Environment) -> None:
    """Exit if --host is wrong, or without a page, if a host of the user classes is."""
    if (environment.host or environment.web_ui is None) and (message := _host_error(environment, environment.host)):
        sys.exit(f"locust: error: {message}")


def is_running(environment: Environment) -> bool:
    """Return whether a test is running."""
    return environment.runner is not None and environment.runner.state in (STATE_SPAWNING, STATE_RUNNING)


class Refusal(NamedTuple):
    """Why Start is refused.

    Attributes:
        message: The reason, and what to do.
        is_brief: Whether the reason goes by itself within a minute or so. The page then tries again.
    """

    message: str
    is_brief: bool = False


def on_start(environment: Environment, check: Callable[[str | None], Refusal | None]) -> None:
    """Refuse Start in the form of an environment's page, or Update in the one that Edit opens.

    Args:
        environment: The environment. Without a page this does nothing.
        check: Called with the host when the button is pressed, after the login if there is one.
    """
    web_ui = environment.web_ui
    if web_ui is None or web_ui.app is None:
        return
    logged = ""

    @web_ui.auth_required_if_enabled
    def refuse() -> Response | None:
        nonlocal logged
        refusal = check(request.form.get("host") or environment.host)
        if refusal is None:
            logged = ""
            return None
        if refusal.message != logged:  # the page tries again every few seconds
            logged = refusal.message
            logger.error("%s: %s", "Not changed" if is_running(environment) else "Test not started", refusal.message)
        answer = {"success": False, "message": refusal.message, "again": refusal.is_brief, "host": environment.host}
        return jsonify(answer)

    @web_ui.app.before_request
    def before() -> Response | None:
        return refuse() if request.method == "POST" and request.path.endswith("/swarm") else None


def bind_error(family: int, address: tuple[Any, ...]) -> OSError | OverflowError | None:
    """Return why no server can listen on an address of this machine.

    This does not listen there, not even for a moment: a client would take that for the server.
    """
    with socket.socket(family) as probe:
        if os.name != "nt":  # as servers do; on Windows it would take the port from another program
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
        except (OSError, OverflowError) as error:  # OverflowError: a port that is no port
            return error
    return None


def check_port(environment: Environment) -> None:
    """Exit if the page can't listen. Locust's own attempt ends in a traceback."""
    web_ui = environment.web_ui
    if web_ui is None:
        return
    family = socket.AF_INET6 if ":" in web_ui.host else socket.AF_INET
    if error := bind_error(family, (web_ui.host, web_ui.port)):
        why = str(getattr(error, "strerror", error))
        if getattr(error, "errno", 0) == errno.EADDRINUSE:
            why = "another program, perhaps another Locust, listens there. End it, or choose another with --web-port"
        sys.exit(f"locust: error: the web page can't listen on {web_ui.host or '*'}:{web_ui.port}: {why}")


def check_start_form(environment: Environment) -> None:
    """Refuse wrong values in the start form when Start is pressed.

    Locust's form converts values and checks none: its answer to a wrong number is the last line of
    a traceback.
    """

    def check(_: str | None) -> Refusal | None:
        message = _form_error(environment, dict(request.form.lists()))
        return Refusal(message) if message else None

    on_start(environment, check)


def check_user_form(environment: Environment) -> None:
    """Refuse attributes of a user class that its form does not have: Locust sets those of any name."""
    web_ui = environment.web_ui
    if web_ui is None or web_ui.app is None:
        return

    @web_ui.auth_required_if_enabled
    def refuse() -> Response | None:
        settings = request.get_json(force=True, silent=True)
        settings = settings if isinstance(settings, dict) else {}
        user_class = (environment.available_user_classes or {}).get(settings.get("user_class_name", ""))
        unknown = settings.keys() - {"user_class_name"} - (user_class.json().keys() if user_class else set())
        if not unknown:
            return None
        message = f"not fields of the form of a user class: {', '.join(map(repr, sorted(unknown)))}"
        logger.error("Not changed: %s", message)
        return make_response(message, 400)

    @web_ui.app.before_request
    def before() -> Response | None:
        return refuse() if request.method == "POST" and request.path.endswith("/user") else None
