"""locust_tcp/compare/runs.py: each CSV of Locust is read as written, or a message says why not."""

import itertools
import re
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from locust_tcp.compare.runs import TOTAL, WINDOW, Entry, Moment, Run, Unreadable, read
from tests.compare.files import (
    BEGAN,
    DOWNLOAD,
    ENTRIES,
    FAILURES,
    HISTORY,
    LINE,
    MOMENTS,
    WORD,
    write_history,
    write_stats,
)

Change = Callable[[bytes], bytes]


@pytest.mark.parametrize("name", ["requests_1795446927.123.csv", DOWNLOAD, "whatever.csv"])
def test_a_downloaded_file_is_one_run_without_history(tmp_path: Path, name: str) -> None:
    # A download has no history, even if there is a file with the name that a prefix would give it.
    write_history(tmp_path / f"{Path(name).stem}_stats_history.csv", MOMENTS)
    file = write_stats(tmp_path / name, WORD, LINE)
    assert read(str(file)) == [Run(file.stem, ENTRIES, [])]


def test_the_maximum_is_the_real_one_and_not_rounded_to_two_digits(tmp_path: Path) -> None:
    file = write_stats(tmp_path / "run_stats.csv", WORD)
    file.write_text(file.read_text().replace(",2.75,0,", ",2.7654,0,"))  # the column Max Response Time
    (run,) = read(str(file))
    assert {entry.percentiles["100%"] for entry in run.entries.values()} == {2.7654}


@pytest.mark.parametrize("name", ["run", "run.1", "_stats", "Läufe, all"])
def test_a_prefix_and_its_stats_file_are_the_same_run_with_its_history(tmp_path: Path, name: str) -> None:
    file = write_stats(tmp_path / f"{name}_stats.csv", WORD, LINE)
    write_history(tmp_path / f"{name}_stats_history.csv", MOMENTS)
    expected = [Run(name, ENTRIES, HISTORY)]
    assert read(str(tmp_path / name)) == expected
    assert read(str(file)) == expected


def test_a_folder_is_all_runs_in_it_and_nothing_else(tmp_path: Path) -> None:
    for name in ("b_stats.csv", "a_stats.csv", "requests_9.csv"):
        write_stats(tmp_path / name, WORD, LINE)
    write_history(tmp_path / "a_stats_history.csv", MOMENTS)
    write_history(tmp_path / "requests_full_history_9.csv", MOMENTS)
    for name in ("a_failures.csv", "failures_9.csv", "a_exceptions.csv", "notes.csv"):
        (tmp_path / name).write_text(FAILURES)
    (tmp_path / "below").mkdir()
    write_stats(tmp_path / "below" / "c_stats.csv", WORD, LINE)
    assert read(str(tmp_path)) == [Run("a", ENTRIES, HISTORY), Run("b", ENTRIES, []), Run("requests_9", ENTRIES, [])]


def test_a_folder_of_downloads_is_read_under_the_names_that_locust_gives_them(tmp_path: Path) -> None:
    write_stats(tmp_path / DOWNLOAD, WORD, LINE)
    write_history(tmp_path / DOWNLOAD.replace("_requests", "_requests_full_history"), MOMENTS)
    (tmp_path / DOWNLOAD.replace("_requests", "_failures")).write_text(FAILURES)
    assert read(str(tmp_path)) == [Run(Path(DOWNLOAD).stem, ENTRIES, [])]


def test_without_requests_there_are_no_percentiles(tmp_path: Path) -> None:
    (run,) = read(str(write_stats(tmp_path / "x.csv", ("TCP", "word", 0, 0, None))))
    assert run.entries == {"TCP word": Entry(0, 0, 0.0, {}), TOTAL: Entry(0, 0, 0.0, {})}


def test_names_of_every_kind_are_read_as_they_were_written(tmp_path: Path) -> None:
    names = ["a, b", 'say "hi"', "süßer ﬁsch 漢字 🦗", "two\nlines", "<b>&amp;</b>", "'", "a\\b", "x,", '"']
    file = write_stats(tmp_path / "run_stats.csv", *(("TCP", name, place, 0, 1.0) for place, name in enumerate(names)))
    (run,) = read(str(file))
    assert [(name, entry.requests) for name, entry in run.entries.items()][:-1] == [
        (f"TCP {name}", place) for place, name in enumerate(names)
    ]


def test_the_same_name_of_two_types_is_two_entries(tmp_path: Path) -> None:
    file = write_stats(tmp_path / "x.csv", ("GET", "/", 1, 0, 1.0), ("POST", "/", 2, 0, 1.0), ("", "plain", 3, 0, 1.0))
    (run,) = read(str(file))
    assert [*run.entries] == ["GET /", "POST /", "plain", TOTAL]


# Whole milliseconds, as Locust 1.0 wrote them (99.999 %, texts in quotes), and as 2.47 does.
UPSTREAM = {
    "1.0": (
        '"Type","Name","Request Count","Failure Count","Median Response Time","Average Response Time",'
        '"Min Response Time","Max Response Time","Average Content Size","Requests/s","Failures/s","50%","66%","75%",'
        '"80%","90%","95%","98%","99%","99.9%","99.99%","99.999%","100%"\r\n'
        '"GET","/hello",10,2,3,3.52,1,41,12.0,2.01,0.40,3,3,4,4,5,41,41,41,41,41,41,41\r\n'
        '"None","Aggregated",10,2,3,3.52,1,41,12.0,2.01,0.40,3,3,4,4,5,41,41,41,41,41,41,41\r\n'
    ),
    "2.47": (
        "Type,Name,Request Count,Failure Count,Median Response Time,Average Response Time,Min Response Time,"
        "Max Response Time,Average Content Size,Requests/s,Failures/s,50%,66%,75%,80%,90%,95%,98%,99%,99.9%,99.99%,"
        "100%\r\n"
        "GET,/hello,10,2,3.0,3.52,1.1,41.0,12.0,2.01,0.40,3,3,4,4,5,41,41,41,41,41,41\r\n"
        ",Aggregated,10,2,3.0,3.52,1.1,41.0,12.0,2.01,0.40,3,3,4,4,5,41,41,41,41,41,41\r\n"
    ),
}


@pytest.mark.parametrize("version", UPSTREAM)
def test_other_locusts_are_read_too(tmp_path: Path, version: str) -> None:
    (tmp_path / "x.csv").write_text(UPSTREAM[version], newline="")
    (run,) = read(str(tmp_path / "x.csv"))
    names = [name for name in UPSTREAM[version].partition("\r")[0].replace('"', "").split(",") if name.endswith("%")]
    times = (3.0, 3.0, 4.0, 4.0, 5.0, *[41.0] * (len(names) - 5))
    entry = Entry(10, 2, 2.01, dict(zip(names, times, strict=True)))
    assert run.entries == {"GET /hello": entry, TOTAL: entry}


def good(folder: Path) -> bytes:
    return write_stats(folder / "good.csv", WORD, LINE).read_bytes()


def lines(text: bytes, count: int) -> bytes:
    return b"".join(text.splitlines(keepends=True)[:count])


NOT_LOCUSTS = r"not a CSV of Locust's"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        pytest.param(lambda _: b"", "it is empty", id="empty"),
        pytest.param(lambda text: lines(text, 1), "cut off, or its test never began.*Aggregated", id="only titles"),
        pytest.param(lambda text: lines(text, 3), "cut off, or its test never began.*Aggregated", id="between rows"),
        pytest.param(lambda text: lines(text, 3)[:-25], "cut off", id="within the second row"),
        pytest.param(lambda _: bytes(range(256)) * 9, NOT_LOCUSTS, id="binary"),
        pytest.param(lambda _: b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", NOT_LOCUSTS, id="picture"),
        pytest.param(lambda _: bytes(5000), NOT_LOCUSTS, id="zeros"),
        pytest.param(lambda _: "Prüfung,Größe\n1,2\n".encode("latin-1"), NOT_LOCUSTS, id="not UTF-8"),
        pytest.param(lambda _: b"date,open,close\n2026-01-01,1,2\n", NOT_LOCUSTS, id="foreign"),
        pytest.param(lambda _: b'{"requests": 1}', NOT_LOCUSTS, id="JSON"),
        pytest.param(lambda _: FAILURES.encode(), NOT_LOCUSTS, id="failures"),
        pytest.param(lambda text: text.replace(b",300,", b",many,"), NOT_LOCUSTS, id="a word for a count"),
        pytest.param(lambda text: text.replace(b",300,", b",,"), NOT_LOCUSTS, id="nothing for a count"),
        pytest.param(lambda text: text.replace(b",30.0,", b",fast,"), NOT_LOCUSTS, id="a word for a rate"),
        pytest.param(lambda text: text.replace(b",2.0,", b",slow,"), NOT_LOCUSTS, id="a word for a percentile"),
        pytest.param(lambda text: text.replace(b",30.0,", b",inf,"), NOT_LOCUSTS, id="infinity"),
        pytest.param(lambda text: text.replace(b",30.0,", b",nan,"), NOT_LOCUSTS, id="not a number"),
    ],
)
def test_what_is_not_a_run_gets_one_line_that_says_why(tmp_path: Path, change: Change, sentence: str) -> None:
    file = tmp_path / "x.csv"
    file.write_bytes(change(good(tmp_path)))
    with pytest.raises(Unreadable, match=sentence) as caught:
        read(str(file))
    assert str(caught.value).startswith(f"{file}: ")
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_an_empty_folder_get_messages_of_their_own(tmp_path: Path) -> None:
    with pytest.raises(Unreadable, match=r"nothing: there is no such file, no such folder and no nothing_stats\.csv"):
        read(str(tmp_path / "nothing"))
    (tmp_path / "notes.txt").touch()
    write_history(tmp_path / "a_stats_history.csv", MOMENTS)
    with pytest.raises(Unreadable, match=r"this folder has none of"):
        read(str(tmp_path))


def test_a_file_cut_off_anywhere_is_never_taken_for_a_whole_one(tmp_path: Path) -> None:
    whole = good(tmp_path)
    file = tmp_path / "x_stats.csv"
    mistaken = []
    for length in range(len(whole) - 2):  # an editor may leave out the last line end
        file.write_bytes(whole[:length])
        try:
            (run,) = read(str(file))
        except Unreadable:
            continue
        mistaken.append((whole[:length][-20:], run.entries[TOTAL].percentiles.get("100%")))
    assert mistaken == []


def test_a_history_cut_off_anywhere_has_no_wrong_figure(tmp_path: Path) -> None:
    # As a killed Locust leaves it. Both are right: a message, or the rows before.
    write_stats(tmp_path / "x_stats.csv", WORD, LINE)
    file = write_history(tmp_path / "x_stats_history.csv", MOMENTS)
    whole = file.read_bytes()
    read_ones = 0
    for length in range(1, len(whole)):
        file.write_bytes(whole[:length])
        try:
            (run,) = read(str(tmp_path / "x"))
        except Unreadable:
            continue
        read_ones += 1
        assert run.history == HISTORY[: len(run.history)]
    assert read_ones


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        pytest.param(lambda _: b"", "it is empty", id="empty"),
        pytest.param(lambda text: text[:-60], "cut off", id="cut off"),
        pytest.param(lambda _: b"a,b\n1,2\n", NOT_LOCUSTS, id="foreign"),
        pytest.param(lambda text: text.replace(b",40,", b",many,"), NOT_LOCUSTS, id="a word for a count"),
        pytest.param(lambda text: text.replace(str(BEGAN + 1).encode(), b"then"), NOT_LOCUSTS, id="a word for a time"),
    ],
)
def test_what_is_not_a_history_gets_one_line_that_says_why(tmp_path: Path, change: Change, sentence: str) -> None:
    write_stats(tmp_path / "x_stats.csv", WORD, LINE)
    file = write_history(tmp_path / "x_stats_history.csv", MOMENTS)
    file.write_bytes(change(file.read_bytes()))
    with pytest.raises(Unreadable, match=sentence) as caught:
        read(str(tmp_path / "x"))
    assert str(caught.value).startswith(f"{file}: ")


def test_a_history_may_have_no_rows_yet_and_rows_of_each_name(tmp_path: Path) -> None:
    write_stats(tmp_path / "x_stats.csv", WORD, LINE)
    file = write_history(tmp_path / "x_stats_history.csv", MOMENTS)
    text = file.read_text()
    row = next(line for line in text.splitlines() if ",40," in line)
    file.write_text(text + row.replace(f",,{TOTAL},", ",TCP,word,") + "\n")  # --csv-full-history
    assert read(str(tmp_path / "x"))[0].history == HISTORY
    file.write_text(text.splitlines()[0] + "\n")
    assert read(str(tmp_path / "x"))[0].history == []


def timed(moments: Iterable[tuple[float, int]], rate: int = 7) -> Run:
    """Return a run of such seconds and users, with `rate` requests each second."""
    return Run("x", {}, [Moment(second, users, int(second * rate), 0, {}) for second, users in moments])


def seconds(run: Run) -> list[tuple[float, float]]:
    return [(begin.second, end.second) for begin, end in run.intervals()]


def test_intervals_begin_when_all_users_are_there_and_touch_each_other() -> None:
    ramp, steady = [0, 1, 2, 3, 4], [5] * 36
    run = timed((float(second), users) for second, users in enumerate([*ramp, *steady, 0]))
    assert seconds(run) == [(5, 15), (15, 25), (25, 35)]
    assert {end.requests - begin.requests for begin, end in run.intervals()} == {70}


def test_intervals_need_ten_seconds() -> None:
    assert seconds(timed((float(second), 5) for second in range(WINDOW))) == []
    assert seconds(timed((float(second), 5) for second in range(WINDOW + 1))) == [(0, 10)]
    assert seconds(Run("x", {}, [])) == []


def test_a_second_may_have_two_rows() -> None:
    # Locust writes whole seconds, and its last row right after the one before.
    times = [*range(11), 10, 10, *range(12, 21), 20]
    assert seconds(timed((float(second), 5) for second in times)) == [(0, 10), (10, 20)]


def test_without_users_there_are_no_intervals() -> None:
    assert seconds(timed((float(second), 0) for second in range(60))) == []


def test_intervals_do_not_span_a_time_when_users_were_missing() -> None:
    # A worker that is lost and comes back, or a shape with two peaks.
    run = timed((float(second), users) for second, users in enumerate([5] * 8 + [1] * 30 + [5] * 15))
    assert seconds(run) == [(38, 48)]


def test_intervals_do_not_span_a_reset_of_the_statistics() -> None:
    # The page's Reset, --reset-stats, or a second test with the same --csv: the counts begin anew.
    counts = [*range(0, 150, 10), *range(0, 250, 10)]
    run = Run("x", {}, [Moment(float(second), 5, count, 0, {}) for second, count in enumerate(counts)])
    assert [end.requests - begin.requests for begin, end in run.intervals()] == [100, 100, 100]


@given(st.lists(st.tuples(st.integers(1, 3), st.integers(0, 3)), max_size=80))
def test_intervals_never_overlap_and_have_all_users_all_the_time(rows: list[tuple[int, int]]) -> None:
    times = itertools.accumulate(step for step, _ in rows)
    run = timed([(float(second), users) for second, (_, users) in zip(times, rows, strict=True)])
    most = max((users for _, users in rows), default=0)
    for begin, end in run.intervals():
        assert WINDOW <= end.second - begin.second < WINDOW + 3  # rows are 1 to 3 s apart
        between = [moment for moment in run.history if begin.second <= moment.second <= end.second]
        assert {moment.users for moment in between} == {most}
        assert most
    for (_, end), (begin, _) in itertools.pairwise(run.intervals()):
        assert end.second <= begin.second


def test_messages_name_the_place_as_it_was_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    for place in ("nothing", "empty"):
        with pytest.raises(Unreadable, match=re.escape(f"{place}: ")):
            read(place)
