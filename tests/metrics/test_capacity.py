"""locust_tcp/metrics/capacity.py on services that are made up: users tried, and findings."""

import random
import re
from statistics import stdev

import pytest
from hypothesis import given
from hypothesis import strategies as st

from locust_tcp.metrics.capacity import (
    CAUSES,
    CLOSE,
    MACHINE_BUSY,
    MOST_REPEATS,
    MOST_STEPS,
    CapacitySearch,
    LoadStep,
    findings,
    has_broken,
    has_failed,
)
from locust_tcp.metrics.generator import SATURATED
from locust_tcp.transport.errors import NO_DESCRIPTORS, NO_PORTS, SERVICES
from tests import kit
from tests.made_up_services import (
    PAUSE,
    SECONDS,
    at_first,
    capped,
    explore,
    failing_from,
    fine,
    pool_of,
    repeated,
    step,
    tried,
)


def text_of(search: CapacitySearch) -> str:
    return "\n".join(findings(search))


outcomes = st.tuples(
    st.floats(0, 2000),  # successful requests per second
    st.sampled_from([0, 0, 0, 1, 30, 2000]),  # failures
    st.floats(0.01, 200),  # p95
    st.booleans(),  # whether Locust limits the goodput
    st.floats(0, 100),  # percent of the machine's cores
)


@given(st.integers(1, 100), st.integers(1, 3000), st.randoms(use_true_random=False), st.lists(outcomes, min_size=1))
def test_every_search_ends_with_findings_whatever_the_service_does(
    start: int, most: int, order: random.Random, outcomes: list[tuple[float, int, float, bool, float]]
) -> None:
    def service(users: int) -> LoadStep:
        rate, failed, p95, generator_bound, machine_cpu = order.choice(outcomes)
        return step(users, rate, failed, p95=p95, generator_bound=generator_bound, machine_cpu=machine_cpu)

    search = explore(start, most, service)
    assert search.steps
    assert search.steps[0].users == min(start, most)
    for finding in findings(search):
        assert finding.endswith("."), finding


@given(st.integers(1, 10_000), st.integers(1, 100_000))
def test_a_search_that_may_go_far_still_ends_after_its_steps(start: int, most: int) -> None:
    assert max(tried(explore(start, most, fine))) <= most


@pytest.mark.parametrize("first", [1, 2, 3, 4, 5, 6, 11, 13, 20, 21, 22, 40, 41, 60, 61, 100, 137, 160])
def test_failures_are_found_to_begin_where_they_do(first: int) -> None:
    search = explore(5, 640, failing_from(first))
    gap = search.gap(has_failed)
    assert gap is not None
    low, high = gap
    assert low < first <= high
    assert high - low <= max(1, CLOSE * high)
    text = text_of(search)
    if low:
        assert f"Failures began between {low} and {high} users: 9.09 % of " in text
        assert f", and none of {round(low / PAUSE * SECONDS)} with {low}." in text
    else:
        assert f"Failures began at {high} user, the fewest: " in text


@given(st.integers(1, 40), st.integers(40, 640), st.data())
def test_failures_that_begin_anywhere_are_found_nearly_there(start: int, most: int, data: st.DataObject) -> None:
    first = data.draw(st.integers(1, most))
    search = explore(start, most, failing_from(first))
    gap = search.gap(has_failed)
    assert gap is not None
    low, high = gap
    assert low < first <= high
    # A search that starts low and ends high may run out of steps before the gap is closed.
    assert high - low <= max(1, CLOSE * high) or len(tried(search)) == MOST_STEPS


def test_the_limit_of_a_pool_of_twenty_is_found() -> None:
    search = explore(5, 640, pool_of(20))
    assert search.gap(has_failed) == search.gap(has_broken) == (20, 21)
    assert text_of(search) == (
        "Failures began between 20 and 21 users: 1.19 % of 1012 requests with 21, mostly 'reply: timed out', and none "
        "of 1000 with 20. That is the service's limit: the requests were sent, and its replies did not come in time.\n"
        "The highest goodput with all thresholds kept was 200 requests/s, at 20 users and a 95th percentile of 10 ms; "
        "95 % of it needs no more than 20 users.\n"
        "The goodput is the service's limit: from 20 to 40 users it went from 200 to 200 requests/s, and the 95th "
        "percentile from 10 to 10 ms. Meanwhile, with 20 users: the evidence at 20."
    )


def test_failures_may_begin_before_the_threshold_is_broken() -> None:
    search = explore(5, 640, pool_of(20, timeout=1.0))  # 0.5 % of the requests at 21 users
    assert search.gap(has_failed) == (20, 21)
    assert search.gap(has_broken) == (22, 23)
    assert "Failures began between 20 and 21 users: 0.498 % of 1005 requests with 21, mostly" in text_of(search)
    assert "The first threshold was broken at 23 users: 1.48 % of the requests failed, at most 1 %." in text_of(search)


def test_a_goodput_that_stops_growing_is_the_services_limit_and_has_a_knee() -> None:
    search = explore(5, 640, capped(400.0))  # as much as 40 users make
    best, knee = search.best, search.first(search.is_fast)
    assert best and knee
    assert best.interval.goodput == 400
    assert 35 <= knee.users <= 50
    assert f"needs no more than {knee.users} users" in text_of(search)
    assert f"The goodput is the service's limit: from {knee.users} to " in text_of(search)
    assert "No request failed, with up to" in text_of(search)


def test_a_threshold_of_latency_is_found_to_be_broken_first() -> None:
    # 95th percentile above 100 ms from 81 users on, and no failures at all
    search = explore(5, 640, capped(400.0))
    gap = search.gap(has_broken)
    assert gap is not None
    assert gap[0] < 81 <= gap[1]
    assert f"The first threshold was broken at {gap[1]} users: the 95th percentile was " in text_of(search)


def test_a_service_that_is_bad_from_the_first_user() -> None:
    search = explore(5, 640, failing_from(1))
    assert tried(search) == [5, 2, 1]
    assert (
        "Failures began at 1 user, the fewest: 9.09 % of 55 requests, mostly 'reply: timed out'. That is the service's "
        "limit"
    ) in text_of(search)
    assert text_of(search).endswith("A threshold was broken even with the fewest users.")


def test_failures_that_come_and_go_are_bounded_by_the_fewest_users_with_some() -> None:
    bad = {40, 160, 30}  # and 80 had luck
    search = explore(5, 640, lambda users: failing_from(1 if users in bad else 1000)(users))
    gap = search.gap(has_failed)
    assert gap is not None
    assert gap[1] == 30
    assert gap[0] in (28, 29)


def test_one_doubling_without_growth_is_bad_luck_and_two_are_a_limit() -> None:
    unlucky = explore(5, 640, lambda users: step(users, 100.0) if users == 20 else fine(users))
    assert max(tried(unlucky)) == 640
    assert "No limit was found" in text_of(unlucky)
    flat = explore(5, 640, capped(100.0))
    assert {5, 10, 20, 40} <= set(tried(flat))
    assert 80 not in tried(flat)


def test_where_the_goodput_stops_growing_the_most_users_are_tried_too_as_they_may_fail() -> None:
    search = explore(5, 640, lambda users: step(users, min(users / PAUSE, 100.0), 0 if users < 300 else 500))
    assert tried(search)[:5] == [5, 10, 20, 40, 640]
    gap = search.gap(has_failed)
    assert gap is not None
    assert gap[0] < 300 <= gap[1]


def test_a_start_beyond_the_most_users_is_the_most_users() -> None:
    search = explore(50, 3, fine)
    assert tried(search)[0] == 3
    assert max(tried(search)) == 3


def test_no_limit_is_found_where_the_goodput_still_grows() -> None:
    search = explore(5, 60, fine)
    assert max(tried(search)) == 60
    assert text_of(search).startswith("No request failed, with up to 60 users.")
    assert text_of(search).endswith("No limit was found: the goodput still grew at 60 users. Allow more: --max-users.")


def test_a_goodput_that_grows_with_failures_has_a_limit() -> None:
    text = text_of(explore(5, 640, failing_from(41)))
    assert "Failures began between 40 and 42 users" in text
    assert "No limit was found" not in text
    assert "goodput is the service's limit" not in text, "a few users more make a few requests more"
    assert "It is not known whose limit the goodput is: at 40 users it still grew. Meanwhile, " in text


def test_a_step_with_a_broken_threshold_is_neither_the_best_nor_the_knee() -> None:
    outcomes = {5: step(5, 50.0), 10: step(10, 500.0, 100), 7: step(7, 70.0), 8: step(8, 480.0)}
    search = CapacitySearch(5, 640)
    search.steps += outcomes.values()
    assert search.best is outcomes[8]
    assert not search.is_fast(outcomes[10])
    assert search.first(search.is_fast) is outcomes[8]
    search.steps += [step(9, 600.0, 1000)]
    assert search.best is outcomes[8]


def test_there_is_always_a_user_to_try() -> None:
    # --max-users 0.5 is a number above 0
    assert CapacitySearch(0, 0).next_users() != 0
    search = CapacitySearch(5, 0)
    search.steps.append(fine(1))
    assert search.next_users() != 0


def test_a_goodput_that_locust_limits_is_not_the_services_limit() -> None:
    search = explore(
        5,
        640,
        lambda users: step(users, min(users / PAUSE, 100.0), generator_bound=users >= 10, level=SATURATED),
    )
    best = search.best
    assert best
    assert text_of(search).endswith(
        "The goodput is Locust's limit, and the service's is still unknown. "
        f"With {best.users} users: The verdict at {best.users}."
    )
    assert "service's limit" not in text_of(search)


def test_a_goodput_that_locust_limits_in_most_steps_is_not_the_services_limit() -> None:
    # With a user or two no reply waits for its turn, and the goodput is the same.
    bound = explore(2, 16, lambda users: step(users, 100.0, generator_bound=users > 2, level=SATURATED))
    assert "The goodput is Locust's limit" in text_of(bound)
    by_chance = explore(2, 16, lambda users: step(users, 100.0, generator_bound=users == 16, level=SATURATED))
    assert "The goodput is Locust's limit" not in text_of(by_chance)


@pytest.mark.parametrize(("machine_cpu", "is_it"), [(MACHINE_BUSY, True), (MACHINE_BUSY - 0.1, False)])
def test_a_machine_without_an_idle_core_is_the_limit(machine_cpu: float, is_it: bool) -> None:
    search = explore(5, 640, lambda users: step(users, min(users / PAUSE, 100.0), machine_cpu=machine_cpu))
    assert (
        "The goodput is the limit of Locust's machine: 95 % of all its cores were busy." in text_of(search)
    ) == is_it
    assert ("The goodput is the service's limit" in text_of(search)) != is_it


@pytest.mark.parametrize(
    ("how", "advice"), [(NO_DESCRIPTORS, "`ulimit -n 65536`"), (NO_PORTS, "net.ipv4.ip_local_port_range")]
)
def test_what_locust_itself_runs_out_of_is_not_the_services_limit(how: str, advice: str) -> None:
    search = explore(5, 640, lambda users: step(users, users / PAUSE, 0 if users < 50 else 100, how=f"connect: {how}"))
    (failures, *_) = findings(search)
    assert failures.startswith("Failures began between 4")
    assert f"That is the limit of Locust's machine: {how}; " in failures
    assert advice in failures
    assert "the service's limit" not in failures


@pytest.mark.parametrize(
    "how", ["reply: wrong", "reply: more than was asked for", "reply: too long", "BadStatusLine()"]
)
def test_a_failure_that_a_locustfile_may_cause_is_not_called_the_services_limit(how: str) -> None:
    (failures, *_) = findings(
        explore(5, 80, lambda users: step(users, users / PAUSE, 0 if users < 50 else 100, how=how))
    )
    assert "the service's limit" not in failures
    assert "The failure does not say whose limit that is" in failures


def test_the_failures_that_are_the_services_are_those_of_the_documents() -> None:
    rows = [
        line.split(" | ") for line in (kit.KIT / "docs/failures.md").read_text().splitlines() if line.startswith("|")
    ]
    documented = {
        text for row in rows for text in re.findall(r"`(\w+: [^`]+)`", row[0]) if row[-1] == "the service's |"
    }
    assert documented == set(SERVICES)


def test_a_bad_second_neither_ends_the_doubling_nor_is_reported_as_a_limit() -> None:
    search = explore(5, 640, at_first(10, step(10, 100.0, 500), fine))
    assert repeated(search) == [10]
    assert tried(search)[:8] == [5, 10, 20, 40, 80, 160, 320, 640]
    assert text_of(search).startswith(
        "No failure came again when its step was repeated, with up to 640 users.\n"
        "At 10 users one of two steps was worse: 50 % of the requests failed, at most 1 %.\n"
    )
    assert "service's limit" not in text_of(search)
    assert "threshold was broken" not in text_of(search)


def test_a_failure_that_stands_alone_is_tried_again_before_the_search_follows_it() -> None:
    search = explore(5, 80, at_first(40, step(40, 400.0, 1), fine))
    assert (repeated(search), tried(search)[:5]) == ([40], [5, 10, 20, 40, 80])
    assert not set(tried(search)) & set(range(21, 40))
    assert "At 40 users one of two steps was worse: 0.05 % of the requests failed." in text_of(search)


def test_failures_begin_where_they_did_twice() -> None:
    search = explore(5, 640, failing_from(30))
    assert repeated(search) == [40, 30]
    assert "Failures began between 29 and 30 users" in text_of(search)
    unlucky = explore(5, 640, at_first(25, step(25, 250.0, 100), failing_from(30)))
    assert "Failures began between 29 and 30 users" in text_of(unlucky), "and not at 25"


def test_a_goodput_that_falls_once_with_the_most_users_is_no_limit() -> None:
    search = explore(5, 640, at_first(640, step(640, 100.0), fine))
    assert repeated(search) == [640]
    assert text_of(search).endswith("No limit was found: the goodput still grew at 640 users. Allow more: --max-users.")


def test_a_search_repeats_few_steps_however_unlucky_it_is() -> None:
    service = failing_from(1000)
    for users in range(1, 641):
        service = at_first(users, step(users, 10.0 * users, 1000), service)
    search = explore(5, 640, service)
    assert len(repeated(search)) == MOST_REPEATS


def test_a_goodput_has_its_uncertainty_by_the_parts_of_its_step() -> None:
    rates = (375.0, 384.0, 378.0, 380.0, 382.0, 375.0)
    measured = step(20, 379.0, rates=rates)
    # Student's t of five degrees of freedom, from a table, times the standard error
    assert measured.margin == pytest.approx(2.571 * stdev(rates) / 6**0.5)
    search = explore(5, 640, lambda users: step(users, min(379.0, 19.0 * users), rates=rates))
    assert "goodput with all thresholds kept was 379 +- 3.9 requests/s, at " in text_of(search)
    assert step(20, 379.0, rates=rates[:2]).margin is None
    assert "+-" not in text_of(explore(5, 640, capped(400.0)))
    assert step(20, 379.0, rates=rates * 10).margin < measured.margin  # type: ignore[operator]


NETWORK = "The network loses packets: 4 % of the segments were sent again."


def test_what_a_bad_network_causes_is_not_called_the_services_limit() -> None:
    text = text_of(explore(5, 80, lambda users: step(users, users / PAUSE, 0 if users < 50 else 100, network=NETWORK)))
    assert (
        f"mostly 'reply: timed out', and none of 2400 with 48. That is not known to be the service's limit. {NETWORK}"
        in text
    )
    text = text_of(explore(5, 80, lambda users: step(users, min(users / PAUSE, 100.0), network=NETWORK)))
    assert text.endswith(f"The goodput is not known to be the service's limit. {NETWORK}")
    assert "is the service's limit" not in text
    # With few users there may be too few packets to find it.
    text = text_of(explore(5, 80, lambda users: step(users, users / PAUSE, 100, network=NETWORK * (users >= 5))))
    assert "Failures began at 1 user, the fewest: 66.7 % of 150 requests" in text
    assert f"That is not known to be the service's limit. {NETWORK}" in text
    # A refused connect is none of the network's.
    refused = lambda users: step(users, users / PAUSE, 100 * (users >= 50), how="connect: refused", network=NETWORK)  # noqa: E731
    assert "That is the service's limit: it took no more connections." in text_of(explore(5, 80, refused))


def test_the_services_limit_and_a_saturated_locust_are_never_one_finding() -> None:
    # Replies may wait longer for Locust than for a quick service, and the users still wait for the service.
    search = explore(5, 640, lambda users: step(users, min(users / PAUSE, 400.0), level=SATURATED))
    assert "The goodput is the service's limit: from " in text_of(search)
    assert "Meanwhile, with 40 users: the evidence at 40." in text_of(search)
    assert "The verdict" not in text_of(search)


def test_a_goodput_that_stops_growing_by_failures_of_locust_is_not_the_services_limit() -> None:
    how = f"connect: {NO_DESCRIPTORS}"
    search = explore(5, 80, lambda users: step(users, min(users, 50) / PAUSE, max(0, users - 50), how=how))
    assert "service's limit" not in text_of(search)


def test_only_the_kits_own_failures_are_known_by_their_texts() -> None:
    how = f"MyError('{NO_PORTS}')"
    (failures, *_) = findings(explore(5, 80, lambda users: step(users, users / PAUSE, 100 * (users >= 50), how=how)))
    assert "The failure does not say whose limit that is" in failures


@pytest.mark.parametrize(("how", "cause"), CAUSES.items())
def test_a_failure_with_several_causes_names_them(how: str, cause: str) -> None:
    (failures, *_) = findings(explore(5, 80, lambda users: step(users, users / PAUSE, 100 * (users >= 50), how=how)))
    assert failures.endswith(f"The failure does not say whose limit that is: {cause}.")
    assert "look at a reply" not in failures


def test_a_service_on_a_machine_without_an_idle_core_has_an_excuse() -> None:
    (failures, *_) = findings(
        explore(5, 80, lambda users: step(users, users / PAUSE, 100 * (users >= 50), machine_cpu=MACHINE_BUSY))
    )
    assert failures.endswith("If it runs on Locust's machine, it had little time to run: 95 % of all cores were busy.")


def test_a_single_step_shows_no_growth() -> None:
    assert text_of(explore(1, 1, fine)).endswith("No limit was found. Allow more: --max-users.")


def test_without_requests_there_is_no_result() -> None:
    search = explore(5, 640, lambda users: step(users, 0.0))
    assert tried(search) == [5, 2, 1]
    assert findings(search) == findings(CapacitySearch(5, 640)) == ["There is no result: there were no requests."]


def test_where_all_requests_fail_there_is_no_limit_of_anything() -> None:
    search = explore(5, 640, lambda users: step(users, 0.0, 10 * users, how="connect: refused"))
    assert text_of(search) == (
        "There is no result: none of 10 requests succeeded, mostly 'connect: refused'. That is no limit: look at that "
        "failure first."
    )


def test_one_failure_within_the_threshold_is_reported_and_breaks_nothing() -> None:
    search = explore(5, 80, lambda users: step(users, users / PAUSE, 1 if users >= 40 else 0))
    assert search.first(has_broken) is None
    assert "Failures began between 38 and 40 users: 0.05 % of 2001 requests with 40, mostly" in text_of(search)
    assert "threshold was broken" not in text_of(search)
