"""Requests that Locust's page must refuse: of other web pages, for files, and before the login."""

import http.cookiejar
import json
import os
import socket
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from tests import kit
from tests.browser import chromium, chromium_for_tests, new_page, web

OWN_FORM = {"user_count": "1", "spawn_rate": "1", "host": "tcp://127.0.0.1:1"}


def ask(
    url: str,
    form: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
    opener: urllib.request.OpenerDirector | None = None,
) -> tuple[int, str]:
    """Send a request, a POST with a form; return the status and the answer. Redirects are not followed."""

    class NoRedirect(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *_: Any) -> None:
            return None

    data = urllib.parse.urlencode(form).encode() if form is not None else None
    request = urllib.request.Request(url, data, dict(headers or {}))
    try:
        with (opener or urllib.request.build_opener(NoRedirect)).open(request, timeout=kit.PATIENCE) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def state(url: str) -> str:
    return str(json.loads(ask(f"{url}stats/requests")[1])["state"])


@pytest.fixture(scope="module")
def idle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[kit.Program, str]]:
    """A Locust in which no test starts, and its page's address."""
    with web(output=tmp_path_factory.mktemp("idle") / "locust") as running:
        yield running


def test_no_field_of_the_form_opens_a_file(idle: tuple[kit.Program, str], tmp_path: Path) -> None:
    locust, url = idle
    os.mkfifo(tmp_path / "fifo")
    for name, file in (("tls_ca", "/dev/tty"), ("tls_client_cert", tmp_path / "fifo"), ("html_file", tmp_path / "new")):
        status, answer = ask(f"{url}swarm", {**OWN_FORM, name: str(file)})
        message = json.loads(answer)["message"]
        assert (status, message) == (200, f"{name} is not a field of this form: give it on the command line")
        assert locust.output.count(f"Test not started: {message}") == 1
    assert state(url) == "ready"
    assert "tls_ca" not in ask(url)[1], "the form has no field for a file"


def test_a_user_class_takes_no_attribute_that_its_form_lacks(idle: tuple[kit.Program, str], tmp_path: Path) -> None:
    _, url = idle
    os.mkfifo(tmp_path / "fifo")
    for settings, status in (({"tls_ca": str(tmp_path / "fifo")}, 400), ({"weight": 2}, 201)):
        data = json.dumps({"user_class_name": "CapitalizationUser", **settings}).encode()
        try:
            with urllib.request.urlopen(f"{url}user", data, timeout=kit.PATIENCE) as answer:
                assert answer.status == status
        except urllib.error.HTTPError as error:
            assert error.code == status
            assert error.read() == b"not fields of the form of a user class: 'tls_ca'"


FILE_IN_THE_FORM = """
from locust import events
from locust_tcp import TcpUser, ca_file

class Visitor(TcpUser):
    host = "tcp://127.0.0.1:1"

@events.init_command_line_parser.add_listener
def add_options(parser):
    parser.add_argument("--authority", type=ca_file, default="")
"""


def test_a_locustfile_that_has_a_file_in_its_form_opens_no_other(tmp_path: Path) -> None:
    (tmp_path / "file.py").write_text(FILE_IN_THE_FORM)
    with web("-f", str(tmp_path / "file.py"), output=tmp_path / "log") as (_, url):
        answer = ask(f"{url}swarm", {**OWN_FORM, "authority": str(tmp_path / "file.py")})[1]
        assert json.loads(answer)["message"] == ("authority: a file is named on the command line only (--authority)")
        assert json.loads(ask(f"{url}swarm", {**OWN_FORM, "authority": ""})[1])["success"]


@pytest.mark.parametrize("option", ["--tls-ca", "--tls-client-cert"])
def test_what_is_not_a_regular_file_is_refused_in_a_line(tmp_path: Path, option: str) -> None:
    os.mkfifo(tmp_path / "fifo")
    with kit.program(kit.LOCUST, "--headless", option, tmp_path / "fifo", output=tmp_path / "log") as locust:
        assert locust.ends() != 0
    assert f"error: argument {option}: TLS file '{tmp_path}/fifo' is not a regular file" in locust.output
    assert "Traceback" not in locust.output


@pytest.mark.parametrize("host", ["127.0.0.1", "*"])
def test_a_port_of_the_page_that_is_taken_is_one_line(tmp_path: Path, host: str) -> None:
    with socket.create_server(("", 0)) as other:
        port = str(other.getsockname()[1])
        page = ("--web-host", host, "--web-port", port)
        with kit.program(kit.LOCUST, *page, output=tmp_path / "log") as locust:
            assert locust.ends() not in (0, None)
    (line,) = (line for line in locust.output.splitlines() if "error" in line)
    assert line.startswith(f"locust: error: the web page can't listen on {host}:{port}: another program")
    assert "Traceback" not in locust.output


LOGIN = """
from flask import redirect
from flask_login import UserMixin, login_user
from locust import events
from locustfile import CapitalizationUser, add_options

class Person(UserMixin):
    id = "somebody"

@events.init.add_listener
def init(environment, **_):
    app = environment.web_ui.app
    app.secret_key = "secret"
    environment.web_ui.login_manager.user_loader(lambda _: Person())

    @app.route("/enter")
    def enter():
        login_user(Person())
        return redirect("/")
"""


def test_nothing_is_checked_before_the_login(tmp_path: Path) -> None:
    (tmp_path / "login.py").write_text(LOGIN)
    with web("-f", str(tmp_path / "login.py"), "--web-login", output=tmp_path / "log") as (locust, url):
        for form in (OWN_FORM, {**OWN_FORM, "timeout": "0"}, {**OWN_FORM, "host": "tcp://x"}):
            status, answer = ask(f"{url}swarm", form)
            assert (status, "timeout" in answer) == (302, False)
        assert "not started" not in locust.output
        person = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar()))
        ask(f"{url}enter", opener=person)
        refused = json.loads(ask(f"{url}swarm", {**OWN_FORM, "timeout": "0"}, opener=person)[1])
        assert refused["message"] == "timeout: '0' is not a number of seconds above 0"


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "http://127.0.0.1:1", "http://localhost", "null", "http://["]
)
@pytest.mark.parametrize("form", [OWN_FORM, None], ids=["post", "get"])
def test_another_pages_request_is_refused(
    idle: tuple[kit.Program, str], origin: str, form: Mapping[str, str] | None
) -> None:
    locust, url = idle
    status, answer = ask(f"{url}{'swarm' if form else 'logs'}", form, {"Origin": origin})
    assert (status, answer.count("\n")) == (403, 0)
    assert locust.output.count(f"Refused a request: a web page of '{origin}'") == 1, "one line, however often"
    assert state(url) == "ready"


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example:8089", "localhost.evil", "[", "\x1b[2J"])
def test_a_foreign_name_is_refused(idle: tuple[kit.Program, str], host: str) -> None:
    locust, url = idle
    assert ask(url, headers={"Host": host})[0] in (400, 403)
    assert ask(f"{url}swarm", OWN_FORM, {"Host": host, "Origin": f"http://{host}"})[0] in (400, 403)
    assert state(url) == "ready"
    assert "\x1b" not in locust.output


@pytest.mark.parametrize("host", ["localhost:{port}", "127.0.0.1:{port}", "[::1]:{port}", "LOCALHOST", "{machine}:1"])
def test_the_pages_own_names_are_served(idle: tuple[kit.Program, str], host: str) -> None:
    _, url = idle
    name = host.format(port=urllib.parse.urlsplit(url).port, machine=socket.gethostname())
    own = {"Host": name, "Origin": f"http://{name.lower()}" if name != "LOCALHOST" else "http://LOCALHOST"}
    assert ask(f"{url}logs", headers=own)[0] == 200


@pytest.mark.parametrize("by_option", [True, False], ids=["option", "environment"])
def test_a_proxys_names_are_served_where_they_are_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by_option: bool
) -> None:
    names = "load.example, other.example"
    if not by_option:
        monkeypatch.setenv("LOCUST_WEB_ALLOW_HOST", names)
    with web(*(("--web-allow-host", names) if by_option else ()), output=tmp_path / "log") as (locust, url):
        for headers in (
            {"Host": "load.example", "Origin": "https://load.example"},
            {"Origin": "https://other.example"},  # the proxy changes the host only
        ):
            assert ask(f"{url}logs", headers=headers)[0] == 200
        assert ask(f"{url}logs", headers={"Host": "third.example"})[0] == 403
        assert len([line for line in locust.output.splitlines() if "--web-allow-host" in line]) == 1


@contextmanager
def other_page(script: str) -> Iterator[str]:
    """Serve a web page of another origin that runs a script; yields its address."""

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(f"<body><script>{script}</script></body>".encode())

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def test_a_page_in_the_same_browser_can_not_start_a_test(idle: tuple[kit.Program, str]) -> None:
    locust, url = idle
    form = urllib.parse.urlencode(OWN_FORM)
    send = f"""
        fetch("{url}swarm", {{method: "POST", mode: "no-cors", body: new URLSearchParams("{form}")}})
          .finally(() => fetch("{url}logs").then(answer => document.title = answer.status))
    """
    with other_page(send) as address, chromium(chromium_for_tests()) as browser, new_page(browser) as page:
        page.goto(address)
        page.wait_for_function("document.title")
        assert page.title() == "403"
        locust.says(f"Refused a request: a web page of '{address[:-1]}' has sent it")
        assert state(url) == "ready"
