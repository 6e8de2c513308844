"""Start the service under test together with a load test, where it is not running yet."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import gevent
import gevent.event
from gevent import subprocess
from locust import events
from locust.env import Environment
from locust.runners import WorkerRunner

from locust_tcp.transport.connection import Connection
from locust_tcp.transport.endpoint import Endpoint
from locust_tcp.transport.errors import TcpError

logger = logging.getLogger(__name__)

PROBE_TIMEOUT = 2.0  # seconds to find out whether a service listens
START_TIMEOUT = 10.0  # seconds for the service to print its first line
STOP_TIMEOUT = 10.0  # seconds for the service to end before it is killed


def start_service(host: str, command: Sequence[str], directory: Path) -> None:
    """Run a command whenever a test needs a service and none listens. For locustfiles.

    It is not run with `--host`, with another value in the Host field, or on a worker. Locust's log
    says what was done, and contains the service's own lines.

    Args:
        host: The users' address where no other one is given, as scheme://name:port.
        command: Starts the service. It prints a line once it listens, and ends when its standard
            input does: so it ends with Locust, however Locust ends.
        directory: The folder to run it in.
    """
    service = _Service(host, command, directory)

    @events.init.add_listener
    def init(environment: Environment, **_: Any) -> None:
        if environment.host or isinstance(environment.runner, WorkerRunner):
            return
        environment.events.test_start.add_listener(service.start)
        environment.events.quit.add_listener(service.stop)


class _Service:
    """The service under test, and its process where it was started here."""

    def __init__(self, host: str, command: Sequence[str], directory: Path) -> None:
        self._host = host
        self._command = command
        self._directory = directory
        self._process: subprocess.Popen[str] | None = None
        self._reader: gevent.Greenlet[..., None] | None = None
        self._stopping = False

    def start(self, environment: Environment, **_: Any) -> None:
        """Start the service unless it runs already. A listener of test_start."""
        if environment.host and environment.host != self._host:
            return
        if self._process and self._process.poll() is None:
            return
        if self._listening():
            logger.info("Using the service that listens on %s already", self._host)
            return
        self._process = subprocess.Popen(
            self._command,
            cwd=self._directory,
            stdin=subprocess.PIPE,  # nothing is written to it: it ends when Locust does
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Ctrl-C stops Locust, whose users still need the service then
        )
        logger.info("No service listens on %s: started it; it ends with Locust", self._host)
        listening = gevent.event.Event()
        gevent.spawn(self._log_errors, self._process)
        self._reader = gevent.spawn(self._log, self._process, listening)
        either: list[Any] = [listening, self._reader]
        if not gevent.wait(either, START_TIMEOUT, count=1):
            logger.warning("The service has not printed that it listens; starting the test all the same")
        elif not listening.is_set():
            self._call_off(environment)

    def stop(self, **_: Any) -> None:
        """Stop the service where it was started here. A listener of quit."""
        if self._process is None or self._process.stdin is None or self._reader is None:
            return
        self._stopping = True
        self._process.stdin.close()
        self._reader.join(STOP_TIMEOUT)
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()

    @staticmethod
    def _call_off(environment: Environment) -> None:
        """End a test that has no service, in another greenlet: this one is about to spawn users."""
        assert environment.runner is not None
        headless = environment.parsed_options and environment.parsed_options.headless
        if headless:
            environment.process_exit_code = 1
        gevent.spawn(environment.runner.quit if headless else environment.runner.stop)

    def _listening(self) -> bool:
        """Return whether a service listens already."""
        parts = urlsplit(self._host)
        endpoint = Endpoint(parts.hostname or "", parts.port or 0)
        try:
            Connection.open(endpoint, PROBE_TIMEOUT, max_reply=0).close()
        except TcpError:
            return False
        return True

    def _log(self, process: "subprocess.Popen[str]", listening: gevent.event.Event) -> None:
        """Copy the service's lines to the log until it ends."""
        for line in process.stdout or ():
            logger.info("%s", line.rstrip())
            listening.set()
        if not self._stopping:
            logger.error("The service on %s has ended by itself, with exit code %s", self._host, process.wait())

    @staticmethod
    def _log_errors(process: "subprocess.Popen[str]") -> None:
        """Copy what the service writes to standard error to the log, as errors."""
        for line in process.stderr or ():
            logger.error("%s", line.rstrip())
