"""Why a connect or an exchange failed: a small fixed set of texts."""

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
REPLY: Final = "reply"
# ... and how. These are all the texts there are: details that vary go to the log.
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
NO_CA: Final = "Locust has no CA file"
WRONG: Final = "wrong"
TOO_MUCH: Final = "more than was asked for"
TOO_LONG: Final = "too long"
NOT_TEXT: Final = "not text"
NO_DESCRIPTORS: Final = "Locust out of file descriptors"
NO_PORTS: Final = "Locust out of local ports"
FAILED: Final = "failed"

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

# Of OpenSSL's include/openssl/x509_vfy.h: X509_V_ERR_HOSTNAME_MISMATCH and X509_V_ERR_IP_ADDRESS_MISMATCH
NAME_MISMATCHES = {62, 64}

ADVICE = {
    NOT_TRUSTED: "if an authority has signed it that this machine does not know, name its file with tls_ca (--tls-ca); "
    "tls_verify (--tls-verify no) switches verification off",
    NO_DESCRIPTORS: "every connection takes one. More: `ulimit -n 65536` in this terminal, then start Locust again",
    NO_PORTS: "each connection to one address takes one, and keeps it for a minute after its end. "
    'More: `sysctl -w net.ipv4.ip_local_port_range="1024 65535"`, persistent connections, or another machine',
}


@functools.cache
def warn_once(text: str) -> None:
    """Say what to do about a failure that is not the service's."""
    logger.warning("%s", text)


def _descriptor_is_left() -> bool:
    try:
        os.close(os.open(os.devnull, os.O_RDONLY))
    except OSError:
        return False
    return True


class TcpError(Exception):
    """Why a connect or an exchange failed.

    Its text is `what: how`, both from the constants above, so that the Failures page has one row
    per kind of failure and not one per failure.
    """

    def __init__(self, what: str, how: str) -> None:
        super().__init__(f"{what}: {how}")

    def __repr__(self) -> str:
        return str(self)  # Locust shows the repr

    @classmethod
    def of(cls, what: str, error: OSError) -> "TcpError":
        """Return the failure that an error of the operating system amounts to."""
        how = _HOW.get(error.errno or 0, FAILED)
        if isinstance(error, TimeoutError):
            how = TIMED_OUT
        elif isinstance(error, socket.gaierror):  # which is also how a look-up without a descriptor fails
            how = UNKNOWN_HOST if _descriptor_is_left() else NO_DESCRIPTORS
        elif isinstance(error, ssl.SSLCertVerificationError):
            how = OTHER_NAME if error.verify_code in NAME_MISMATCHES else NOT_TRUSTED
        elif isinstance(error, ssl.SSLError):
            how = NO_HANDSHAKE if what == CONNECT else BAD_TLS
        if how in ADVICE:
            # What OpenSSL says of a certificate is one of a few texts: expired, self-signed, ...
            why = f"{error.verify_message}; " if isinstance(error, ssl.SSLCertVerificationError) else ""
            warn_once(f"{how}: {why}{ADVICE[how]}")
        return cls(what, how)
