"""To add to a locustfile: the largest report of a worker to its master, as it is sent, goes to the file REPORT too."""

import copy
import os
from pathlib import Path
from typing import Any

from locust import events
from locust.env import Environment
from locust.rpc import Message
from locust.runners import WorkerRunner

from locust_tcp.patches.worker_reports import pack_histograms


@events.init.add_listener
def keep_reports(environment: Environment, **_: Any) -> None:
    """Listen last, when all the others have added theirs to the report."""

    largest = b""

    def keep(client_id: str, data: dict[str, Any], **_: Any) -> None:
        nonlocal largest
        packed = copy.deepcopy(data)
        pack_histograms(data=packed)  # as happens after this listener
        largest = max(largest, Message("stats", packed, client_id).serialize(), key=len)
        Path(os.environ["REPORT"]).write_bytes(largest)

    if isinstance(environment.runner, WorkerRunner):
        environment.events.report_to_master.add_listener(keep)
