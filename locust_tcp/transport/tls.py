"""TLS apart from sockets: what the network brings goes in, what is for it comes out.

The socket stays ours, so that the kernel can be asked when its bytes arrived; `ssl`'s own sockets
would read them where nobody can ask.
"""

import ssl

RECORD = 16 * 1024  # bytes; the most that a TLS record holds (RFC 8446, 5.1)


def tls_context(ca_file: str | None, verify: bool) -> ssl.SSLContext:
    """Return how to talk TLS to a service.

    Its certificate has to be for its name, and signed by an authority that the system trusts (or the
    file that SSL_CERT_FILE names), or by those in `ca_file`; without `verify` any one will do.
    Raises ValueError where the file is of no use.
    """
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except ssl.SSLError:
        raise ValueError(f"CA file {ca_file!r} has no certificate (PEM) in it") from None
    except OSError as error:
        raise ValueError(f"CA file {ca_file!r} can't be read: {error.strerror}") from None
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


class Tls:
    """Our side of one TLS connection to the service called `name`. Every method raises ssl.SSLError."""

    def __init__(self, context: ssl.SSLContext, name: str) -> None:
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._object = context.wrap_bio(self._incoming, self._outgoing, server_hostname=name)
        self.has_ended = False
        """Whether the service has said that it sends no more."""

    def shake_hands(self) -> bool:
        """Go on with the handshake as far as what has been received allows; return whether that was all."""
        try:
            self._object.do_handshake()
        except ssl.SSLWantReadError:
            return False
        return True

    def received(self, data: bytes) -> None:
        """Take what the network has brought."""
        self._incoming.write(data)

    def to_send(self) -> bytes:
        """Return what is for the network."""
        return self._outgoing.read()

    def encrypt(self, data: bytes) -> bytes:
        """Return what is for the network when `data` is for the service."""
        self._object.write(data)
        return self.to_send()

    def decrypt(self, data: bytes) -> bytes:
        """Return what the service says with what the network has brought: nothing, where that is not all of it."""
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
