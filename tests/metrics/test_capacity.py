"""locust_tcp/metrics/capacity.py on services that are made up: the users that are tried, and what they come to."""

import csv
import io
import random
from collections import Counter
from collections.abc import Callable
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from locust_tcp.metrics.capacity import (
    CLOSE,
    COLUMNS,
    MACHINE_BUSY,
    MOST_STEPS,
    Search,
    Step,
    csv_table,
    findings,
    has_broken,
    has_failed,
    pictures,
    report,
    table,
)
from locust_tcp.metrics.generator import BUSY, ROOM, SATURATED, UNKNOWN, Verdict
from locust_tcp.metrics.snapshot import Stretch
from locust_tcp.metrics.thresholds import Promises
from locust_tcp.transport.errors import NO_DESCRIPTORS, NO_PORTS
from locust_tcp.web.tabs import csv_text

SECONDS = 5.0  # that a step is measured
PAUSE = 0.1  # seconds between two requests of a user
PROMISES = Promises(max_fail_ratio=0.01, max_p95=100.0)
TIMED_OUT = "reply: timed out"

Service = Callable[[int], Step]


def step(
    users: int,
    rate: float,
    failed: int = 0,
    *,
    p95: float = 10.0,
    how: str = TIMED_OUT,
    level: int = ROOM,
    is_held_back: bool = False,
    machine: float = 20.0,
) -> Step:
    """What so many users came to, with `rate` good requests per second and so many failed ones in all."""
    good = round(rate * SECONDS)
    errors = Counter({how: failed} if failed else {})
    stretch = Stretch(SECONDS, good + failed, failed, Counter({p95: good + failed}), errors)
    broken = PROMISES.broken(stretch) if stretch.requests else ["nobody was answered"]
    return Step(users, stretch, broken, Verdict(level, f"The evidence at {users}."), is_held_back, machine)


def fine(users: int) -> Step:
    """No limit: each user adds as much as the first."""
    return step(users, users / PAUSE)


def pool_of(size: int, timeout: float = 0.4) -> Service:
    """Serve so many users; the others wait until they time out."""

    def service(users: int) -> Step:
        served = min(users, size)
        return step(users, served / PAUSE, round((users - served) * SECONDS / timeout))

    return service


def capped(rate: float) -> Service:
    """Answer no more than `rate` requests per second, the later the more there are."""
    return lambda users: step(users, min(users / PAUSE, rate), p95=max(10.0, 1000 * (users / rate - PAUSE)))


def failing_from(first: int) -> Service:
    """Fail a tenth of the requests from so many users on."""
    return lambda users: step(users, users / PAUSE, round(users * SECONDS) if users >= first else 0)


def explore(start: int, most: int, service: Service) -> Search:
    """Let a search end; what it tries is allowed, and new each time."""
    search = Search(start, most)
    while (users := search.next_users()) is not None:
        assert 1 <= users <= most
        assert users not in tried(search)
        search.steps.append(service(users))
        assert len(search.steps) <= MOST_STEPS, tried(search)
    search.is_over = True
    return search


def tried(search: Search) -> list[int]:
    return [each.users for each in search.steps]


def told(search: Search) -> str:
    return "\n".join(findings(search))


outcomes = st.tuples(
    st.floats(0, 2000),  # good requests per second
    st.sampled_from([0, 0, 0, 1, 30, 2000]),  # failures
    st.floats(0.01, 200),  # p95
    st.booleans(),  # whether Locust holds it back
    st.floats(0, 100),  # of the machine
)


@given(st.integers(1, 100), st.integers(1, 3000), st.randoms(use_true_random=False), st.lists(outcomes, min_size=1))
def test_every_search_ends_with_findings_whatever_the_service_does(
    start: int, most: int, order: random.Random, outcomes: list[tuple[float, int, float, bool, float]]
) -> None:
    def service(users: int) -> Step:
        rate, failed, p95, held_back, machine = order.choice(outcomes)
        return step(users, rate, failed, p95=p95, is_held_back=held_back, machine=machine)

    search = explore(start, most, service)
    assert search.steps
    assert search.steps[0].users == min(start, most)
    for finding in findings(search):
        assert finding.endswith("."), finding
    assert len(table(search)) == len(search.steps)


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
    assert f"Failures began at {high} user" in told(search)
    if low:
        assert f"{low} user{'s' * (low != 1)} had none." in told(search)


@given(st.integers(1, 40), st.integers(40, 640), st.data())
def test_failures_that_begin_anywhere_are_found_nearly_there(start: int, most: int, data: st.DataObject) -> None:
    first = data.draw(st.integers(1, most))
    search = explore(start, most, failing_from(first))
    gap = search.gap(has_failed)
    assert gap is not None
    low, high = gap
    assert low < first <= high
    # A search that starts low and ends high may run out of steps before the gap is closed.
    assert high - low <= max(1, CLOSE * high) or len(search.steps) == MOST_STEPS


def test_a_pool_of_twenty_is_found_out() -> None:
    search = explore(5, 640, pool_of(20))
    assert search.gap(has_failed) == search.gap(has_broken) == (20, 21)
    assert told(search) == (
        "Failures began at 21 users (1.19 %, mostly 'reply: timed out'); 20 users had none. That is the service's "
        "limit: the requests were sent, and its answers were not right or not there.\n"
        "The highest rate with all promises kept was 200 requests/s, at 20 users and a 95th percentile of 10 ms; "
        "95 % of it take no more than 20 users.\n"
        "The rate is the service's limit: from 20 to 40 users it went from 200 to 200 requests/s, and the 95th "
        "percentile from 10 to 10 ms. The evidence at 20."
    )


def test_failures_may_begin_before_the_promise_is_broken() -> None:
    search = explore(5, 640, pool_of(20, timeout=1.0))  # 0.5 % of the requests at 21 users
    assert search.gap(has_failed) == (20, 21)
    assert search.gap(has_broken) == (22, 23)
    assert "Failures began at 21 users (0.498 %, mostly" in told(search)
    assert "The first promise was broken at 23 users: 1.48 % of the requests failed, at most 1 %." in told(search)


def test_a_rate_that_grows_no_more_is_the_services_limit_and_has_a_knee() -> None:
    search = explore(5, 640, capped(400.0))  # as much as 40 users make
    best, knee = search.best, search.first(search.is_fast)
    assert best and knee
    assert best.stretch.rate == 400
    assert 35 <= knee.users <= 50
    assert f"take no more than {knee.users} users" in told(search)
    assert f"The rate is the service's limit: from {knee.users} to " in told(search)
    assert "No request failed, with up to" in told(search)


def test_a_latency_that_was_promised_is_found_to_be_broken_first() -> None:
    # 95th percentile above 100 ms from 81 users on, and no failures at all
    search = explore(5, 640, capped(400.0))
    gap = search.gap(has_broken)
    assert gap is not None
    assert gap[0] < 81 <= gap[1]
    assert f"The first promise was broken at {gap[1]} users: the 95th percentile was " in told(search)


def test_a_service_that_is_bad_from_the_first_user() -> None:
    search = explore(5, 640, failing_from(1))
    assert tried(search) == [5, 2, 1]
    assert "Failures began at 1 user (9.09 %, mostly 'reply: timed out'). That is the service's limit" in told(search)
    assert "had none" not in told(search)
    assert told(search).endswith("Not even the fewest users had their promises kept.")


def test_failures_that_come_and_go_are_bounded_by_the_fewest_users_with_some() -> None:
    bad = {40, 160, 30}  # and 80 had luck
    search = explore(5, 640, lambda users: failing_from(1 if users in bad else 1000)(users))
    gap = search.gap(has_failed)
    assert gap is not None
    assert gap[1] == 30
    assert gap[0] in (28, 29)


def test_one_doubling_without_a_higher_rate_is_bad_luck_and_two_are_a_limit() -> None:
    unlucky = explore(5, 640, lambda users: fine(10) if users == 20 else fine(users))
    assert max(tried(unlucky)) == 640
    assert "No limit was found" in told(unlucky)
    flat = explore(5, 640, capped(100.0))
    assert {5, 10, 20, 40} <= set(tried(flat))
    assert 80 not in tried(flat)


def test_where_a_rate_grows_no_more_the_most_users_are_tried_too_as_they_may_fail() -> None:
    search = explore(5, 640, lambda users: step(users, min(users / PAUSE, 100.0), 0 if users < 300 else 500))
    assert tried(search)[:5] == [5, 10, 20, 40, 640]
    gap = search.gap(has_failed)
    assert gap is not None
    assert gap[0] < 300 <= gap[1]


def test_a_start_beyond_the_most_users_is_the_most_users() -> None:
    search = explore(50, 3, fine)
    assert tried(search)[0] == 3
    assert max(tried(search)) == 3


def test_no_limit_is_found_where_the_rate_still_grows() -> None:
    search = explore(5, 60, fine)
    assert max(tried(search)) == 60
    assert told(search).startswith("No request failed, with up to 60 users.")
    assert told(search).endswith("No limit was found: the rate still grew at 60 users. Allow more: --max-users.")


def test_a_rate_that_grows_with_failures_is_not_without_a_limit() -> None:
    told_of = told(explore(5, 640, failing_from(41)))
    assert "Failures began at 42 users" in told_of
    assert "No limit was found" not in told_of


def test_a_step_with_a_broken_promise_is_neither_the_best_nor_the_knee() -> None:
    outcomes = {5: step(5, 50.0), 10: step(10, 500.0, 100), 7: step(7, 70.0), 8: step(8, 480.0)}
    search = Search(5, 640)
    search.steps += outcomes.values()
    assert search.best is outcomes[8]
    assert not search.is_fast(outcomes[10])
    assert search.first(search.is_fast) is outcomes[8]
    search.steps += [step(9, 600.0, 1000)]
    assert search.best is outcomes[8]


def test_there_is_always_a_user_to_try() -> None:
    # --max-users 0.5 is a number above 0
    assert Search(0, 0).next_users() != 0
    search = Search(5, 0)
    search.steps.append(fine(1))
    assert search.next_users() != 0


def test_a_rate_that_locust_holds_back_is_not_the_services() -> None:
    search = explore(
        5,
        640,
        lambda users: step(users, min(users / PAUSE, 100.0), is_held_back=users >= 10, level=SATURATED),
    )
    best = search.best
    assert best
    assert told(search).endswith(
        f"The rate is Locust's limit, and the service's is still unknown. The evidence at {best.users}."
    )
    assert "service's limit" not in told(search)


def test_a_rate_that_locust_holds_back_with_most_numbers_of_users_is_not_the_services() -> None:
    # With a user or two nobody waits for a turn, and the rate is the same.
    held_back = explore(2, 16, lambda users: step(users, 100.0, is_held_back=users > 2, level=SATURATED))
    assert "The rate is Locust's limit" in told(held_back)
    by_chance = explore(2, 16, lambda users: step(users, 100.0, is_held_back=users == 16, level=SATURATED))
    assert "The rate is Locust's limit" not in told(by_chance)


@pytest.mark.parametrize(("machine", "is_it"), [(MACHINE_BUSY, True), (MACHINE_BUSY - 0.1, False)])
def test_a_machine_without_an_idle_core_is_the_limit(machine: float, is_it: bool) -> None:
    search = explore(5, 640, lambda users: step(users, min(users / PAUSE, 100.0), machine=machine))
    assert ("The rate is the limit of Locust's machine: 95 % of all its cores were busy." in told(search)) == is_it
    assert ("The rate is the service's limit" in told(search)) != is_it


@pytest.mark.parametrize(
    ("how", "advice"), [(NO_DESCRIPTORS, "`ulimit -n 65536`"), (NO_PORTS, "net.ipv4.ip_local_port_range")]
)
def test_what_locust_itself_is_out_of_is_not_the_services_limit(how: str, advice: str) -> None:
    search = explore(5, 640, lambda users: step(users, users / PAUSE, 0 if users < 50 else 100, how=f"connect: {how}"))
    (failures, *_) = findings(search)
    assert failures.startswith("Failures began at 5")
    assert f"That is the limit of Locust's machine: {how}; " in failures
    assert advice in failures
    assert "the service's limit" not in failures


def test_where_nobody_is_answered_nothing_is_found_out() -> None:
    search = explore(5, 640, lambda users: step(users, 0.0))
    assert tried(search) == [5, 2, 1]
    assert findings(search) == findings(Search(5, 640)) == ["Nothing was found out: there were no requests."]


def test_where_all_fail_it_is_said_how() -> None:
    search = explore(5, 640, lambda users: step(users, 0.0, 10 * users, how="connect: refused"))
    assert "Failures began at 1 user (100 %, mostly 'connect: refused')" in told(search)
    assert told(search).endswith("Not even the fewest users had their promises kept.")


def test_one_failure_within_the_promise_is_told_and_breaks_nothing() -> None:
    search = explore(5, 80, lambda users: step(users, users / PAUSE, 1 if users >= 40 else 0))
    assert search.first(has_broken) is None
    assert "Failures began at 40 users (0.05 %, mostly" in told(search)
    assert "promise was broken" not in told(search)


def test_the_table_is_sorted_by_users_and_marks_what_was_found() -> None:
    search = explore(5, 640, pool_of(20))
    rows = table(search)
    assert [row["users"] for row in rows] == sorted(tried(search))
    notes = {row["users"]: row["note"] for row in rows}
    assert notes[20] == "knee; highest rate"
    assert notes[21] == "failures begin; promise broken; 1.19 % of the requests failed, at most 1 %"
    assert notes[5] == ""
    (row,) = (row for row in rows if row["users"] == 20)
    assert row == {
        "users": 20,
        "seconds": 5.0,
        "rate": 200.0,
        "failures": 0.0,
        "p50": 10.0,
        "p95": 10.0,
        "p99": 10.0,
        "machine": 20,
        "note": "knee; highest rate",
        "load": "room",
    }


@pytest.mark.parametrize("level", [UNKNOWN, ROOM, BUSY, SATURATED])
def test_every_row_has_every_column(level: int) -> None:
    search = explore(5, 640, lambda users: step(users, users / PAUSE, users, level=level))
    for row in (*table(search), *csv_table(search)):
        assert list(row) == list(COLUMNS)
    assert {row["load"] for row in table(search)} < {"unknown", "room", "little room", "saturated"}


def test_the_csv_has_the_steps_and_then_the_findings() -> None:
    search = explore(5, 640, pool_of(20))
    read = list(csv.DictReader(io.StringIO(csv_text(COLUMNS, csv_table(search)))))
    count = len(search.steps)
    assert [row["Users"] for row in read[:count]] == [str(users) for users in sorted(tried(search))]
    assert [row["What was found out"] for row in read[count:]] == findings(search)
    assert {row["Users"] for row in read[count:]} == {""}


class Tags(HTMLParser):
    """Reads a page; all that is opened is closed, in order."""

    EMPTY = frozenset({"meta", "br", "hr", "img", "link", "input"})

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []
        self.text: list[str] = []
        self._open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        if tag not in self.EMPTY:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def close(self) -> None:
        super().close()
        assert self._open == []


HOSTILE = "<script>alert('a & b')</script>"


def test_the_report_is_a_page_in_which_texts_of_failures_are_only_texts() -> None:
    search = explore(5, 640, lambda users: step(users, users / PAUSE, 0 if users < 50 else 100, how=HOSTILE))
    page = Tags()
    page.feed(report(search))
    page.close()
    assert "script" not in page.seen
    assert page.seen.count("svg") == 2
    assert page.seen.count("table") == 1
    assert page.seen.count("tr") == 1 + len(search.steps)
    assert any(repr(HOSTILE) in text for text in page.text)
    for finding in findings(search):
        assert finding in page.text


def test_the_pictures_are_the_findings_and_two_drawings_with_the_marks() -> None:
    search = explore(5, 640, pool_of(20))
    *words, rates, times = pictures(search)
    assert words == [f"<p>{finding}</p>" for finding in (text.replace("'", "&#x27;") for text in findings(search))]
    for drawing in (rates, times):
        texts = [element.text for element in ElementTree.fromstring(drawing).iter() if element.get("class") == "mark"]
        assert texts == ["knee, highest rate", "failures begin, promise broken"]
    assert pictures(Search(5, 640)) == []
    search.is_over = False
    assert pictures(search)[0] == "<p>Still looking.</p>", "what is known so far may yet change"


def test_pictures_and_report_exist_where_nobody_was_answered() -> None:
    search = explore(5, 640, lambda users: step(users, 0.0))
    page = Tags()
    page.feed(report(search))
    page.close()
    assert page.seen.count("svg") == 2
    assert "Nothing was found out: there were no requests." in page.text
