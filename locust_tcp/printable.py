"""Log lines without control characters.

Names of requests, hosts and failures, what a service has sent and what its process prints are in the log. A newline in
one of them could pass for another line, and an escape sequence could change the terminal.
"""

import logging
import re
import textwrap

# Control characters, line separators, those that reverse the direction of text, and surrogates, which can't be encoded.
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
CONTROL_IN_LINES = re.compile(CONTROL.pattern.replace(r"\x00-\x1f", r"\x00-\x08\x0b-\x1f"))  # but tab and newline

# The kit's loggers, nomercy.py's, and the one that prints Locust's tables: each message of theirs is one line.
SINGLE_LINES = ("locust_tcp", "nomercy", "locust.stats_logger")
LOGGERS = ("locust", *SINGLE_LINES)  # a locustfile's own lines stay as they are


def escape_logs() -> None:
    """Escape control characters in what Locust's handlers write from now on."""
    for name in (None, "locust", "locust.stats_logger"):  # those to which Locust adds handlers
        for handler in logging.getLogger(name).handlers:
            handler.addFilter(_escape)


def _escape(record: logging.LogRecord) -> bool:
    """Change a record; a filter that lets all of them pass."""
    if _is_of(record, LOGGERS):
        record.msg = (CONTROL if _is_of(record, SINGLE_LINES) else CONTROL_IN_LINES).sub(_escaped, record.getMessage())
        record.args = None
        if record.exc_info and not record.exc_text:
            traceback = logging.Formatter().formatException(record.exc_info)
            record.exc_text = textwrap.indent(
                CONTROL_IN_LINES.sub(_escaped, traceback), "  "
            )  # so none passes for a line
    return True


def _is_of(record: logging.LogRecord, loggers: tuple[str, ...]) -> bool:
    return f"{record.name}.".startswith(tuple(f"{name}." for name in loggers))


def _escaped(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode()
