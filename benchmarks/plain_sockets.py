"""What speed.py measures as sockets without Locust: gevent's, in a loop that checks the reply and keeps no times.

python benchmarks/plain_sockets.py PORT USERS SECONDS
"""

import sys

import gevent
from gevent import socket

LINE, REPLY = b"hello world\n", b"HELLO WORLD\n"


def talk(port: int) -> None:
    """Send a line, and the next one when it is answered. Ends, with an error, at a wrong reply only."""
    with socket.create_connection(("127.0.0.1", port)) as sock:
        while True:
            sock.sendall(LINE)
            assert sock.recv(4096) == REPLY


if __name__ == "__main__":
    port, users, seconds = map(int, sys.argv[1:])
    greenlets = [gevent.spawn(talk, port) for _ in range(users)]
    gevent.sleep(seconds)
    sys.exit(any(greenlet.ready() for greenlet in greenlets))
