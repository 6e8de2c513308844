"""The command line: `python -m locust_tcp.compare A B [C ...]`, of which A is the baseline."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from locust_tcp.compare import report
from locust_tcp.compare.comparison import variants_of
from locust_tcp.compare.runs import Unreadable


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
    parser.add_argument("--html", metavar="FILE", help="write a page with tables and pictures too")
    options = parser.parse_args(arguments)
    try:
        variants = variants_of(options.runs)
    except Unreadable as error:
        print(f"compare: {error}", file=sys.stderr)
        return 2
    try:
        print(report.text(variants), flush=True)
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python writes the rest at its end
        if not isinstance(error, BrokenPipeError):  # `head` has read what it wants
            print(f"compare: can't write the table: {error.strerror}", file=sys.stderr)
            return 2
    try:
        if options.html:  # the name of a file may not be valid Unicode
            Path(options.html).write_text(report.page(variants), encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        print(f"compare: can't write {options.html}: {error.strerror}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
