"""`python -m capserver`: run the capitalization server until SIGINT or SIGTERM."""

import argparse
import contextlib
import errno
import ipaddress
import math
import os
import signal
import ssl
import sys
import threading
from collections.abc import Callable, Sequence

from capserver import HOST, PORT
from capserver.faults import KINDS, Fault, check
from capserver.lines import MAX_LINE
from capserver.server import IDLE, CapitalizationServer, address_text, default_threads, say


def whole_number(low: int, high: int) -> Callable[[str], int]:
    """Return an argparse type for a whole number from `low` to `high`."""

    def parse(text: str) -> int:
        if not text.isdecimal() or not low <= int(text) <= high:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {low} to {high}")
        return int(text)

    return parse


def seconds(text: str) -> float:
    """Parse a number of seconds, of which 0 is for ever; an argparse type."""
    with contextlib.suppress(ValueError):
        if 0 <= (number := float(text)) < math.inf:
            return number or math.inf
    raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds from 0")


def fault(text: str) -> Fault:
    """Parse a --fault; an argparse type."""
    try:
        return Fault.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def tls_context(certificate: str, key: str | None) -> ssl.SSLContext:
    """Return the context of a TLS server. Raises ValueError with what is wrong with the files."""

    def no_password() -> str:
        raise ValueError("the key has a password, which nobody is there to type")

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(certificate, key, no_password)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise ValueError("the key belongs to another certificate") from None
        raise ValueError("not a certificate and its private key, in PEM") from None
    except OSError as error:
        raise ValueError(error.strerror) from None
    return context


def parser() -> argparse.ArgumentParser:
    """Return the command line of the server."""
    count = whole_number(1, 1_000_000_000)
    command = argparse.ArgumentParser(
        prog="capserver",
        description="A threaded TCP server that sends each line back in upper case.",
    )
    command.add_argument("--host", default=HOST, help="the address to listen on (default: %(default)s)")
    command.add_argument(
        "--port", type=whole_number(0, 65535), default=PORT, help="0 picks one and says which (default: %(default)s)"
    )
    command.add_argument(
        "--pool",
        type=count,
        metavar="N",
        help="serve at most N connections at a time; the others stay connected and wait (default: no limit)",
    )
    command.add_argument(
        "--max-connections",
        type=count,
        metavar="N",
        help="tell those beyond N that the server is full, and close (default: no limit)",
    )
    command.add_argument(
        "--idle-timeout",
        type=seconds,
        default=IDLE,
        metavar="SECONDS",
        help="close a connection after so long without a line, or without reading; 0: never (default: %(default)g)",
    )
    command.add_argument(
        "--max-line",
        type=count,
        default=MAX_LINE,
        metavar="BYTES",
        help="the longest line answered (default: %(default)s)",
    )
    command.add_argument(
        "--threads",
        type=count,
        default=default_threads(),
        metavar="N",
        help="that serve; more than one pay off only where the interpreter has no global lock (here: %(default)s)",
    )
    command.add_argument("--tls-cert", metavar="FILE", help="serve TLS, with this certificate (PEM)")
    command.add_argument("--tls-key", metavar="FILE", help="its private key (default: in the same file)")
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
        "--seed",
        type=whole_number(0, 10**9),
        default=0,
        metavar="N",
        help="the same seed strikes the same replies (default: %(default)s)",
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
    if options.tls_key and not options.tls_cert:
        command.error("--tls-key goes with --tls-cert")
    try:
        tls = tls_context(options.tls_cert, options.tls_key) if options.tls_cert else None
    except ValueError as error:
        files = " and ".join(filter(None, (options.tls_cert, options.tls_key)))
        print(f"capserver: can't use {files} for TLS: {error}", file=sys.stderr)
        return 2
    with contextlib.suppress(ImportError, OSError, ValueError):  # Windows has no such limit
        import resource

        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        server = CapitalizationServer(
            options.host,
            options.port,
            pool=options.pool,
            max_connections=options.max_connections,
            max_line=options.max_line,
            idle=options.idle_timeout,
            threads=options.threads,
            verbose=options.verbose,
            faults=options.fault,
            seed=options.seed,
            tls=tls,
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
        server.stop()

    def stop_at_end_of_input() -> None:
        # Not by sys.stdin, whose lock this thread would still hold when the interpreter ends.
        while os.read(0, 4096):
            pass
        server.stop()

    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)
    if options.end_with_input:
        threading.Thread(target=stop_at_end_of_input, daemon=True).start()
    served = f", {options.pool} connections at a time" if options.pool else ""
    say(f"listening on {address_text(server.address)}{' with TLS' if tls else ''}{served}; Ctrl-C stops it")
    if not ipaddress.ip_address(str(server.address[0])).is_loopback:
        say("warning: other machines can reach this address")
    server.serve_forever()
    say(server.totals())
    return 0


if __name__ == "__main__":
    sys.exit(main())
