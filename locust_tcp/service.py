"""Start the service under test together with a load test, where it is not running yet."""

import errno
import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import gevent
from gevent import subprocess
from gevent.lock import BoundedSemaphore
from locust import events
from locust.env import Environment
from locust.runners import WorkerRunner

from locust_tcp.transport.connection import Connection
from locust_tcp.transport.endpoint import Endpoint
from locust_tcp.transport.errors import TcpError
from locust_tcp.web.form import Refusal, bind_error, is_running, on_start

logger = logging.getLogger(__name__)

PROBE_TIMEOUT = 2.0  # seconds to find out whether a service listens
PROBE_INTERVAL = 0.05  # seconds between two looks at whether a started service listens
START_TIMEOUT = 10.0  # seconds for a started service to listen: a slow one still gets a test, of failed connects
HELD = 65.0  # seconds to wait for a port; after its end a connection keeps its own for 60 (TIME_WAIT in Linux's tcp.h)
TRY_AGAIN = 1.0  # seconds between two looks at such a port
STOP_TIMEOUT = 10.0  # seconds for the service to end before it is killed


def start_service(host: str, command: Sequence[str], directory: Path) -> None:
    """Run a command whenever a test needs a service and none listens. For locustfiles.

    It is not run with `--host`, with another value in the Host field, or on a worker. Locust's log
    says what was done, and contains the service's own lines.

    Args:
        host: The users' address where no other one is given, as scheme://name:port.
        command: Starts the service. It ends when its standard input does: so it ends with Locust,
            however Locust ends.
        directory: The folder to run it in.
    """
    service = _Service(host, command, directory)

    @events.init.add_listener
    def init(environment: Environment, **_: Any) -> None:
        if environment.host or isinstance(environment.runner, WorkerRunner):
            return
        on_start(environment, lambda host: None if is_running(environment) else service.ready(host))
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
        self._last_error = ""  # the last line that the process has written to standard error
        self._held_since: float | None = None
        self._starting = BoundedSemaphore(1)

    def start(self, environment: Environment, **_: Any) -> None:
        """Start the service unless it runs already. A listener of test_start."""
        logged = ""
        try:
            while (refusal := self.ready(environment.host)) and refusal.is_brief:
                if refusal.message != logged:
                    logger.warning("%s", refusal.message)
                logged = refusal.message
                gevent.sleep(TRY_AGAIN)
        except gevent.GreenletExit:  # Stop, or the end of the run's time
            logger.error("Test called off before it began: its service was not started")
            self._fail(environment)
            raise
        if refusal:
            logger.error("Test called off: %s", refusal.message)
            self._call_off(environment)
        elif self._is_needed(environment.host) and not self._is_running():
            logger.info("Using the service that listens on %s already", self._host)

    def _is_needed(self, host: str | None) -> bool:
        return not host or host == self._host

    def _is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def ready(self, host: str | None) -> Refusal | None:
        """Start the service if a test with this host needs it and none listens; return why that failed."""
        with self._starting:  # Start may be pressed twice
            if not self._is_needed(host) or self._is_running() or self._listening():
                return None
            return self._held() or self._run()

    def _held(self) -> Refusal | None:
        """Return a refusal if the port can't be listened on although nothing listens there."""
        try:
            is_held = any(
                getattr(bind_error(*each), "errno", 0) == errno.EADDRINUSE for each in self._endpoint().addresses()
            )
        except OSError:  # no such name
            is_held = False
        if not is_held:
            self._held_since = None
            return None
        now = time.monotonic()
        self._held_since = self._held_since or now
        text = f"No service listens on {self._host}, and its port is in use"
        if now - self._held_since < HELD:
            why = "as for a minute after the end of a connection"
            return Refusal(f"{text}, {why}. Trying again until it is free.", is_brief=True)
        self._held_since = None
        return Refusal(
            f"{text} by another program (ss -tanp names it). End that, or start the service on another port yourself "
            "and give its address as the host."
        )

    def _run(self) -> Refusal | None:
        """Run the command, and wait until the service listens."""
        try:
            process = self._process = subprocess.Popen(
                self._command,
                cwd=self._directory,
                stdin=subprocess.PIPE,  # nothing is written to it: it ends when Locust does
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                errors="backslashreplace",  # not all services write UTF-8
                start_new_session=True,  # Ctrl-C stops Locust, whose users still need the service then
            )
        except OSError as error:
            return Refusal(f"No service listens on {self._host}, and it can't be started: {error}")
        self._last_error = ""
        errors = gevent.spawn(self._log_errors, process)
        self._reader = gevent.spawn(self._log, process)
        end = time.monotonic() + START_TIMEOUT
        while not self._listening():
            if process.poll() is not None:
                gevent.joinall([errors, self._reader], STOP_TIMEOUT)  # for the last line
                why = self._last_error or f"it has ended with exit code {process.poll()}"
                return Refusal(f"The service on {self._host} did not start: {why}")
            if time.monotonic() >= end:
                logger.warning("The service does not listen on %s yet; starting the test all the same", self._host)
                return None
            gevent.sleep(PROBE_INTERVAL)
        logger.info("No service listened on %s: started it; it ends with Locust", self._host)
        return None

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
        headless = _Service._fail(environment)
        gevent.spawn(environment.runner.quit if headless else environment.runner.stop)

    @staticmethod
    def _fail(environment: Environment) -> bool:
        """Have a headless run end with exit code 1; return whether it is one."""
        headless = bool(environment.parsed_options and environment.parsed_options.headless)
        if headless:
            environment.process_exit_code = 1
        return headless

    def _endpoint(self) -> Endpoint:
        parts = urlsplit(self._host)
        return Endpoint(parts.hostname or "", parts.port or 0)

    def _listening(self) -> bool:
        """Return whether a service listens already."""
        try:
            Connection.open(self._endpoint(), PROBE_TIMEOUT, max_reply=0).close()
        except TcpError:
            return False
        return True

    def _log(self, process: "subprocess.Popen[str]") -> None:
        """Copy the service's lines to the log until it ends."""
        for line in process.stdout or ():
            logger.info("%s", line.rstrip())
        if not self._stopping:
            logger.error("The service on %s has ended by itself, with exit code %s", self._host, process.wait())

    def _log_errors(self, process: "subprocess.Popen[str]") -> None:
        """Copy what the service writes to standard error to the log, as errors."""
        for line in process.stderr or ():
            self._last_error = line.rstrip()
            logger.error("%s", self._last_error)
