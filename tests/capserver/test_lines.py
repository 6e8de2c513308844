"""capserver/lines.py: what is done about every input, however it is cut, and how little of it is kept."""

import io
import itertools
import random
import re
import tracemalloc
from collections.abc import Iterable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capserver.faults import Fault, Faults
from capserver.lines import Lines, Step

LIMIT = 12  # bytes: so short that lines of all lengths around it are common
INPUTS = 100_000  # chunks that the random loop feeds

# The Unicode Standard, table 3-7: all that is UTF-8, told by somebody else than Python's decoder.
UTF8 = re.compile(
    rb"""(?: [\x00-\x7f] | [\xc2-\xdf][\x80-\xbf]
    | \xe0[\xa0-\xbf][\x80-\xbf] | [\xe1-\xec\xee\xef][\x80-\xbf]{2} | \xed[\x80-\x9f][\x80-\xbf]
    | \xf0[\x90-\xbf][\x80-\xbf]{2} | [\xf1-\xf3][\x80-\xbf]{3} | \xf4[\x80-\x8f][\x80-\xbf]{2} )*""",
    re.VERBOSE,
)

Outcome = tuple[bytes, int, int, str]
"""All replies, lines answered, errors, and how the server ended the connection, if it did."""


def oracle(sent: bytes, limit: int = LIMIT) -> Outcome:
    """Return what the protocol has a server answer to all that a peer sends before it ends its side."""
    replies = b""
    answered = errors = 0
    for line in io.BytesIO(sent):
        if len(line.removesuffix(b"\n")) > limit:
            return replies + b"error: line longer than %d bytes\n" % limit, answered, errors + 1, "close"
        if UTF8.fullmatch(line):
            replies += line.decode().upper().encode()
            answered += 1
        else:
            replies += b"error: not UTF-8\n"
            errors += 1
    return replies, answered, errors, ""


def taken(steps: Iterable[Step]) -> Iterator[Step]:
    """Yield the steps that a connection takes: none after its ending."""
    for step in steps:
        yield step
        if step.ending:
            return


def outcome(steps: Iterable[Step]) -> Outcome:
    """Return what some steps come to."""
    replies = b""
    answered = errors = 0
    ending = ""
    for step in taken(steps):
        replies += step.reply
        answered += step.lines if step.counts == "answered" else 0
        errors += step.lines if step.counts == "errors" else 0
        ending = step.ending
    return replies, answered, errors, ending


def fed(lines: Lines, chunks: Iterable[bytes]) -> Iterable[Step]:
    """Yield all steps of a peer that sends some chunks and ends its side."""
    for chunk in chunks:
        yield from lines.feed(chunk)
    yield from lines.feed(b"")  # the end


def cut(sent: bytes, places: Iterable[int]) -> list[bytes]:
    """Cut what is sent at some places."""
    edges = [0, *sorted(place % (len(sent) + 1) for place in places), len(sent)]
    return [sent[begin:end] for begin, end in itertools.pairwise(edges) if begin < end]


# Fuzz

texts = st.text(st.characters(codec="utf-8", exclude_characters="\n"), max_size=LIMIT)
some_lines = st.one_of(
    texts.map(str.encode),
    st.sampled_from([b"", b"\r", b"a\r", "ß".encode(), "ΐ".encode(), b"\xef\xbb\xbfa", b"a\0"]),
    st.text("aß", min_size=LIMIT - 2, max_size=LIMIT + 2).map(str.encode),  # about as long as the limit
    st.integers(LIMIT - 1, LIMIT + 2).map(lambda length: b"x" * length),
    st.sampled_from([b"\xff", b"\xc3", b"\xc0\x80", b"\xed\xa0\x80", b"\xf5\x80\x80\x80", b"caf\xe9\r"]),
    st.binary(max_size=6).map(lambda noise: noise.replace(b"\n", b"")),
)
places = st.lists(st.integers(0, 300), max_size=20)


@settings(max_examples=1500, deadline=None)
@given(st.lists(some_lines, max_size=20), some_lines, places)
def test_lines_of_every_kind_get_the_same_replies_however_they_are_cut(
    lines: list[bytes], last: bytes, places: list[int]
) -> None:
    sent = b"".join(line + b"\n" for line in lines) + last
    assert outcome(fed(Lines(LIMIT), cut(sent, places))) == oracle(sent)


@settings(max_examples=300, deadline=None)
@given(st.lists(some_lines, max_size=20), places, st.integers(0, 10**6))
def test_waits_change_no_reply(lines: list[bytes], places: list[int], seed: int) -> None:
    sent = b"".join(line + b"\n" for line in lines)
    faults = Faults([Fault("delay", 0.3, 100.0, 50.0), Fault("drip", 0.3, 100.0)], seed, 1)
    assert outcome(fed(Lines(LIMIT, faults), cut(sent, places))) == oracle(sent)


def test_random_bytes_get_the_same_replies_however_they_are_cut() -> None:
    generator = random.Random(59898)
    alphabets = [bytes(range(256)), bytes(range(128)), b"ab\n", b"a\r\n\n", "aßΐ\n".encode(), b"\n\x80\xc3\xff"]
    inputs = refused = errors = 0

    def counted(chunks: list[bytes]) -> Iterator[bytes]:
        nonlocal inputs
        for chunk in chunks:
            inputs += 1  # those after a refusal are not fed, and do not count
            yield chunk

    while inputs < INPUTS:
        limit = generator.choice([LIMIT, 5 * LIMIT])
        sent = bytes(generator.choices(generator.choice(alphabets), k=generator.randrange(120)))
        chunks = cut(sent, generator.choices(range(10**6), k=generator.randrange(40)))
        expected = oracle(sent, limit)
        assert outcome(fed(Lines(limit), counted(chunks))) == expected, chunks
        errors += expected[2]
        refused += expected[3] != ""
    assert refused > 500 and errors > 5000  # what is rare was among them all the same


# What is kept


@pytest.mark.parametrize("chunk", [1, 7, 1000, 16 * 1024], ids="{} bytes at a time".format)
def test_an_endless_line_is_refused_as_soon_as_it_is_longer_than_the_limit(chunk: int) -> None:
    limit = 4000
    lines = Lines(limit)
    for _ in range(limit // chunk):
        assert list(lines.feed(b"x" * chunk)) == []
    (step,) = lines.feed(b"x" * chunk)
    assert step == Step(b"error: line longer than 4000 bytes\n", "errors", ending="close")


def test_no_more_is_kept_than_the_limit_and_a_chunk() -> None:
    limit, chunk = 1_000_000, b"x" * 10_000
    lines = Lines(limit)
    tracemalloc.start()
    try:
        refused = any(list(lines.feed(chunk)) for _ in range(2 * limit // len(chunk)))
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert refused
    assert limit <= most < 1.2 * (limit + len(chunk))  # a bytearray that grows has an eighth to spare


def test_of_lines_that_are_answered_nothing_is_kept() -> None:
    lines = Lines(10_000)
    tracemalloc.start()
    try:
        for _ in range(200):
            list(lines.feed(b"x" * 9_000))
            list(lines.feed(b"\n" + b"hello\n" * 100))
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 2_000


def test_lines_before_one_that_is_too_long_are_answered_and_those_after_it_are_not() -> None:
    steps = Lines(LIMIT).feed(b"one\n\xff\n" + b"x" * (LIMIT + 1) + b"\ntwo\n")
    error = b"error: line longer than %d bytes\n" % LIMIT
    assert outcome(steps) == (b"ONE\nerror: not UTF-8\n" + error, 1, 2, "close")


def test_lines_that_come_together_are_answered_together() -> None:
    assert list(Lines(LIMIT).feed(b"one\ntwo\nthr")) == [Step(b"ONE\nTWO\n", "answered", 2)]


# Faults


class Drawn(Faults):
    """Faults of which it is known what they strike: each kind is for one line, and takes 0.2 s."""

    def __init__(self, *kinds: str) -> None:
        super().__init__([], 0, 0)
        self._kinds = list(kinds)

    def draw(self) -> tuple[str, float]:
        kind = self._kinds.pop(0)
        return kind, 0.2 if kind else 0.0


INJECTED = {
    "delay": [Step(b"TWO\n", "answered", wait=0.2)],
    "drip": [Step(b"T", wait=0.2), Step(b"W", wait=0.2), Step(b"O", wait=0.2), Step(b"\n", "answered", wait=0.2)],
    "garble": [Step(b"?TWO\n")],
    "truncate": [Step(b"TW", ending="close")],
    "stall": [Step(ending="stall")],
    "close": [Step(ending="close")],
    "reset": [Step(ending="reset")],
}


@pytest.mark.parametrize("kind", INJECTED)
def test_a_fault_strikes_one_line_and_keeps_the_order(kind: str) -> None:
    lines = Lines(LIMIT, Drawn("", "", kind, "", ""))
    steps = list(taken(lines.feed(b"zero\none\ntwo\nthree\nfour\n")))
    before = [Step(b"ZERO\n", "answered"), Step(b"ONE\n", "answered")]
    after = [Step(b"THREE\n", "answered"), Step(b"FOUR\n", "answered")]
    injected = [Step(counts=kind), *INJECTED[kind]]
    assert steps == [*before, *injected, *([] if injected[-1].ending else after)]


@pytest.mark.parametrize("kind", ["delay", "drip", "garble"])
def test_a_struck_line_does_not_keep_the_next_one_from_being_struck(kind: str) -> None:
    assert list(Lines(LIMIT, Drawn(kind, kind)).feed(b"two\ntwo\n")) == [Step(counts=kind), *INJECTED[kind]] * 2


def test_a_line_that_is_not_utf8_is_struck_by_no_fault() -> None:
    lines = Lines(LIMIT, Drawn("garble"))  # for one line only
    assert outcome(lines.feed(b"\xff\ntwo\n")) == (b"error: not UTF-8\n?TWO\n", 0, 1, "")


def test_the_last_line_without_its_end_can_be_struck() -> None:
    lines = Lines(LIMIT, Drawn("", "garble"))
    assert outcome(fed(lines, [b"one\ntw", b"o"])) == (b"ONE\n?TWO", 1, 0, "")
