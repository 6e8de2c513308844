"""Why a connect or an exchange failed: a small, fixed set of texts."""

import errno
import functools
import logging
import os
import socket
import ssl
from typing import Final

logger = logging.getLogger(__name__)

# What failed ...
CONNECT: Final = "connect"
SEND: Final = "send"
REPLY: Final = "reply"
STARTTLS: Final = "starttls"
# ... and how. There are no other texts: details that vary go to the log.
REFUSED: Final = "refused"
TIMED_OUT: Final = "timed out"
CLOSED: Final = "closed"
CUT_SHORT: Final = "closed halfway"
RESET: Final = "reset"
UNREACHABLE: Final = "unreachable"
UNKNOWN_HOST: Final = "unknown host"
NOT_TRUSTED: Final = "certificate not trusted"
OTHER_NAME: Final = "certificate for another name"
NO_HANDSHAKE: Final = "TLS handshake failed"
BAD_TLS: Final = "TLS failed"
CERT_REFUSED: Final = "client certificate refused"
NO_FILE: Final = "Locust can't use its TLS files"
NO_SOURCE: Final = "Locust has no such source address"
WRONG: Final = "wrong"
TOO_MUCH: Final = "more than was asked for"
TOO_LONG: Final = "too long"
NOT_TEXT: Final = "not text"
NO_DESCRIPTORS: Final = "Locust out of file descriptors"
NO_PORTS: Final = "Locust out of local ports"
FAILED: Final = "failed"

# Failures that nothing but the service causes, with what it has done. The table in docs/failures.md agrees with this.
SERVICES = {
    f"{CONNECT}: {REFUSED}": "it took no more connections",
    f"{CONNECT}: {RESET}": "it took no more connections",
    f"{SEND}: {CLOSED}": "it closed connections that waited for the next request",
    f"{SEND}: {RESET}": "it closed connections that waited for the next request",
    f"{SEND}: {TIMED_OUT}": "it did not read the requests in time",
    f"{REPLY}: {TIMED_OUT}": "the requests were sent, and its replies did not come in time",
    f"{REPLY}: {CLOSED}": "the requests were sent, and it closed the connections instead of a reply",
    f"{REPLY}: {CUT_SHORT}": "the requests were sent, and it closed the connections in the middle of a reply",
    f"{REPLY}: {RESET}": "the requests were sent, and it reset the connections instead of a reply",
}

LONGEST = 60  # characters of a text that a locustfile chooses: a row of the Failures page has no room for more

_HOW = {
    errno.ECONNREFUSED: REFUSED,
    errno.ECONNRESET: RESET,
    errno.ECONNABORTED: RESET,
    errno.EPIPE: RESET,
    errno.ETIMEDOUT: TIMED_OUT,
    errno.EHOSTUNREACH: UNREACHABLE,
    errno.ENETUNREACH: UNREACHABLE,
    errno.EMFILE: NO_DESCRIPTORS,
    errno.ENFILE: NO_DESCRIPTORS,
    errno.EADDRNOTAVAIL: NO_PORTS,
}

# From OpenSSL's x509_vfy.h: X509_V_ERR_HOSTNAME_MISMATCH and X509_V_ERR_IP_ADDRESS_MISMATCH
NAME_MISMATCHES = {62, 64}

# OpenSSL's names of the alerts with which a service refuses a client's certificate, or the lack of one (RFC 8446, 6.2).
CERT_ALERTS = {
    f"{version}_ALERT_{alert}"
    for version in ("TLSV13", "TLSV1", "SSLV3")
    for alert in (
        *("CERTIFICATE_REQUIRED", "BAD_CERTIFICATE", "UNSUPPORTED_CERTIFICATE", "CERTIFICATE_REVOKED"),
        *("CERTIFICATE_EXPIRED", "CERTIFICATE_UNKNOWN", "UNKNOWN_CA", "ACCESS_DENIED"),
    )
}

ADVICE = {
    NOT_TRUSTED: "where a private authority has signed it, name the authority's file with tls_ca (--tls-ca); "
    "tls_verify (--tls-verify no) switches verification off",
    CERT_REFUSED: "the service wants a certificate of the client that it trusts: name its file with tls_cert "
    "(--tls-client-cert), and its key's with tls_key (--tls-client-key)",
    NO_SOURCE: "source_addresses may name addresses of this machine only; `ip address` lists them",
    NO_DESCRIPTORS: "every connection takes one. More: `ulimit -n 65536` in this terminal, then start Locust again",
    NO_PORTS: "each connection to one address takes one, and keeps it for a minute after its end. "
    'More: `sysctl -w net.ipv4.ip_local_port_range="1024 65535"`, persistent connections, or another machine',
}


@functools.cache
def warn_once(text: str) -> None:
    """Log what to do about a failure that the service did not cause. Each text is logged once."""
    logger.warning("%s", text)


_logged: set[tuple[type[Exception], str, int]] = set()


def log_once(text: str, error: Exception) -> None:
    """Log a text with the traceback of an error. Errors of one kind from one line of code are logged once."""
    frame = error.__traceback__
    while frame and frame.tb_next:
        frame = frame.tb_next
    code = (frame.tb_frame.f_code.co_filename, frame.tb_lineno) if frame else ("", 0)
    if (type(error), *code) not in _logged:
        _logged.add((type(error), *code))
        logger.warning("%s", text, exc_info=error)


def _descriptor_is_left() -> bool:
    """Return whether this process may open another file."""
    try:
        os.close(os.open(os.devnull, os.O_RDONLY))
    except OSError:
        return False
    return True


class SourceAddressError(OSError):
    """A connection can't start at one of the source addresses."""


class TcpError(Exception):
    """Why a connect or an exchange failed.

    Its text is `what: how`, both from the constants above. So the Failures page has one row for
    each kind of failure, not one for each failure.

    Args:
        what: What failed: CONNECT, SEND, REPLY or STARTTLS.
        how: One of the other texts.
    """

    def __init__(self, what: str, how: str) -> None:
        super().__init__(f"{what}: {how}")
        self.what, self.how = what, how

    def __repr__(self) -> str:
        return str(self)  # Locust shows the repr

    @classmethod
    def of(cls, what: str, error: OSError) -> "TcpError":
        """Return the failure that an error means. For some, log once what to do about it.

        Args:
            what: What failed: CONNECT, SEND, REPLY or STARTTLS.
            error: An error of the operating system, the resolver or TLS.
        """
        how = _HOW.get(error.errno or 0, FAILED)
        if isinstance(error, TimeoutError):
            how = TIMED_OUT
        elif isinstance(error, socket.gaierror):  # the same error where no file descriptor is left
            how = UNKNOWN_HOST if _descriptor_is_left() else NO_DESCRIPTORS
        elif isinstance(error, ssl.SSLCertVerificationError):
            how = OTHER_NAME if error.verify_code in NAME_MISMATCHES else NOT_TRUSTED
        elif isinstance(error, ssl.SSLError) and getattr(error, "reason", None) in CERT_ALERTS:
            how = CERT_REFUSED
        elif isinstance(error, ssl.SSLError):
            how = NO_HANDSHAKE if what in (CONNECT, STARTTLS) else BAD_TLS
        elif isinstance(error, SourceAddressError):
            how = NO_SOURCE
        if how in ADVICE:
            # OpenSSL has few texts for a certificate, such as "certificate has expired".
            why = f"{error.verify_message}; " if isinstance(error, ssl.SSLCertVerificationError) else ""
            warn_once(f"{how}: {why}{ADVICE[how]}")
        return cls(what, how)


class ServiceError(TcpError):
    """The service has answered with an error of its own. For `read` and `expect` functions to raise.

    Args:
        text: What the Failures page shows after `reply:`. Each text is a row there, so choose from a
            few, such as the service's error codes; what varies with the payload is no such text.
    """

    def __init__(self, text: str = "error") -> None:
        super().__init__(REPLY, " ".join(text.split())[:LONGEST])
