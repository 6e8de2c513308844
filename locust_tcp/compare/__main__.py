"""The command line: `python -m locust_tcp.compare A B [C ...]`, of which A is the baseline."""

import argparse
import errno
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from locust_tcp.compare import report
from locust_tcp.compare.chart import PAGE
from locust_tcp.compare.comparison import variants_of
from locust_tcp.compare.runs import Unreadable

BEGIN = PAGE[:15].encode()  # of each page that this command writes


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the comparison, and write its page with --html.

    Returns:
        The exit code: 0, or 2 where a file is not a run, or the table or the page can't be written.
    """
    parser = argparse.ArgumentParser(
        prog="python -m locust_tcp.compare",
        description="Compare runs of Locust by their CSVs. The first is the baseline.",
        epilog="Several runs of the same variant: A A2 A3 : B B2 B3, or a folder each.",
    )
    parser.add_argument(
        "runs", nargs="+", metavar="RUN", help="a requests CSV, the NAME given to --csv, a folder of these, or a colon"
    )
    parser.add_argument("--html", metavar="FILE", type=Path, help="write a page with tables and pictures too")
    options = parser.parse_args(arguments)
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # not each terminal has all letters
    try:
        variants = variants_of(options.runs)
    except Unreadable as error:
        return _fail(str(error))
    try:
        print(report.text(variants), flush=True)
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python writes the rest at its end
        if not isinstance(error, BrokenPipeError):  # `head` has read what it wants
            return _fail(f"can't write the table: {error.strerror}")
    try:
        if options.html:
            _write(options.html, report.page(variants))
    except OSError as error:
        return _fail(f"can't write {options.html}: {error.strerror}")
    return 0


def _write(file: Path, page: str) -> None:
    if file.is_file():
        with file.open("rb") as other:
            if other.read(len(BEGIN)) not in (BEGIN, b""):  # it may be one of the runs
                raise FileExistsError(errno.EEXIST, "there is a file of this name, and it is no page")
    file.write_text(page, encoding="utf-8", errors="backslashreplace")  # the name of a run may not be valid Unicode


def _fail(reason: str) -> int:
    print(f"compare: {report.printable(reason)}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
