"""Changes of Locust itself. Each is applied only to the releases that it was tested with."""

import functools
import logging
from typing import Any

import locust

from locust_tcp.patches import (
    console,
    csv_files,
    histograms,
    master,
    orphans,
    page,
    reports,
    request_event,
    rows,
    task_set,
    worker_reports,
)

logger = logging.getLogger(__name__)

PATCHES = (  # each after those that it requires
    histograms.PATCH,
    rows.TABLES,
    rows.CHARTS,
    console.PATCH,
    csv_files.PERCENTILES,
    csv_files.TIMES,
    csv_files.LAST_ROWS,
    reports.JSON,
    reports.HTML,
    page.PATCH,
    master.PATCH,
    worker_reports.PATCH,
    orphans.PATCH,
    request_event.PATCH,
    task_set.PATCH,
)


@functools.cache  # once: a patched Locust differs from every release
def apply_all() -> None:
    """Apply each patch that fits the installed Locust."""
    for patch in PATCHES:
        patch.check()
    for patch in PATCHES:
        patch.apply()


def warn_of_lost(**_: Any) -> None:
    """Log one warning that names what is lost with the installed Locust. Listens to Locust's `init` event."""
    lost = [patch.lost for patch in PATCHES if not patch.applied]
    differing = sorted({name for patch in PATCHES for name in patch.differing})
    if lost:
        logger.warning(
            "Locust %s differs from the releases that this kit was tested with. Lost: %s. Changed functions: %s",
            locust.__version__,
            "; ".join(lost),
            ", ".join(differing),
        )
