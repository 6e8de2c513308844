"""Where a service listens: its address as it is written, and as it is looked up."""

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
    """Where a service listens. All connections to it share one look-up of its name.

    Each look-up takes one of the resolver's few threads. With one look-up for each user, thousands
    of users would spend their first seconds in its queue.

    Attributes:
        name: The service's name or numeric address; with TLS, its certificate has to be for that.
        port: The service's port.
        is_tls: Whether the service speaks TLS.
        tls_ca: See TcpUser.
        tls_verify: See TcpUser.
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
        """Return the endpoint that a host names.

        Args:
            host: `[tcp://|tls://]name:port`, where an IPv6 address is written as `[::1]`.
            tls_ca: See TcpUser.
            tls_verify: See TcpUser.

        Raises:
            ValueError: With a sentence that says what is wrong and what to write instead.
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
        """How to speak TLS to the service; None without TLS. Raises ValueError (bad CA file)."""
        return tls_context(self.tls_ca, self.tls_verify) if self.is_tls else None

    def addresses(self) -> list[Address]:
        """Return the addresses, the one that worked last in front. Raises OSError."""
        if not self._addresses:
            with self._lookup:  # one look-up for all greenlets that wait here
                if not self._addresses:
                    found = socket.getaddrinfo(self.name, self.port, type=socket.SOCK_STREAM)
                    self._addresses = [(family, address) for family, _, _, _, address in found]
        return self._addresses

    def worked(self, address: Address) -> None:
        """Note that the service listens on an address, so that it is tried first.

        `localhost` is ::1 before it is 127.0.0.1, and a service often listens on one of them only.
        """
        if self._addresses[0] != address:
            self._addresses.remove(address)
            self._addresses.insert(0, address)
