"""locust_tcp/metrics/generator.py: the figures of a process, and the rule of the verdict."""

from collections import Counter
from dataclasses import replace

import pytest
from locust.env import Environment

from locust_tcp.metrics.generator import (
    BUSY,
    CPU_BUSY,
    CPU_LIMIT,
    LAG_LIMIT,
    MIN_LAGS,
    ROOM,
    SATURATED,
    UNKNOWN,
    GeneratorStats,
    LoadGenerator,
    Verdict,
    is_generator_bound,
    verdict,
)
from locust_tcp.metrics.snapshot import Interval


def figures(lag: float, cpu: float, *, kernel: bool = True) -> GeneratorStats:
    """Return figures of a process all of whose replies waited `lag` milliseconds."""
    stats = GeneratorStats(cpu=cpu, seconds=100.0, users=1)
    stats.observe([lag / 1000 if kernel else None] * 100)
    stats.ticks[lag] += 100
    return stats


@pytest.mark.parametrize("kernel", [True, False], ids=["arrival times", "timer"])
@pytest.mark.parametrize(
    ("lag", "service", "cpu", "level"),
    [
        # a slow service under an idle Locust, a fast one under a saturated Locust
        (0.2, 50.0, 5.0, ROOM),
        (4.7, 0.25, 99.0, SATURATED),
        # both sides of each bound
        (0.1, 0.05, CPU_LIMIT, SATURATED),
        (0.1, 0.05, CPU_LIMIT - 0.1, BUSY),
        (0.1, 0.05, CPU_BUSY, BUSY),
        (0.1, 0.05, CPU_BUSY - 0.1, ROOM),
        (LAG_LIMIT, 0.5, 50.0, SATURATED),
        (LAG_LIMIT - 0.01, 0.5, 50.0, ROOM),
        (5.0, 5.0, 50.0, SATURATED),
        (5.0, 5.1, 50.0, BUSY),
    ],
)
def test_the_verdict_says_whose_limit_is_near(lag: float, service: float, cpu: float, level: int, kernel: bool) -> None:
    # Without arrival times the lag is part of the response time.
    stats = figures(lag, cpu, kernel=kernel)
    assert verdict(stats, service if kernel else service + lag).level == level


def test_the_verdict_names_its_evidence_and_what_to_do() -> None:
    text = verdict(figures(4.7, 99.0), 0.25).text
    assert text.startswith(
        "Locust is saturated: replies wait 4.7 ms (p95) for Locust, the service takes 0.25 ms; CPU 99 %"
    )
    assert "Add workers: --processes 2" in text
    assert "the response times contain the wait" in verdict(figures(4.7, 99.0, kernel=False), 5.0).text


@pytest.mark.parametrize("service", [0.25, 50.0], ids=["saturated", "busy"])
def test_a_process_with_cpu_to_spare_needs_no_workers_and_no_cause_without_evidence(service: float) -> None:
    held_up = verdict(figures(4.7, 2.0), service)
    assert held_up.level == (SATURATED if service < 1 else BUSY)
    assert "Locust has CPU to spare: replies that arrive together wait for each other" in held_up.text
    assert "Add workers" not in held_up.text
    assert "little room" not in held_up.text + held_up.headline
    assert "saturated" not in held_up.text
    assert held_up.text.startswith(held_up.headline)
    assert "Add workers" in verdict(figures(4.7, CPU_BUSY), service).text


@pytest.mark.parametrize("kernel", [True, False], ids=["arrival times", "timer"])
@pytest.mark.parametrize(("count", "level"), [(8, ROOM), (MIN_LAGS - 1, ROOM), (MIN_LAGS, SATURATED)])
def test_lag_is_judged_on_enough_samples_or_not_at_all(count: int, level: int, kernel: bool) -> None:
    stats = GeneratorStats(cpu=1.0, seconds=100.0, users=1)
    stats.observe([0.005 if kernel else None] * count)
    stats.ticks[5.0] += count
    judged = verdict(stats, 0.25 if kernel else 5.25)
    assert judged.level == level
    assert (f"{count} samples of the lag are too few for a p95 (72)" in judged.text) == (level == ROOM)
    assert ("replies wait" in judged.text) == (level == SATURATED)
    # All users together waited for Locust all of the time.
    interval = Interval(1.0, 1000, 0, Counter({0.25: 1000}), Counter())
    assert is_generator_bound({"Locust": stats}, interval) == (level == SATURATED)


def test_a_full_core_is_evidence_without_any_lag() -> None:
    stats = GeneratorStats(cpu=99.0, seconds=100.0, users=1)
    stats.observe([0.005] * 8)
    assert verdict(stats, 0.25).text.startswith("Locust is saturated: the service takes 0.25 ms (p95); 8 samples")


def test_72_samples_are_the_fewest_whose_p95_has_a_confidence_interval() -> None:
    assert 0.95**MIN_LAGS <= 0.025 < 0.95 ** (MIN_LAGS - 1)


def test_without_users_or_requests_there_is_no_verdict() -> None:
    assert verdict(GeneratorStats(seconds=10.0), 5.0).level == UNKNOWN
    assert verdict(GeneratorStats(seconds=10.0, users=1), 0.0).level == UNKNOWN


def test_only_a_master_is_called_a_master() -> None:
    master = GeneratorStats(seconds=10.0, cpu=9.5, is_master=True)
    assert verdict(master, 5.0).text == "Locust's master is saturated: CPU 95 %. Use fewer workers."
    assert verdict(replace(master, cpu=0.1), 5.0).level == UNKNOWN
    alone = GeneratorStats(seconds=10.0, cpu=9.9, users=10)  # all of its connects are refused
    assert verdict(alone, 0.0) == Verdict(
        SATURATED,
        "Locust is saturated: CPU 99 %, and no response time was measured. Look at the failures and exceptions first.",
        "CPU 99 %",
        claim="Locust is saturated",
    )


def test_users_of_another_kind_are_judged_by_the_timer() -> None:
    stats = GeneratorStats(seconds=100.0, users=1)
    stats.ticks[4.7] += 100
    assert verdict(stats, 5.0).level == SATURATED
    assert verdict(stats, 50.0).level == BUSY


def test_requests_on_a_schedule_are_late_or_later_than_the_next() -> None:
    stats = GeneratorStats()
    for late in (-0.001, 0.0, 0.019, 0.021):  # seconds, of a schedule with a request each 0.02
        stats.observe_schedule(late, 0.02)
    assert (stats.behind, stats.missed) == ({0.0: 2, 19.0: 1, 21.0: 1}, 1)


def test_reports_add_up() -> None:
    total = GeneratorStats()
    for lag, users in ((1.0, 10), (3.0, 20)):
        each = figures(lag, 50.0)
        each.users = users
        each.observe([None])
        each.sent_again, each.segments, each.shortest_trips = 3, 100, Counter({0.5: 1})
        total.add(each)
    assert (total.sent_again, total.segments, total.shortest_trips) == (6, 200, {0.5: 2})
    assert (total.exchanges, total.fallbacks, total.users) == (202, 2, 20)
    assert (total.lag(0.25), total.lag(0.95), total.cpu_percent) == (1.0, 3.0, 50.0)


def test_a_report_is_read_as_it_was_sent() -> None:
    sent = figures(1.5, 50.0)
    sent.observe_schedule(0.03, 0.02)
    sent.sent_again, sent.shortest_trips = 3, Counter({0.5: 1})
    assert GeneratorStats.from_report(vars(sent)) == sent


@pytest.mark.parametrize(
    "report",
    [
        None,
        "saturated",
        [1, 2],
        {},
        {"jitter": {1.0: 2}, 7: 8},
        {"lags": [1], "ticks": "x", "behind": {"a": 1, 1.0: "b", 2.0: 1.5, float("nan"): 1, -1.0: 1}},
        {"missed": "1", "exchanges": None, "cpu": [], "seconds": float("inf"), "users": True, "fallbacks": -1},
        {"gone": True},
    ],
)
def test_what_is_unknown_or_of_a_wrong_type_in_a_report_counts_as_nothing(report: object) -> None:
    assert GeneratorStats.from_report(report) == GeneratorStats()


def test_what_is_right_beside_it_counts() -> None:
    report = {"lags": {1.0: 2, "x": 3}, "exchanges": 2, "seconds": "long", "cpu": 1, "jitter": 4}
    assert GeneratorStats.from_report(report) == GeneratorStats(lags=Counter({1.0: 2}), exchanges=2, cpu=1)


def test_users_that_stop_together_are_no_sign_of_a_saturated_locust() -> None:
    generator = LoadGenerator.of(Environment())
    generator.pending_lags.extend([0.001] * 100)
    generator.users_stop()
    generator.pending_lags.extend([2.0] * 100)  # while ten thousand users stop
    stats = generator.processes()["Locust"]
    assert (stats.exchanges, stats.fallbacks, stats.lag(0.99)) == (200, 0, 1.0)
    generator.reset()
    generator.pending_lags.append(2.0)
    assert generator.processes()["Locust"].lag(0.99) == 2000.0
