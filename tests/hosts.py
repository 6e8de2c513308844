"""Hosts of the tests' own, joined by a network: network namespaces, for which nobody has to be root.

Nothing of it can be seen from outside, so that it collides with nothing, and each host is no more than a
process that ends with the tests, so that there is nothing to take down.
"""

import contextlib
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator

from tests.kit import PATIENCE

NETWORK = "198.18.0"  # for tests of networks (RFC 2544)

# A host is this process. It makes sockets on that host for the tests, and ends when they do.
HOST = """
import socket
with socket.socket(fileno=0) as tests:
    while tests.recv(1):
        with socket.socket() as made:
            socket.send_fds(tests, [b"+"], [made.fileno()])
"""


class NotAllowed(Exception):
    """This machine has no networks for us, and why."""


class Host:
    """One host. The others reach it at `address`."""

    def __init__(self, stack: contextlib.ExitStack, number: int, *within: str) -> None:
        self.address = f"{NETWORK}.{number}"
        self._socket, theirs = socket.socketpair()
        stack.enter_context(self._socket)
        self._socket.settimeout(PATIENCE)
        with theirs:
            command = [*within, "unshare", "--net", sys.executable, "-c", HOST]
            started = subprocess.Popen(command, stdin=theirs.fileno(), stderr=subprocess.PIPE, text=True)
        process = stack.enter_context(started)
        stack.callback(self._socket.shutdown, socket.SHUT_RDWR)  # which ends it
        self.pid = process.pid
        try:
            self.socket().close()  # waits until it is there
        except (OSError, ValueError) as error:
            assert process.stderr
            raise NotAllowed(f"this machine allows no network of our own: {process.stderr.read()}") from error

    @property
    def here(self) -> tuple[str, ...]:
        """What to put before a command to have it run on this host, as the same process."""
        return ("nsenter", "--target", str(self.pid), "--user", "--preserve-credentials", "--net")

    def socket(self) -> socket.socket:
        """Return a TCP socket as a process on this host would make it."""
        self._socket.sendall(b"+")
        _, (descriptor,), _, _ = socket.recv_fds(self._socket, 1, 1)
        return socket.socket(fileno=descriptor)


@contextlib.contextmanager
def network(size: int) -> Iterator[list[Host]]:
    """Have some hosts for the length of a with-block, or raise NotAllowed."""
    if missing := [program for program in ("ip", "nsenter", "unshare") if not shutil.which(program)]:
        raise NotAllowed(f"there is no {' and no '.join(missing)} here")
    with contextlib.ExitStack() as stack:
        try:
            switch = Host(stack, 254, "unshare", "--user", "--map-root-user")
            hosts = [Host(stack, number, *switch.here) for number in range(1, size + 1)]
            _ip(switch, "link", "add", "switch", "type", "bridge")
            _ip(switch, "link", "set", "switch", "up")
            for number, host in enumerate(hosts):
                peer = ("peer", "name", "eth0", "netns", str(host.pid))
                _ip(switch, "link", "add", f"port{number}", "type", "veth", *peer)
                _ip(switch, "link", "set", f"port{number}", "master", "switch", "up")
                _ip(host, "address", "add", f"{host.address}/24", "dev", "eth0")
                _ip(host, "link", "set", "eth0", "up")
                _ip(host, "link", "set", "lo", "up")
        except subprocess.CalledProcessError as error:
            raise NotAllowed(f"this machine allows no network of our own: {error.stderr}") from error
        yield hosts


def _ip(host: Host, *command: str) -> None:
    subprocess.run([*host.here, "ip", *command], check=True, capture_output=True, text=True, timeout=PATIENCE)
