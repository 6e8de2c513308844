"""`python -m capserver`: run the capitalization server until SIGINT or SIGTERM."""

import argparse
import contextlib
import errno
import ipaddress
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence

from capserver import HOST, PORT
from capserver.faults import KINDS, Fault, check
from capserver.server import (
    MAX_LINE,
    POLL,
    STACK_SIZE,
    CapitalizationServer,
    address_text,
    say,
)


def whole_number(low: int, high: int) -> Callable[[str], int]:
    """Return an argparse type for a whole number from `low` to `high`."""

    def parse(text: str) -> int:
        if not text.isdecimal() or not low <= int(text) <= high:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {low} to {high}")
        return int(text)

    return parse


def fault(text: str) -> Fault:
    """Parse a --fault; an argparse type."""
    try:
        return Fault.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def parser() -> argparse.ArgumentParser:
    """Return the command line of the server."""
    count = whole_number(1, 1_000_000_000)
    command = argparse.ArgumentParser(
        prog="capserver",
        description="A threaded TCP server that sends each line back in upper case.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    command.add_argument("--host", default=HOST, help="the address to listen on")
    command.add_argument("--port", type=whole_number(0, 65535), default=PORT, help="0 picks one and says which")
    command.add_argument(
        "--pool",
        type=count,
        metavar="N",
        help="serve at most N connections at a time; the others stay connected and wait (default: no limit)",
    )
    command.add_argument("--max-line", type=count, default=MAX_LINE, metavar="BYTES", help="the longest line answered")
    command.add_argument("--verbose", action="store_true", help="a line for each connection opened and closed")
    command.add_argument(
        "--fault",
        type=fault,
        action="append",
        default=[],
        metavar="KIND=RATE[:DETAIL]",
        help=f"have a share of the replies go wrong; may be given several times. Kinds: {', '.join(KINDS)}",
    )
    command.add_argument(
        "--seed", type=whole_number(0, 10**9), default=0, metavar="N", help="the same seed strikes the same replies"
    )
    command.add_argument(
        "--end-with-input",
        action="store_true",
        help="stop when standard input ends, as it does when the program that holds its other end dies",
    )
    return command


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the server; return 0 after a stop that was asked for, 2 when it can't listen."""
    command = parser()
    options = command.parse_args(arguments)
    try:
        check(options.fault)
    except ValueError as error:
        command.error(str(error))
    threading.stack_size(STACK_SIZE)
    with contextlib.suppress(ImportError, OSError, ValueError):  # Windows has no such limit
        import resource

        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        server = CapitalizationServer(
            options.host,
            options.port,
            pool=options.pool,
            max_line=options.max_line,
            verbose=options.verbose,
            faults=options.fault,
            seed=options.seed,
        )
    except (OSError, UnicodeError) as error:  # UnicodeError: a name that can't be one
        where = address_text((options.host, options.port))
        why = str(error.strerror if isinstance(error, OSError) else error)
        if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
            # It may also be the near end of somebody's connection: those keep their port for a minute.
            why = f"{why}. Stop what uses it, wait a minute, or choose another --port."
        print(f"capserver: can't listen on {where}: {why}", file=sys.stderr)
        return 2

    def stop(*_: object) -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # a second signal ends it at once
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        # `shutdown` waits for `serve_forever`, which this handler interrupts: not from this thread
        threading.Thread(target=server.shutdown).start()

    def stop_at_end_of_input() -> None:
        # Not by sys.stdin, whose lock this thread would still hold when the interpreter ends.
        while os.read(0, 4096):
            pass
        server.shutdown()

    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)
    if options.end_with_input:
        threading.Thread(target=stop_at_end_of_input, daemon=True).start()
    served = f", {options.pool} connections at a time" if options.pool else ""
    say(f"listening on {address_text(server.server_address)}{served}; Ctrl-C stops it")
    if not ipaddress.ip_address(str(server.server_address[0])).is_loopback:
        say("warning: other machines can reach this address")
    server.serve_forever(POLL)
    server.drain()
    say(server.totals())
    return 0


if __name__ == "__main__":
    sys.exit(main())
