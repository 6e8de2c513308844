"""python -m locust_tcp.compare as a command: what it prints, and one line for whatever is wrong."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from locust_tcp.compare import report
from locust_tcp.compare.comparison import variants_of
from tests import kit
from tests.compare.files import FAILURES, LINE, WORD, compare, write_stats


def test_the_command_prints_the_table_and_its_legend(folder: Path) -> None:
    done = compare(folder / "A", folder / "B_stats.csv")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{report.text(variants_of(['A', 'B']))}\n"
    assert "300 x1" in done.stdout


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        pytest.param("x_stats.csv", "", "it is empty", id="empty"),
        pytest.param("x_stats.csv", "a,b\n1,2\n", "not a CSV of Locust's", id="foreign"),
        pytest.param("x_stats.csv", FAILURES, "not a CSV of Locust's", id="failures"),
        pytest.param("x_stats.csv", "\0\1\2\udcff" * 50, "not a CSV of Locust's", id="binary"),
        pytest.param("other_stats.csv", "", "there is no such file", id="missing"),
        pytest.param("x_stats_history.csv", "", "there is no such file", id="a history alone"),
    ],
)
def test_a_bad_file_is_one_line_and_exit_code_2(folder: Path, name: str, content: str, sentence: str) -> None:
    (folder / name).write_text(content, encoding="utf-8", errors="surrogateescape")
    done = compare(folder / "A", folder / "x", "--html", folder / "page.html")
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(rf"compare: .*/x.*: .*{sentence}.*\n", done.stderr)
    assert not (folder / "page.html").exists()


@pytest.mark.parametrize(
    ("old", "new"), [(",300,", ",many,"), (",30.0,", ",inf,"), (",0.25,", ",nan,"), (",30.0,", ",1e308,")]
)
def test_a_figure_that_is_not_a_number_is_one_line_too(folder: Path, old: str, new: str) -> None:
    file = folder / "A_stats.csv"
    file.write_text(file.read_text().replace(old, new))
    done = compare(folder / "A", folder / "B")
    assert done.returncode == 2
    assert re.fullmatch(r"compare: .*A_stats\.csv: .*\n", done.stderr)


def test_a_page_that_can_not_be_written_is_one_line(folder: Path) -> None:
    for place in (folder / "nowhere" / "page.html", folder / "old"):
        done = compare(folder / "A", folder / "B", "--html", place)
        assert done.returncode == 2
        assert re.fullmatch(rf"compare: can't write {re.escape(str(place))}: .*\n", done.stderr)


@pytest.mark.parametrize("name", ["A_stats.csv", "link", "notes.txt"])
def test_a_page_overwrites_no_file_but_a_page(folder: Path, name: str) -> None:
    (folder / "link").symlink_to("A_stats.csv")
    (folder / "notes.txt").write_text("<html>")
    before = (folder / name).read_text()
    done = compare("A", "B", "--html", name, cwd=folder)
    assert (done.returncode, done.stderr) == (
        2,
        f"compare: can't write {name}: there is a file of this name, and it is no page\n",
    )
    assert (folder / name).read_text() == before
    for _ in range(2):
        assert compare("A", "B", "--html", "page.html", cwd=folder).returncode == 0


@pytest.mark.parametrize("letters", [200, 250])
def test_a_long_name_is_a_run_or_one_line(folder: Path, letters: int) -> None:
    name = letters * "n"
    write_stats(folder / f"{name[:240]}_stats.csv", ("TCP", name, 300, 3, 0.25), LINE)
    done = compare("A", name, "--html", f"{name}.html", cwd=folder)
    assert (done.returncode, done.stderr) == (
        (0, "") if letters == 200 else (2, f"compare: {name}: File name too long\n")
    )


def test_what_a_terminal_can_not_print_or_takes_for_a_command_is_escaped(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    write_stats(folder / "A_stats.csv", ("TCP", "gr\u00fc\u00df \x1b[2J\nnext", 300, 3, 0.25))
    done = compare("A", "B", cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert r"TCP gr\xfc\xdf \x1b[2J\nnext  A (only here)" in done.stdout
    done = compare("A", "\x1b[2J", cwd=folder)
    assert done.stderr.startswith(r"compare: \x1b[2J: there is no such file")


def test_a_place_that_can_not_be_read_is_one_line_that_names_it(folder: Path) -> None:
    place = "x" * 5000
    done = compare(folder / "A", place)
    assert done.returncode == 2
    assert re.fullmatch(rf"compare: {place}: .*\n", done.stderr)


def test_the_name_of_a_file_may_be_invalid_unicode(folder: Path) -> None:
    # Files of an old archive have such names. Python makes surrogates of these bytes, which are not
    # printable.
    name = b"caf\xe9".decode("utf-8", "surrogateescape")
    write_stats(folder / f"{name}_stats.csv", WORD, LINE)
    done = compare(folder / name, folder / "B", "--html", folder / "page.html")
    assert (done.returncode, done.stderr) == (0, "")
    assert "caf" in done.stdout
    assert "caf" in (folder / "page.html").read_text(encoding="utf-8")


def test_usage_explains_groups() -> None:
    done = compare("--help")
    assert done.returncode == 0
    assert "A A2 A3 : B B2 B3" in done.stdout
    assert compare().returncode == 2


def compare_into(output: int, folder: Path) -> tuple[int, str]:
    """Return the exit code and the errors of the command, which prints into a file descriptor and writes a page."""
    command = (sys.executable, "-m", "locust_tcp.compare", "A", "B", "--html", "page.html")
    environment = os.environ | {"PYTHONPATH": str(kit.KIT)}
    done = subprocess.run(
        command, cwd=folder, env=environment, stdout=output, stderr=subprocess.PIPE, text=True, timeout=kit.PATIENCE
    )
    return done.returncode, done.stderr


def test_a_reader_that_has_enough_ends_the_command_quietly(folder: Path) -> None:
    reads, writes = os.pipe()
    os.close(reads)  # as `head` that has ended
    try:
        assert compare_into(writes, folder) == (0, "")
    finally:
        os.close(writes)
    assert (folder / "page.html").read_text()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_table_that_can_not_be_written_is_one_line(folder: Path) -> None:
    with Path("/dev/full").open("w") as full:
        assert compare_into(full.fileno(), folder) == (2, "compare: can't write the table: No space left on device\n")
