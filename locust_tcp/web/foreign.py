"""Refuse requests to Locust's page that other web pages cause.

A page of any site may send requests to http://localhost:8089 from the browser of a person that looks at it. Locust's
page may start a load test on any host, and shows what is tested. So two kinds of requests are refused:

- those that the browser says a page of another origin has sent (the header Origin);
- those for a name that is not one of Locust's page (the header Host). A site can have its name resolve to 127.0.0.1,
  so that its own pages have the origin of Locust's (DNS rebinding). It can't do that with a numeric address.
"""

import functools
import ipaddress
import logging
import socket
from urllib.parse import urlsplit

from flask import Response, make_response, request
from locust.env import Environment

logger = logging.getLogger(__name__)

OPTION = "--web-allow-host"
MOST_LINES = 100  # in the log, of different refusals: a foreign page may send as many as it likes


def refuse_foreign_requests(environment: Environment) -> None:
    """Refuse what other web pages send to the page of an environment. Call it before other checks are added."""
    web_ui = environment.web_ui
    if web_ui is None or web_ui.app is None:
        return
    options = environment.parsed_options
    allowed = {name.strip().lower() for name in getattr(options, "web_allow_host", "").split(",")} - {""}
    display = getattr(options, "web_host_display_name", None) or ""
    shown = _name(display if "//" in display else f"//{display}")
    own = ({"localhost", socket.gethostname().lower(), web_ui.host.lower(), shown} | allowed) - {""}

    @web_ui.app.before_request
    def refuse() -> Response | None:
        origin = request.headers.get("Origin")
        host = _name(f"//{request.host}")
        if origin is not None and origin.partition("://")[2] != request.host and _name(origin) not in allowed:
            reason = f"a web page of {origin!a:.100} has sent it"
        elif host not in own and not _is_address(host):
            reason = f"it is for the host {request.host!a:.100}"
        else:
            return None
        text = f"Refused a request: {reason}. If that is an address of this page: locust {OPTION} NAME"
        _log(text)
        return make_response(text, 403)

    @web_ui.app.after_request
    def keep_out_of_frames(response: Response) -> Response:
        # In a frame of another page, a click on something else would press Start.
        response.headers.setdefault("Content-Security-Policy", "frame-ancestors 'self'")
        return response


@functools.lru_cache(MOST_LINES)
def _log(text: str) -> None:
    logger.warning("%s", text)


def _name(url: str) -> str:
    """Return the name in a URL; nothing where it has none."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
