"""The Thresholds tab: each threshold's figure and bound, while the test runs and after it."""

from typing import Any

from locust.env import Environment

from locust_tcp.metrics.thresholds import BROKEN, KEPT, NOT_JUDGED, Judge
from locust_tcp.web.report import Report, heading
from locust_tcp.web.tabs import add_tab, card, cards

COLUMNS = {"verdict": "Verdict", "text": "Figure and bound"}
FINAL = {KEPT: "kept", BROKEN: "broken", NOT_JUDGED: "not judged"}
SO_FAR = {KEPT: "kept so far", BROKEN: "at risk", NOT_JUDGED: "not judged yet"}
KINDS = {KEPT: "good", BROKEN: "bad", NOT_JUDGED: "warn"}
NONE = card(
    "Thresholds",
    "none are set",
    "Set some in the start form, under Custom parameters, or on the command line: --max-p95 5",
)


def rows(judge: Judge) -> list[dict[str, Any]]:
    """Return a row of COLUMNS for each threshold."""
    findings, is_final = judge.state()
    words = FINAL if is_final else SO_FAR
    return [{"verdict": words[finding.code], "text": finding.text} for finding in findings]


def panel(judge: Judge) -> str:
    """Return a box for each threshold, the broken ones first."""
    findings, is_final = judge.state()
    words = FINAL if is_final else SO_FAR
    worst = sorted(findings, key=lambda finding: (BROKEN, NOT_JUDGED, KEPT).index(finding.code))
    boxes = [card("Threshold", words[each.code], each.text, KINDS[each.code]) for each in worst]
    return cards(boxes or [NONE])


def add(environment: Environment, judge: Judge) -> None:
    """Add the tab, and the thresholds to the report where there are any."""
    Report.of(environment).parts.append(lambda: heading("Thresholds") + panel(judge) if judge.state()[0] else "")
    add_tab(
        environment,
        "thresholds",
        "Thresholds",
        COLUMNS,
        rows=lambda: rows(judge),
        panel=lambda: panel(judge),
    )
