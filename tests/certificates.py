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

HERE = ("localhost", "127.0.0.1", "::1")  # the names of the tests' services
PASSWORD = b"capitalization"


@dataclass
class Certificates:
    """The files (PEM). A service's file has its certificate and then its key, unless it says otherwise.

    Attributes:
        folder: Where the files are.
        ca: The authority that has signed all of them but `foreign`.
        other_ca: The authority that has signed `foreign`.
        good: The service, by each of its names.
        dns_only: The service, without its numeric addresses.
        other_name: Another service.
        expired: The service, until yesterday.
        foreign: The service, signed by an unknown authority.
        cert: The certificate of `good`, without its key.
        key: The key of `good` alone.
        other_key: The key of `other_name` alone.
        locked_key: The key of `good`, behind a password.
    """

    folder: Path
    ca: Path
    other_ca: Path
    good: Path
    dns_only: Path
    other_name: Path
    expired: Path
    foreign: Path
    cert: Path
    key: Path
    other_key: Path
    locked_key: Path


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
