"""locust_tcp/metrics/network.py: which of the kernel's figures count, and what they are evidence of."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from locust_tcp.metrics.generator import ROOM, SATURATED, GeneratorStats, verdict, worst_verdict
from locust_tcp.metrics.network import (
    ACK_DELAY,
    LEAST_LOSSES,
    LOSS_LIMIT,
    LOSS_SHARE,
    MOST_READ,
    PATH_LIMIT,
    Paths,
    network_finding,
)


class MadeUp:
    """A connection with figures that are made up."""

    def __init__(self) -> None:
        self.on_close: Callable[[Any], None] | None = None
        self.figures: tuple[int, int, bool, float, float] | None = None
        self.reads = 0

    def path(self) -> tuple[int, int, bool, float, float] | None:
        self.reads += 1
        return self.figures

    def close(self) -> None:
        assert self.on_close
        self.on_close(self)


def read(*figures: tuple[int, int, bool] | None) -> GeneratorStats:
    """Return what is counted of a connection with these figures at its ticks, and at its end the last of them."""
    stats, connection = GeneratorStats(), MadeUp()
    paths = Paths(lambda: stats)
    paths.watch(connection)
    for at_tick in figures:
        connection.figures = (*at_tick, 0.002, 0.001) if at_tick else None
        paths.tick(50)
    connection.close()
    return stats


def test_what_was_sent_again_after_the_first_acknowledgement_is_the_networks() -> None:
    stats = read((10, 2, True), (30, 5, True), (40, 6, True))
    assert (stats.segments, stats.sent_again) == (30, 4)
    assert (stats.opened, stats.opened_again) == (1, 1)
    assert stats.round_trips == {2.0: 4}
    assert stats.shortest_trips == {1.0: 4}


def test_what_was_sent_again_before_it_may_also_be_the_services() -> None:
    stats = read((1, 0, False), (1, 1, False), (5, 4, False))  # it took no notice of the request
    assert (stats.segments, stats.sent_again, stats.opened, stats.opened_again) == (0, 0, 1, 1)
    stats = read((1, 0, False), (9, 4, True))
    assert (stats.segments, stats.sent_again, stats.opened, stats.opened_again) == (0, 0, 1, 1)


def test_a_kernel_that_says_nothing_is_no_evidence() -> None:
    assert read(None, None) == GeneratorStats()


def test_each_open_connection_is_read_about_once_a_second_and_few_in_one_tick() -> None:
    stats = GeneratorStats()
    paths = Paths(lambda: stats)
    connections = [MadeUp() for _ in range(120)]
    for connection in connections:
        paths.watch(connection)
    for _ in range(50):
        paths.tick(50)
    assert {connection.reads for connection in connections} == {1, 2}
    for _ in range(5000):
        paths.watch(MadeUp())
    before = sum(connection.reads for connection in connections)
    paths.tick(50)
    assert sum(connection.reads for connection in connections) - before <= MOST_READ
    for connection in connections:
        connection.close()
        connection.reads = 0
    for _ in range(1000):
        paths.tick(50)
    assert {connection.reads for connection in connections} == {0}, "closed connections are not read"


def lossy(sent_again: int, segments: int, exchanges: int) -> GeneratorStats:
    return GeneratorStats(sent_again=sent_again, segments=segments, exchanges=exchanges)


@pytest.mark.parametrize(
    ("stats", "finding"),
    [
        (lossy(LEAST_LOSSES, 100, 100), "The network loses packets: 10 % of the segments were sent again (10 of 100)"),
        (lossy(LEAST_LOSSES - 1, 100, 100), ""),
        (lossy(20, 2000, 2000), "The network loses packets: 1 %"),
        (lossy(20, 2000, round(21 / LOSS_LIMIT)), ""),
        (lossy(20, round(20 / LOSS_SHARE), 500), "The network loses packets: 0.1 %"),
        (lossy(20, round(21 / LOSS_SHARE), 500), ""),
        (lossy(20, 2000, 0), "The network loses packets: 1 %"),  # messages without replies
        (lossy(19, 2000, 0), ""),
        (GeneratorStats(opened=1000, opened_again=10), "The network loses packets, or the service's backlog"),
        (GeneratorStats(opened=1001, opened_again=10), ""),
        (GeneratorStats(opened=9, opened_again=9), ""),
        (GeneratorStats(shortest_trips=Counter({50.0: 1})), "The network is slow: a round trip takes 50 ms at the"),
        (GeneratorStats(shortest_trips=Counter({49.0: 1})), ""),
        (GeneratorStats(round_trips=Counter({ACK_DELAY + 49: 1})), ""),
        (GeneratorStats(round_trips=Counter({ACK_DELAY + 50: 1})), "The network is slow: a round trip takes 250 ms"),
        (GeneratorStats(), ""),
    ],
)
def test_each_finding_needs_its_evidence(stats: GeneratorStats, finding: str) -> None:
    said = network_finding(stats, 100.0)
    assert said.startswith(finding)
    assert bool(said) == bool(finding)


def test_round_trips_below_a_millisecond_are_never_the_reason() -> None:
    quick = GeneratorStats(shortest_trips=Counter({PATH_LIMIT - 0.01: 1}))
    assert network_finding(quick, 0.1) == ""
    assert network_finding(GeneratorStats(shortest_trips=Counter({50.0: 1})), 0.0) == "", "there were no replies"


def test_the_verdict_names_the_network_instead_of_the_service() -> None:
    stats = lossy(20, 200, 100)
    stats.cpu, stats.seconds, stats.users = 1.0, 100.0, 1
    stats.lags[0.1] += 100
    judged = verdict(stats, 50.0)
    assert judged.level == ROOM
    assert judged.network.startswith("The network loses packets")
    assert judged.text.endswith(judged.network)
    assert "the service's" not in judged.text
    stats.cpu = 99.0
    judged = verdict(stats, 50.0)
    assert judged.level == SATURATED
    assert "Add workers" in judged.text
    assert judged.text.endswith(judged.network)


def test_the_worker_with_a_bad_network_is_named() -> None:
    good = GeneratorStats(seconds=1.0, users=1, lags=Counter({0.1: 100}))
    bad = GeneratorStats(seconds=1.0, users=1, lags=Counter({0.1: 100}), sent_again=20, segments=200)
    worst = worst_verdict({"worker 0": good, "worker 1": bad}, 50.0)
    assert worst.text.startswith("worker 1: Locust has room")
    assert worst.network
