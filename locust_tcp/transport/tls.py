"""TLS apart from sockets: encrypted bytes go in, data comes out, and the other way round.

stream.py reads the socket itself, because the kernel returns the arrival times with the bytes. The
sockets of `ssl` would read the bytes and drop the times.
"""

import contextlib
import os
import ssl
from pathlib import Path

RECORD = 16 * 1024  # bytes; the most that a TLS record holds (RFC 8446, 5.1)


def tls_context(
    ca_file: str | None, verify: bool, cert_file: str | None = None, key_file: str | None = None
) -> ssl.SSLContext:
    """Return how to speak TLS to a service.

    Args:
        ca_file: A file of authorities (PEM), one of which must have signed the service's
            certificate. None: those that the system trusts, or those in the file SSL_CERT_FILE.
        verify: Whether the certificate has to be trusted, and for the service's name.
        cert_file: The client's own certificate (PEM), for a service that asks for one.
        key_file: The private key of that certificate. None: it is in the same file.

    Raises:
        ValueError: A file can't be read, or has not in it what it should.
    """
    for file in filter(None, (ca_file, cert_file, key_file)):
        check_is_regular(file)
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except ssl.SSLError:
        raise ValueError(f"CA file {ca_file!r} has no certificate (PEM) in it") from None
    except OSError as error:
        raise ValueError(f"CA file {ca_file!r} can't be read: {error.strerror}") from None
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if cert_file:
        _load_certificate(context, cert_file, key_file)
    elif key_file:
        raise ValueError(f"the TLS key {key_file!r} goes with a certificate: name it too")
    return context


def check_is_regular(file: str) -> None:
    """Raise ValueError if a path names a terminal, a pipe or a folder: opening one may block for ever."""
    if Path(file).exists() and not Path(file).is_file():
        raise ValueError(f"TLS file {file!r} is not a regular file")


def _load_certificate(context: ssl.SSLContext, cert_file: str, key_file: str | None) -> None:
    def no_password() -> str:
        raise ValueError(f"the TLS key {key_file or cert_file!r} has a password: give one without")

    try:
        context.load_cert_chain(cert_file, key_file, no_password)
    except ssl.SSLError as error:
        files = f"{cert_file!r} and {key_file!r}" if key_file else f"{cert_file!r}"
        if error.reason == "KEY_VALUES_MISMATCH":
            raise ValueError(f"{files}: the TLS key belongs to another certificate") from None
        raise ValueError(f"{files}: not a certificate and its private key, in PEM") from None
    except OSError as error:  # which does not say in which of the files
        unreadable = next((file for file in (cert_file, key_file) if file and not os.access(file, os.R_OK)), cert_file)
        raise ValueError(f"TLS file {unreadable!r} can't be read: {error.strerror}") from None


class Tls:
    """The client's side of one TLS connection. Every method raises ssl.SSLError.

    Args:
        context: How to speak TLS, from tls_context().
        name: The name that the service's certificate has to be for.

    Attributes:
        has_ended: Whether the service has said that it sends no more (close_notify).
    """

    has_ended = False

    def __init__(self, context: ssl.SSLContext, name: str) -> None:
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._object = context.wrap_bio(self._incoming, self._outgoing, server_hostname=name)

    def shake_hands(self) -> bool:
        """Continue the handshake with what was received; return whether it is complete."""
        try:
            self._object.do_handshake()
        except ssl.SSLWantReadError:
            return False
        return True

    def received(self, data: bytes) -> None:
        """Take bytes that the network brought."""
        self._incoming.write(data)

    def to_send(self) -> bytes:
        """Return the bytes that are due to be sent."""
        return self._outgoing.read()

    def encrypt(self, data: bytes) -> bytes:
        """Return the bytes to send for some data."""
        self._object.write(data)
        return self.to_send()

    def goodbye(self) -> bytes:
        """Return the bytes that tell the service that no more is sent (close_notify; RFC 8446, 6.1)."""
        with contextlib.suppress(ssl.SSLWantReadError):  # for the service's own, which is not awaited
            self._object.unwrap()
        return self.to_send()

    def decrypt(self, data: bytes) -> bytes:
        """Return the data in bytes that the network brought: none while a record is incomplete."""
        self.received(data)
        plain = b""
        try:
            while piece := self._object.read(RECORD):
                plain += piece
            self.has_ended = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self.has_ended = True
        return plain
