"""locust_tcp/web/thresholds_tab.py: a word for each threshold, while the test runs and after it."""

from typing import Any

from locust_tcp.metrics.thresholds import BROKEN, KEPT, NOT_JUDGED, Finding
from locust_tcp.web.thresholds_tab import panel, rows
from tests.pages import Parsed

FINDINGS = [Finding(KEPT, "p95 <small>"), Finding(BROKEN, "goodput"), Finding(NOT_JUDGED, "p99")]


class Judged:
    """Stands for a Judge in a known state."""

    def __init__(self, findings: list[Finding], is_final: bool) -> None:
        self.state = lambda: (findings, is_final)


def words(findings: list[Finding], is_final: bool) -> tuple[list[str], list[str]]:
    """Return the words of the table, and those of the boxes."""
    judge: Any = Judged(findings, is_final)
    return [row["verdict"] for row in rows(judge)], Parsed(panel(judge)).texts["b"]


def test_a_verdict_is_final_after_the_test_only() -> None:
    table, boxes = words(FINDINGS, is_final=False)
    assert table == ["kept so far", "at risk", "not judged yet"]
    assert boxes == ["at risk", "not judged yet", "kept so far"], "the worst is not the first"
    table, boxes = words(FINDINGS, is_final=True)
    assert table == ["kept", "broken", "not judged"]
    assert boxes == ["broken", "not judged", "kept"]


def test_figures_are_only_texts_and_without_thresholds_the_tab_says_how_to_set_some() -> None:
    judge: Any = Judged(FINDINGS, True)
    assert "p95 <small>" in Parsed(panel(judge)).texts["small"]
    assert words([], is_final=False) == ([], ["none are set"])
