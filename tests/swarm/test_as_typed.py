"""The documents' commands and code, as they stand: a newcomer who types them gets what the documents show."""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests import hosts, kit, peers

# What is not typed, and why.
LEFT_OUT = {
    r".*env/bin/pytest": "this is one of its tests",
    r"python3 -m venv env": "the folder has an environment",
    r"sudo .*|git clone .*|cd kit|.*<where .*|.* && .* --worker .*|.* -f -": "another machine's",
    r".*examples/NAME\.py": "no name of a file; tests/examples has all of them",
}
INSTALL = "python3 -m venv env && "  # is taken off: the folder has an environment
ADDRESSES = ("10.0.0.1", "10.0.0.2")  # of the machines in docs/workers.md: all of them are this one
PATIENCE = 90.0  # seconds for a command

# The environment's `locust`. Loads are shortened as this says, and by nothing else: a run is a second long, one that
# has a page starts and ends by itself, and no mercy has one step.
LOCUST = f"""#!/bin/bash
case " $* " in
    *" --worker "* | *" --max-p95 "*) ;;  # a worker ends with its master; a percentile needs its requests
    *" --headless "*) set -- "$@" --run-time 1s ;;
    *nomercy.py*) set -- "$@" --autostart --autoquit 0 --max-users 1 --step-time 2 --settle-time 1 ;;
    *" --master "*) ;;  # waits for its workers
    *) set -- "$@" --autostart --autoquit 0 --users 2 --spawn-rate 2 --run-time 1s ;;
esac
exec {kit.LOCUST} "$@"
"""
PYTHON = f'#!/bin/bash\nexec {sys.executable} "$@"\n'
ACTIVATE = 'export PATH="$PWD/env/bin:$PATH"\n'  # Python's own would put the original `locust` first

# What locustfiles that the documents have the reader write expect on port 12345
SERVICE = """
import socketserver

class Service(socketserver.StreamRequestHandler):
    def handle(self):
        for line in self.rfile:
            self.wfile.write({b"PING\\n": b"PONG\\n", b"DATE\\n": b"2026-11-23\\n"}[line])

socketserver.ThreadingTCPServer.allow_reuse_address = True
with socketserver.ThreadingTCPServer(("127.0.0.1", 12345), Service) as server:
    print("listens", flush=True)
    server.serve_forever()
"""


class Step(NamedTuple):
    """A command and the output that the document shows, or a file that it has the reader save."""

    command: str
    output: tuple[str, ...] = ()
    file: str = ""


def steps(document: Path) -> list[Step]:
    """Return the steps of a document that are typed."""
    return [
        step._replace(command=step.command.removeprefix(INSTALL))
        for step in _all_steps(document)
        if not any(re.fullmatch(each, step.command) for each in LEFT_OUT)
    ]


def _all_steps(document: Path) -> Iterator[Step]:
    """Yield the files that a document has the reader save, and its commands: in blocks or in sentences."""
    text = document.read_text()
    for name, code in re.findall(r"Save this as `(\w+\.py)`.*?^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
        yield Step("", (code,), name)
    lines = iter(re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE).splitlines())
    command, output = "", []
    for line in lines:
        typed = re.fullmatch(r" {4,}(?:\(env\) )?\$ (.*)", line) or re.fullmatch(r" {4}((?:env/bin/|python3 ).*)", line)
        if command and not typed and line.startswith("    "):
            output.append(line.strip())
            continue
        if command:
            yield Step(command, tuple(output))
        command, output = "", []
        if typed:
            command = typed[1]
            while command.endswith("\\"):
                command = command[:-1] + next(lines).strip()
        else:
            yield from (Step(each) for each in re.findall(r"`((?:env/bin/)?(?:locust|python3?) -[^`]+)`", line))
    if command:
        yield Step(command, tuple(output))


DOCUMENTS = [
    path for path in (kit.KIT / "README.md", kit.KIT / "PRIMER.md", *(kit.KIT / "docs").glob("*.md")) if steps(path)
]


def pattern(line: str) -> str:
    """Return a regular expression for a line that is shown: dots and numbers stand for others."""
    literal = re.escape(line.replace("[...]", "...")).replace(re.escape("..."), ".*")
    return re.sub(r"\d[\d.,]*\d|\d", r"[\\d.,]+", literal.replace(r"\.", "."))


class Terminal:
    """A folder of the kit on a machine of its own, in which commands are typed."""

    def __init__(self, host: hosts.Host, folder: Path, stack: contextlib.ExitStack) -> None:
        self._host, self._folder, self._stack = host, folder, stack
        self._running: dict[str, tuple[kit.Program, bool]] = {}  # and whether it ends by itself
        self._count = 0
        self.code = 0  # of the last command

    def start(self, command: str) -> kit.Program:
        """Start a command."""
        self._count += 1
        output = self._folder.parent / f"output {self._count}"
        path = {"PATH": f"{self._folder}/env/bin:{os.environ['PATH']}", "PIP_NO_INDEX": "1"}
        return self._stack.enter_context(
            kit.program(
                *(*self._host.here, "bash", "-c", command),
                output=output,
                cwd=self._folder,
                environment=os.environ | path,
            )
        )

    def type(self, step: Step) -> None:
        """Type a command, and expect what is shown. A server and a master go on until another one is typed."""
        kind = "server" if "capserver" in step.command else "master" if "locust" in step.command else ""
        if kind and "--worker" not in step.command:
            self.end(kind)
        if step.command == "echo $?":
            assert step.output == (str(self.code),)
            return
        program = self.start(step.command)
        if kind == "server" or "--master " in step.command:
            is_headless = "--headless" in step.command
            self._running[kind] = program, is_headless
            program.says("Starting Locust" if is_headless else "listening on|Starting web interface")
            if kind == "master" and not is_headless:
                kit.eventually(self._has_page)
        else:
            kit.eventually(lambda: program.process.poll() is not None, PATIENCE)
            self.code = program.ends()
            fails = "baby" in step.command or "sample" in step.command  # on purpose
            assert self.code == fails, f"{step.command}\n{program.output}"
        assert "Traceback" not in program.output
        seen = 0
        for line in step.output:
            found = re.compile(pattern(line)).search(program.output, seen)
            assert found, f"{line!r} is not in the output of {step.command}:\n{program.output}"
            seen = found.end()

    def _has_page(self) -> bool:
        with contextlib.suppress(OSError), self._host.socket() as sock:
            sock.connect(("127.0.0.1", 8089))
            return True
        return False

    def end(self, kind: str) -> None:
        """End a server or a master by Ctrl-C, or wait for a master that ends by itself."""
        if kind in self._running:
            program, ends = self._running.pop(kind)
            assert (program.ends() if ends else program.stop(signal.SIGINT)) == 0, program.output


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    """A terminal in a copy of the kit, with ports and addresses of its own."""
    folder = tmp_path / "kit"
    shutil.copytree(kit.KIT, folder, ignore=shutil.ignore_patterns("env", "env-*", ".git", "__pycache__", ".*_cache"))
    binaries = folder / "env" / "bin"
    binaries.mkdir(parents=True)
    for program in kit.LOCUST.parent.iterdir():
        (binaries / program.name).symlink_to(program)
    for name, text in {"locust": LOCUST, "python": PYTHON, "python3": PYTHON, "activate": ACTIVATE}.items():
        (binaries / name).unlink(missing_ok=True)
        (binaries / name).write_text(text)
        (binaries / name).chmod(0o755)
    with contextlib.ExitStack() as stack:
        try:
            (host,) = stack.enter_context(hosts.network(1))
        except hosts.NotAllowed as error:
            pytest.skip(str(error))
        for address in ADDRESSES:
            subprocess.run([*host.here, "ip", "address", "add", f"{address}/32", "dev", "lo"], check=True)
        found = Terminal(host, folder, stack)
        (tmp_path / "service.py").write_text(SERVICE)
        found.start(f"exec python {tmp_path}/service.py").says("listens")
        subprocess.run(["git", "init", "--quiet"], cwd=folder, check=True)
        subprocess.run(["git", "add", "."], cwd=folder, check=True)
        yield found


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.stem)
def test_a_document_works_as_typed(terminal: Terminal, document: Path, tmp_path: Path) -> None:
    saved = []
    for step in steps(document):
        if step.file:
            (tmp_path / "kit" / step.file).write_text(step.output[0])
            saved.append(f"?? {step.file}")
        else:
            terminal.type(step)
    for kind in ("master", "server"):
        terminal.end(kind)
    status = subprocess.run(
        ["git", "status", "--porcelain"], cwd=tmp_path / "kit", check=True, capture_output=True, text=True
    )
    left = [line for line in status.stdout.splitlines() if not line.startswith("A ")]
    assert left == saved, ".gitignore does not cover what the commands leave"


def test_the_comments_of_the_sample_are_a_load_test_when_they_are_filled_in(tmp_path: Path) -> None:
    # As its comments say: each of them instead of the two lines below it.
    filled, count = re.subn(
        r"    # FILL IN .*\n((?:    #     .*\n)+)(?:.*\n){2}",
        lambda match: re.sub(r"^    #     ", "    ", match[1], flags=re.MULTILINE),
        (kit.KIT / "locustfile-sample.py").read_text(),
    )
    assert count == 2
    (tmp_path / "filled.py").write_text(filled)
    with kit.server(output=tmp_path / "server") as server:
        swarm = ("--headless", "--users", "2", "--spawn-rate", "2", "--run-time", "3s", "--host", server.host)
        with kit.program(kit.LOCUST, "-f", tmp_path / "filled.py", *swarm, output=tmp_path / "log") as locust:
            assert locust.ends() == 0, locust.output
        lines, connections, errors = server.totals()
    assert lines >= connections == 2, "it goes to the host that is named, and each user connects once"
    assert errors == 0


# What the fragments of docs/conversations.md take for granted: their service, and names that they use.
AROUND_CONVERSATIONS = """
import time
from locust import constant, task
from locust_tcp import TcpUser

TcpUser.wait_time, TcpUser.host = constant(0.2), "tcp://127.0.0.1:{port}"

def is_250(reply):
    return reply.startswith("250")

def lines(connection):
    return connection.read_until(b"\\n").decode()

message, published_at = lines, (lambda pushed: time.time())
"""


def conversing(greeting: bytes) -> peers.Behaviour:
    """Greet, answer each line, and push a message after the reply to a subscription."""

    def behave(sock: socket.socket) -> None:
        sock.sendall(greeting)
        with sock.makefile("rb") as requests:
            for line in requests:
                reply = {b"GET a\n": b"1\n", b"GET b\n": b"2\n", b"temperature 21\n": b""}.get(line, b"250 yes\n")
                sock.sendall(reply)
                if line.startswith(b"SUBSCRIBE"):
                    sock.sendall(b"news\n")

    return behave


def fragments() -> list[str]:
    """Return the pieces of code of docs/conversations.md, each as a user class with a task."""
    text = (kit.KIT / "docs" / "conversations.md").read_text()
    found = []
    for block in re.findall(r"^```python\n(.*?)^```$|^    (self\.[^\n]*)$", text, re.DOTALL | re.MULTILINE):
        code = "".join(block)
        if not code.startswith("class "):
            code = f"class Fragment(TcpUser):\n    @task\n    def it(self):\n{textwrap.indent(code, 8 * ' ')}\n"
        if "@task" not in code:
            code += '\n    @task\n    def it(self):\n        self.client.request("NOOP", name="NOOP", expect=is_250)\n'
        found.append(code)
    return found


@pytest.mark.parametrize("code", fragments(), ids=lambda code: re.findall(r"client\.(\w+)", code)[0])
def test_a_piece_of_code_about_conversations_works_as_it_stands(tmp_path: Path, code: str) -> None:
    with peers.peer(conversing(b"220 hello\n" if "greeting" in code else b"")) as port:
        (tmp_path / "piece.py").write_text(AROUND_CONVERSATIONS.replace("{port}", str(port)) + code)
        swarm = ("--headless", "--users", "1", "--run-time", "2s", "--csv", f"{tmp_path}/run")
        with kit.program(kit.LOCUST, "-f", tmp_path / "piece.py", *swarm, output=tmp_path / "log") as locust:
            assert locust.ends() == 0, locust.output
    rows = {row["Name"]: int(row["Request Count"]) for row in kit.rows(tmp_path / "run_stats.csv")}
    named = {*re.findall(r'name="(.*?)"|transaction\("(.*?)"', code)}
    assert {"".join(names) for names in named} <= rows.keys()
    assert min(rows.values()) > 0
    assert "Traceback" not in locust.output
