"""locust_tcp/compare/verdict.py: the sentence on each variant names only what is worth believing."""

import pytest

from locust_tcp.compare.comparison import USUAL, Variant
from locust_tcp.compare.runs import TOTAL, Entry, Run
from locust_tcp.compare.verdict import verdicts

SPREAD = (1.0, 1.01, 0.99)  # of the runs of a variant
FEW = "Too few samples to tell whether B is better or worse than A."
CHANCE = "B is neither better nor worse than A by more than chance explains."


def variant(
    name: str, time: float = 1.0, rate: float = 100.0, failures: int = 0, connects: float = 0.0, runs: int = 3
) -> Variant:
    """Return a variant of some runs with the rows `word`, perhaps `connect`, and the total."""
    found = []
    for factor in SPREAD[:runs]:
        entries = {"TCP word": Entry(1000, failures, rate * factor, dict.fromkeys(USUAL, time * factor))}
        if connects:
            entries["TCP connect"] = Entry(1000, 0, connects * factor, {})
        total = sum(entry.rate for entry in entries.values())
        found.append(Run(name, {**entries, TOTAL: Entry(2000, failures, total, {})}, []))
    return Variant(name, found)


@pytest.mark.parametrize(
    ("base", "other", "sentence", "kind"),
    [
        pytest.param({}, {"time": 2.1}, "B is slower than A: p50 of TCP word 2.1 x.", "worse", id="slower"),
        pytest.param({}, {"time": 0.5}, "B is faster than A: p50 of TCP word 0.5 x.", "better", id="faster"),
        pytest.param(
            *({}, {"time": 2.1, "rate": 70.0}),
            *("B is slower than A: p50 of TCP word 2.1 x, req/s of TCP word 0.7 x.", "worse"),
            id="the largest first",
        ),
        pytest.param(
            *({}, {"time": 2.0, "rate": 150.0}),
            *("B is slower than A: p50 of TCP word 2 x; but faster: req/s of TCP word 1.5 x.", ""),
            id="both",
        ),
        pytest.param(
            *({}, {"failures": 12}),
            *("B is worse than A: failures of TCP word 12 instead of 0 a run.", "worse"),
            id="failures where there were none",
        ),
        pytest.param(
            *({"failures": 12}, {}),
            *("B is better than A: failures of TCP word 0 instead of 12 a run.", "better"),
            id="no failures any more",
        ),
        pytest.param(
            *({"time": 0.0}, {"time": 3.0}),
            *("B is slower than A: p50 of TCP word 3 instead of 0.", "worse"),
            id="times that Locust rounded to 0",
        ),
        pytest.param(
            *({"failures": 1}, {"failures": 900, "rate": 200.0}),
            *("B is worse than A: failures of TCP word 900 instead of 1 a run.", "worse"),
            id="more requests of which more fail are no better",
        ),
        pytest.param({}, {}, CHANCE, "", id="equal"),
        pytest.param({}, {"time": 1.005}, CHANCE, "", id="noise"),
        pytest.param({"connects": 1.0}, {"connects": 90.0}, CHANCE, "", id="more connects are no better"),
        pytest.param({"runs": 2}, {"runs": 2, "time": 9.0}, FEW, "", id="two runs"),
    ],
)
def test_a_sentence(base: dict[str, float], other: dict[str, float], sentence: str, kind: str) -> None:
    (found,) = verdicts([variant("A", **base), variant("B", **other)])  # type: ignore[arg-type]
    assert (found.sentence, found.kind) == (sentence, kind)


def test_the_sentence_counts_what_is_worth_believing() -> None:
    (found,) = verdicts([variant("A"), variant("B", time=2.0)])
    assert found.detail == "Worth believing: 3 of 3 differences (by chance alone: 1 in 20).", (
        "the percentiles: the rest is equal, and a maximum is not tested"
    )


def test_each_variant_has_a_sentence_of_its_own() -> None:
    found = verdicts([variant("A"), variant("B", time=2.0), variant("C", time=0.5), variant("D")])
    assert [each.sentence.split(" than ")[0] for each in found] == [
        *("B is slower", "C is faster", "D is neither better nor worse"),
    ]
