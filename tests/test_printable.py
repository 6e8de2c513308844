"""locust_tcp/printable.py: what a run prints, with names that have control characters in them."""

import os
import re
import sys
from pathlib import Path

import pytest

from tests import kit

NASTY = "\x1b[2J\x1b]0;title\x07one\ntwo\x9b3m\u202e"

LOCUSTFILE = '''
import logging
from locust import task, constant
from locust_tcp import TcpUser, start_service

NASTY = {nasty!r}
SERVICE = r"""
import socketserver, sys, threading

class Echo(socketserver.StreamRequestHandler):
    def handle(self):
        for line in self.rfile:
            self.wfile.write(line)

socketserver.ThreadingTCPServer.daemon_threads = True
server = socketserver.ThreadingTCPServer(("127.0.0.1", {port}), Echo)
threading.Thread(target=server.serve_forever, daemon=True).start()
print("listening" + {nasty!r}, flush=True)
sys.stdin.read()
"""

start_service("tcp://127.0.0.1:{port}", [{python!r}, "-c", SERVICE], directory=".")

def read(connection):
    raise ValueError(NASTY)

class Visitor(TcpUser):
    host = "tcp://127.0.0.1:{port}"
    wait_time = constant(0.1)

    @task
    def ask(self):
        self.client.request("a", name="name" + NASTY, expect="b" + NASTY)
        self.client.request("a", name="parsed", read=read)
        self.client.request("a", name="right")
        self.environment.runner.log_exception("local", "said" + NASTY, "traceback")
        logging.getLogger("mine").warning("\x1b[1mmy own\x1b[0m")
'''


@pytest.mark.parametrize("to_file", [False, True], ids=["terminal", "file"])
def test_no_control_character_of_a_name_is_printed(tmp_path: Path, to_file: bool) -> None:
    port = kit.free_port()
    content = LOCUSTFILE.format(nasty=NASTY, python=sys.executable, port=port)
    (tmp_path / "file.py").write_text(content, encoding="utf-8")
    logfile = ("--logfile", tmp_path / "logfile") if to_file else ()
    options = ("--headless", "--run-time", "3s", "--threshold", "name\x1b[2J p50 < 5", "-f", tmp_path / "file.py")
    wide = {**os.environ, "COLUMNS": "300"}
    with kit.program(kit.LOCUST, *options, *logfile, output=tmp_path / "log", environment=wide) as run:
        assert run.ends() != 0
    output = run.output + ((tmp_path / "logfile").read_text() if to_file else "")
    own = "\x1b[1mmy own\x1b[0m"
    assert own in output, "a locustfile's own lines stay as they are"
    assert not re.search(r"[^\t\n -~\u00a0-\u2027\u2030-\uffff]", output.replace(own, ""))
    lines = [line for line in output.splitlines() if "name" in line]
    assert any(line.startswith("TCP") for line in lines), "the table"
    assert any("Thresholds" in line for line in lines)
    assert any("first wrong reply" in line for line in lines)
    assert "service: listening\\x1b[2J\\x1b]0;title\\x07one\n" in output
    assert not any(line.startswith("two") for line in output.splitlines())
