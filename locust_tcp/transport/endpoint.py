"""Where a service listens: its address as it is written, and as it is looked up."""

import functools
import ipaddress
import ssl
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import gevent
from gevent import socket

from locust_tcp.transport.tls import tls_context

Address = tuple[int, tuple[Any, ...]]  # family, and numeric address as sockets take it

LOOK_UP_AGAIN = 1.0  # seconds after which a failed connect leads to another look-up: a swarm fails thousands of times
TRY_AGAIN = 10.0  # seconds until one connection tries an address that failed: a service that was restarted is found


@dataclass
class Endpoint:
    """Where a service listens. All connections to it share one look-up of its name.

    Each look-up takes one of the resolver's few threads. With one look-up for each user, thousands
    of users would spend their first seconds in its queue.

    Attributes:
        name: The service's name or numeric address; with TLS, its certificate has to be for that.
        port: The service's port.
        is_tls: Whether the service speaks TLS.
        tls_ca: See TcpUser; so are `tls_verify`, `tls_cert`, `tls_key` and `source_addresses`.
    """

    name: str
    port: int
    is_tls: bool = False
    tls_ca: str | None = None
    tls_verify: bool = True
    tls_cert: str | None = None
    tls_key: str | None = None
    source_addresses: Sequence[str] = ()
    _addresses: list[Address] = field(default_factory=list)
    _failed: dict[Address, float] = field(default_factory=dict)  # when to try them again, by time.monotonic
    _looked_up_at: float = 0.0
    _connections: int = 0
    _lookup: "gevent.Greenlet[..., OSError | None] | None" = None

    @classmethod
    def parse(cls, host: str | None, *options: Any) -> "Endpoint":
        """Return the endpoint that a host names.

        Args:
            host: `[tcp://|tls://]name:port`, where an IPv6 address is written as `[::1]`.
            *options: The attributes from `tls_ca` on.

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
        try:
            name.encode("idna")  # as the look-up does
        except UnicodeError:
            raise ValueError(f"host {host!r} has a bad name, with a part that is empty or too long: {advice}") from None
        endpoint = cls(name, port, scheme == "tls", *options)
        for source in endpoint.source_addresses:
            try:
                ipaddress.ip_address(source)
            except ValueError:
                raise ValueError(f"{source!r} in source_addresses is not an IP address, such as '127.0.0.2'") from None
        return endpoint

    @functools.cached_property
    def tls_context(self) -> ssl.SSLContext:
        """How to speak TLS to the service. Raises ValueError (a bad file)."""
        return tls_context(self.tls_ca, self.tls_verify, self.tls_cert, self.tls_key)

    @property
    def tls(self) -> ssl.SSLContext | None:
        """How to speak TLS from the start; None for a tcp:// host. Raises ValueError (a bad file)."""
        return self.tls_context if self.is_tls else None

    def addresses(self) -> list[Address]:
        """Return the addresses in the order in which the next connection tries them. Raises OSError.

        Each connection starts at the next address. Those that have failed are the last ones.
        """
        while not self._addresses:
            if self._lookup is None:
                self._lookup = gevent.spawn(self._look_up)
            if failure := self._lookup.get():
                raise failure.with_traceback(None)  # it is raised in each greenlet that waited
        addresses = self._addresses
        self._connections += 1
        if len(addresses) == 1:
            return addresses
        start = self._connections % len(addresses)
        return sorted(addresses[start:] + addresses[:start], key=self._is_failed)

    def _look_up(self) -> OSError | None:
        """Look the name up for all connections that wait for it; return why that failed."""
        try:
            found = socket.getaddrinfo(self.name, self.port, type=socket.SOCK_STREAM)
        except OSError as error:
            return error
        finally:
            self._lookup = None
        self._addresses = [(family, address) for family, _, _, _, address in found]
        self._looked_up_at = time.monotonic()
        return None

    def _is_failed(self, address: Address) -> bool:
        now = time.monotonic()
        if self._failed.get(address, now) > now:
            return True
        if address in self._failed:
            self._failed[address] = now + TRY_AGAIN  # this connection tries it, the others wait for what comes of it
        return False

    def worked(self, address: Address) -> None:
        """Note that the service listens on an address."""
        self._failed.pop(address, None)

    def failed(self, address: Address) -> None:
        """Note that connecting to an address failed, so that the others are tried before it.

        `localhost` is ::1 and 127.0.0.1, and a service often listens on one of them only.
        """
        self._failed[address] = time.monotonic() + TRY_AGAIN

    def forget_addresses(self) -> None:
        """Look the name up again for the next connection: all addresses have failed."""
        if time.monotonic() - self._looked_up_at >= LOOK_UP_AGAIN:
            self._addresses = []

    def next_source(self, family: int) -> str | None:
        """Return the source address of the next connection; None where the kernel chooses it."""
        sources = [each for each in self.source_addresses if (":" in each) == (family == socket.AF_INET6)]
        return sources[self._connections % len(sources)] if sources else None
