"""The master's wait for the last reports of its workers.

Locust gives the workers half a second. Users may take as long as `--stop-timeout` says.
"""

import logging
import time
from typing import Any

import gevent
from locust.rpc import Message
from locust.runners import STATE_MISSING, MasterRunner

from locust_tcp.patches.guard import Patch

logger = logging.getLogger("locust.runners")  # where Locust's own function logs

LAST_REPORTS = 10.0  # seconds for the reports after the last user has stopped: milliseconds, but on a busy machine

_quitting: set[MasterRunner] = set()


def _quit(self: MasterRunner) -> None:
    if self in _quitting:  # the last worker to leave makes the master quit again
        return
    _quitting.add(self)
    self.stop(send_stop_to_client=False)
    logger.debug("Quitting...")
    waiting = {client.id for client in self.clients.all}

    def report(client_id: str, data: dict[str, Any], **_: Any) -> None:
        if not data.get("user_count"):  # no user of this worker can make another request
            waiting.discard(client_id)

    self.environment.events.worker_report.add_listener(report)
    for client in self.clients.all:
        logger.debug(f"Sending quit message to worker {client.id} (index {self.get_worker_index(client.id)})")
        self.server.send_to_client(Message("quit", None, client.id))
    end = time.monotonic() + (self.environment.stop_timeout or 0) + LAST_REPORTS
    while time.monotonic() < end and waiting & {
        client.id for client in self.clients.all if client.state != STATE_MISSING
    }:
        gevent.sleep(0.01)
    self.greenlet.kill(block=True)


PATCH = Patch(
    lost="the last reports of workers whose users take more than half a second to stop",
    tested={
        "locust.runners:MasterRunner.quit": {"69367e86ece08076"},
        "locust.runners:WorkerRunner.__init__.on_report_to_master": {"15e296fb11c15609"},
        "locust.runners:WorkerRunner._send_stats": {"edb2bc9d1bd5847f"},
    },
    replacements={"locust.runners:MasterRunner.quit": _quit},
)
