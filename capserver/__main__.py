"""`python -m capserver`: run the capitalization server until SIGINT or SIGTERM."""

import argparse
import contextlib
import errno
import os
import signal
import ssl
import sys
import threading
from collections.abc import Callable

from capserver import HOST, PORT
from capserver.faults import KINDS, Fault
from capserver.lines import MAX_LINE
from capserver.server import CapitalizationServer, address_text

SWITCH = 1.0  # seconds; each thread that waits for the interpreter wakes up so often: 10,000 fill a core with 0.005
IDLE = 600  # seconds: longer than people think and Locust's users wait


def number(kind: type[int] | type[float], low: float, high: float = 10**9) -> Callable[[str], float]:
    """Return an argparse type for an int or a float from `low` to `high`."""

    def parse(text: str) -> float:
        with contextlib.suppress(ValueError):
            if low <= (value := kind(text)) <= high:
                return value
        raise argparse.ArgumentTypeError(f"{text!r} is not a {kind.__name__} from {low} to {high}")

    return parse


def parser() -> argparse.ArgumentParser:
    """Return the command line of the server."""
    command = argparse.ArgumentParser(prog="capserver", description="A threaded TCP server that capitalizes lines.")
    add, count, shown = command.add_argument, number(int, 1), "(default: %(default)s)"
    add("--host", default=HOST, help=f"the address to listen on {shown}")
    add("--port", type=number(int, 0, 65535), default=PORT, help=f"0 picks one and prints it {shown}")
    add("--pool", type=count, metavar="N", help="N threads serve one connection each; the others wait (default: none)")
    add("--max-connections", type=count, metavar="N", help="beyond N, a client gets an error (default: no limit)")
    limit = f"seconds without a line, or without reading, that end a connection; 0: never {shown}"
    add("--idle-timeout", type=number(float, 0), default=IDLE, metavar="SECONDS", help=limit)
    add("--max-line", type=count, default=MAX_LINE, metavar="BYTES", help=f"the longest line answered {shown}")
    # Threads that share the interpreter's lock are slower on several cores, which pass it to one another.
    cores = "one" if getattr(sys, "_is_gil_enabled", lambda: True)() else "all"
    add("--cores", choices=["one", "all"], default=cores, help=f"that the threads use {shown}")
    add("--tls-cert", metavar="FILE", help="serve TLS, with this certificate (PEM)")
    add("--tls-key", metavar="FILE", help="its private key (default: in the same file)")
    add("--verbose", action="store_true", help="print a line for each connection opened and closed")
    kinds = f"make a share of the replies go wrong; may be given several times. Kinds: {', '.join(KINDS)}"
    add("--fault", type=Fault.parse, action="append", default=[], metavar="KIND=RATE[:DETAIL]", help=kinds)
    add("--seed", type=number(int, 0), default=0, metavar="N", help=f"the same seed injects the same faults {shown}")
    add("--end-with-input", action="store_true", help="stop when standard input ends, as when its writer dies")
    return command


def tls_context(command: argparse.ArgumentParser, certificate: str, key: str | None) -> ssl.SSLContext:
    """Return the context of a TLS server. Ends the command where the files are of no use."""
    failed = f"capserver: can't use {' and '.join(filter(None, (certificate, key)))} for TLS: "
    locked = f"{failed}the key has a password; write it to the file without one\n"
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    # An end of the input, such as that of a stop, is an end without an alert. OpenSSL before 3 knows no other.
    context.options |= getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)
    try:
        context.load_cert_chain(certificate, key, lambda: command.exit(2, locked))
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            command.exit(2, f"{failed}the key belongs to another certificate\n")
        command.exit(2, f"{failed}not a certificate and its private key, in PEM\n")
    except OSError as error:
        command.exit(2, f"{failed}{error.strerror}\n")
    return context


def prepare_process(cores: str) -> None:
    """Set what the process has of the system: its cores, descriptors and standard streams."""
    if cores == "one" and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    sys.setswitchinterval(SWITCH)
    sys.unraisablehook = id  # does nothing, without memory too: the server sees which threads could not begin
    with contextlib.suppress(ImportError, OSError, ValueError):  # Windows has no such limit
        import resource

        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:  # one that was closed would be the next socket's
        pass
    os.close(descriptor)


def main() -> None:
    """Run the server until it is to stop. Exit with 2 where it can't listen."""
    command = parser()
    for text in sys.argv[1:]:
        if not text.isprintable():  # messages repeat what is given, and a terminal obeys control characters
            command.error(f"{text!r} has characters that can't be printed")
    options = command.parse_args()
    if sum(fault.rate for fault in options.fault if fault.kind != "refuse") > 1 + 1e-9:
        command.error("the rates of the faults add up to more than 1")
    if options.tls_key and not options.tls_cert:
        command.error("--tls-key goes with --tls-cert")
    prepare_process(options.cores)
    tls = tls_context(command, options.tls_cert, options.tls_key) if options.tls_cert else None
    try:
        server = CapitalizationServer(options, tls)
    except RuntimeError:
        command.exit(2, f"capserver: the system has no {options.pool} threads: choose a smaller --pool\n")
    except (OSError, UnicodeError) as error:  # UnicodeError: a name that can't be one
        why = str(getattr(error, "strerror", error)).partition(" (while")[0]  # what socket.create_server adds
        if getattr(error, "errno", 0) == errno.EADDRINUSE:  # also for a minute after a connection from that port
            why += ". Stop what uses it, wait a minute, or choose another --port."
        command.exit(2, f"capserver: can't listen on {address_text((options.host, options.port))}: {why}\n")

    def stop(*_: object) -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # a second signal ends it at once
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        server.stopping.set()

    def stop_at_end_of_input() -> None:
        while os.read(0, 4096):  # not by sys.stdin, whose lock this thread would still hold at the end
            pass
        server.stopping.set()

    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)
    if options.end_with_input:
        threading.Thread(target=stop_at_end_of_input, daemon=True).start()
    server.serve_forever()


if __name__ == "__main__":
    main()
