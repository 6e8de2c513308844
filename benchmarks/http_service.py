"""The HTTP service for speed.py's clients that can't do without: each GET gets twelve bytes, and connections are kept.

It takes a request to come in one piece, as small ones do on the loopback interface.

python benchmarks/http_service.py PORT
"""

import asyncio
import sys

REPLY = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 12\r\n\r\nHELLO WORLD\n"


class Protocol(asyncio.Protocol):
    """A connection."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        if data.startswith(b"GET / ") and data.endswith(b"\r\n\r\n"):
            self._transport.write(REPLY)
        else:
            self._transport.abort()


async def serve(port: int) -> None:
    """Serve until killed."""
    server = await asyncio.get_running_loop().create_server(Protocol, "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
