"""Where a service listens: its address, written and looked up."""

import functools
import ssl
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from gevent import socket
from gevent.lock import BoundedSemaphore

from locust_tcp.transport.tls import tls_context

Address = tuple[int, tuple[Any, ...]]  # family, and numeric address as sockets take it


@dataclass
class Endpoint:
    """Where a service listens. Its name is looked up once and shared by every connection to it.

    Looking a name up takes one of the resolver's few threads: thousands of users that each did
    would spend their first seconds queueing.
    """

    name: str
    port: int
    is_tls: bool = False
    tls_ca: str | None = None
    tls_verify: bool = True
    _addresses: list[Address] = field(default_factory=list)
    _lookup: BoundedSemaphore = field(default_factory=lambda: BoundedSemaphore(1))

    @classmethod
    def parse(cls, host: str | None, tls_ca: str | None = None, tls_verify: bool = True) -> "Endpoint":
        """Return the endpoint that `[tcp://|tls://]name:port` or `[tcp://|tls://][::1]:port` names.

        For `tls_ca` and `tls_verify` see TcpUser. Raises ValueError with a sentence that says what
        is wrong and what to write instead.
        """
        if not host:
            raise ValueError("no host: write it as tcp://name:port, for example tcp://localhost:59898")
        scheme, separator, rest = host.removesuffix("/").rpartition("://")
        if separator and scheme not in ("tcp", "tls"):
            raise ValueError(f"host {host!r} is not a TCP service: write it as tcp://name:port, or tls://name:port")
        advice = "write it as tcp://name:port, with a port from 1 to 65535"
        try:
            parts = urlsplit(f"//{rest}")
            name, port = parts.hostname, parts.port
        except ValueError:
            raise ValueError(f"host {host!r} has a bad port: {advice}") from None
        if not name or not port or parts.netloc != rest:
            raise ValueError(f"host {host!r} has no {'port' if name and not port else 'plain name'}: {advice}")
        return cls(name, port, scheme == "tls", tls_ca, tls_verify)

    @functools.cached_property
    def tls(self) -> ssl.SSLContext | None:
        """How to talk TLS, where that is spoken. Raises ValueError where the CA file is of no use."""
        return tls_context(self.tls_ca, self.tls_verify) if self.is_tls else None

    def addresses(self) -> list[Address]:
        """Return (family, address) pairs, the one that worked last in front. Raises OSError."""
        if not self._addresses:
            with self._lookup:  # one look-up for all who wait here
                if not self._addresses:
                    found = socket.getaddrinfo(self.name, self.port, type=socket.SOCK_STREAM)
                    self._addresses = [(family, address) for family, _, _, _, address in found]
        return self._addresses

    def worked(self, address: Address) -> None:
        """Take note that somebody listens on one of the addresses, so that it is tried first.

        `localhost` is ::1 before it is 127.0.0.1, and a service often listens on one of them only.
        """
        if self._addresses[0] != address:
            self._addresses.remove(address)
            self._addresses.insert(0, address)
