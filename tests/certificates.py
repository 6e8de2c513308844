"""Certificates for the tests' services: good ones, and ones that are not trusted."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

HERE = ("localhost", "127.0.0.1", "::1")  # what the tests' services are called
PASSWORD = b"capitalization"


@dataclass
class Certificates:
    """Where the files are (PEM). Each of a service's files has the certificate and its key, in this order."""

    folder: Path
    ca: Path
    """The authority that has signed all of them but `foreign`."""
    other_ca: Path
    """The authority that has signed `foreign`."""
    good: Path
    """Of the service, for each of its names."""
    dns_only: Path
    """The same without its addresses."""
    other_name: Path
    """Of another service."""
    expired: Path
    """Of the service, until yesterday."""
    foreign: Path
    """Of the service, signed by somebody whom nobody knows."""
    cert: Path
    """What `good` has, without the key."""
    key: Path
    """The key of `good` alone."""
    other_key: Path
    """The key of `other_name` alone."""
    locked_key: Path
    """The key of `good` behind a password."""


def make(folder: Path) -> Certificates:
    """Make an authority, another one and certificates of all kinds, as files in a folder."""
    authority, stranger = trustme.CA(), trustme.CA()

    def write(name: str, content: bytes) -> Path:
        file = folder / name
        file.write_bytes(content)
        return file

    def both(name: str, leaf: trustme.LeafCert) -> Path:
        return write(name, leaf.cert_chain_pems[0].bytes() + leaf.private_key_pem.bytes())

    now = datetime.now(UTC)
    good, other = authority.issue_cert(*HERE), authority.issue_cert("other.example")
    expired = authority.issue_cert(*HERE, not_before=now - timedelta(days=2), not_after=now - timedelta(days=1))
    key = load_pem_private_key(good.private_key_pem.bytes(), None)
    locked = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(PASSWORD))
    return Certificates(
        folder=folder,
        ca=write("ca.pem", authority.cert_pem.bytes()),
        other_ca=write("other-ca.pem", stranger.cert_pem.bytes()),
        good=both("good.pem", good),
        dns_only=both("dns-only.pem", authority.issue_cert("localhost")),
        other_name=both("other-name.pem", other),
        expired=both("expired.pem", expired),
        foreign=both("foreign.pem", stranger.issue_cert(*HERE)),
        cert=write("cert.pem", good.cert_chain_pems[0].bytes()),
        key=write("key.pem", good.private_key_pem.bytes()),
        other_key=write("other-key.pem", other.private_key_pem.bytes()),
        locked_key=write("locked-key.pem", locked),
    )
