"""capserver/faults.py: what an option means, and that a seed strikes the same replies again."""

from argparse import ArgumentTypeError

import pytest

from capserver.faults import Fault, Faults


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("stall=1", Fault("stall", 1.0)),
        ("reset=0", Fault("reset", 0.0)),
        ("delay=0.5", Fault("delay", 0.5, 100.0)),
        ("delay=0.5:200", Fault("delay", 0.5, 200.0)),
        ("delay=0.5:200~50", Fault("delay", 0.5, 200.0, 50.0)),
        ("drip=.1:0", Fault("drip", 0.1, 0.0)),
    ],
)
def test_a_fault_is_kind_rate_and_detail(text: str, fault: Fault) -> None:
    assert Fault.parse(text) == fault


@pytest.mark.parametrize(
    "text",
    [
        *("", "stall", "=0.1", "sulk=0.1", "stall=", "stall=x", "stall=-0.1", "stall=1.1", "stall=nan", "stall=0.1:5"),
        *("delay=0.1:x", "delay=0.1:-5", "delay=0.1:5~6", "delay=0.1:5~x", "delay=0.1:inf"),
    ],
)
def test_a_wrong_fault_is_refused_with_its_text(text: str) -> None:
    with pytest.raises(ArgumentTypeError, match=r"is not KIND|:") as caught:
        Fault.parse(text)
    assert repr(text) in str(caught.value)


def drawn(seed: int, connection: int) -> list[str]:
    faults = Faults([Fault("stall", 0.3), Fault("refuse", 0.5), Fault("delay", 0.1, 100.0, 50.0)], seed, connection)
    return [faults.draw()[0] for _ in range(1000)]


def test_a_seed_strikes_the_same_replies_of_a_connection_again() -> None:
    assert drawn(1, 1) == drawn(1, 1)
    assert drawn(1, 1) != drawn(1, 2)
    assert drawn(1, 1) != drawn(2, 1)
    assert 250 < drawn(1, 1).count("stall") < 350
    assert 60 < drawn(1, 1).count("delay") < 140
    assert "refuse" not in drawn(1, 1)


def test_a_jitter_stays_within_its_bounds() -> None:
    faults = Faults([Fault("delay", 1.0, 100.0, 50.0)], 0, 0)
    seconds = [faults.draw()[1] for _ in range(1000)]
    assert 0.05 <= min(seconds) < 0.06
    assert 0.14 < max(seconds) <= 0.15
