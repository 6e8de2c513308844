"""locust_tcp/web/generator_tab.py: what its pictures show of many processes."""

from locust_tcp.metrics.history import Sample
from locust_tcp.web.generator_tab import _cpu


def samples(*cpu: dict[str, float]) -> list[Sample]:
    return [Sample(float(at), 1, 1.0, 1.0, 1.0, 1.0, each) for at, each in enumerate(cpu)]


def test_few_processes_have_a_line_each() -> None:
    taken = samples({"master": 1}, {"worker 0": 50, "master": 2})
    assert _cpu(taken) == {"master": [(0, 1), (1, 2)], "worker 0": [(1, 50)]}


def test_of_many_workers_the_busiest_and_the_idlest_are_shown() -> None:
    taken = samples(
        {"worker 0": 10, "worker 1": 90, "worker 2": 30, "master": 2},
        {"worker 0": 95, "worker 1": 20, "worker 2": 30, "master": 3},
    )
    assert _cpu(taken) == {"busiest": [(0, 90), (1, 95)], "idlest": [(0, 10), (1, 20)], "master": [(0, 2), (1, 3)]}
