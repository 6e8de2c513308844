"""What server.py measures the bundled server beside: the same in the two ways that Python's library offers.

They do less than it: ASCII only, no longest line, no idle timeout.

python benchmarks/other_servers.py asyncio|socketserver|one-core PORT
"""

import asyncio
import os
import socketserver
import sys

HOST = "127.0.0.1"
BACKLOG = 4096  # as the bundled server has it


class Handler(socketserver.StreamRequestHandler):
    """A connection of the threaded server, with a thread of its own."""

    def handle(self) -> None:
        while line := self.rfile.readline():
            self.wfile.write(line.upper())


class ThreadedServer(socketserver.ThreadingTCPServer):
    """CPython's server with a thread for each connection."""

    allow_reuse_address = True
    request_queue_size = BACKLOG
    daemon_threads = True


class Protocol(asyncio.Protocol):
    """A connection of the asyncio server."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._begun = b""

    def data_received(self, data: bytes) -> None:
        *lines, self._begun = (self._begun + data).split(b"\n")
        self._transport.write(b"".join(line.upper() + b"\n" for line in lines))


async def serve(port: int) -> None:
    """Serve with asyncio until killed."""
    server = await asyncio.get_running_loop().create_server(Protocol, HOST, port, backlog=BACKLOG)
    await server.serve_forever()


if __name__ == "__main__":
    kind, port = sys.argv[1], int(sys.argv[2])
    if kind == "asyncio":
        asyncio.run(serve(port))
    else:
        if kind == "one-core":
            os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        ThreadedServer((HOST, port), Handler).serve_forever()
