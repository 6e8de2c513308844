"""A service that speaks first, as SMTP does: a line 5 ms after the handshake, then each line in upper case."""

import socket
import threading
import time

PAUSE = 0.005  # seconds


def serve(sock: socket.socket) -> None:
    """Greet, and answer, until the client leaves."""
    time.sleep(PAUSE)
    with sock, sock.makefile("rb") as lines:
        sock.sendall(b"220 welcome\n")
        for line in lines:
            sock.sendall(line.upper())


def main() -> None:
    """Listen on a port of the kernel's choice, and print it."""
    threading.stack_size(128 * 1024)
    with socket.create_server(("127.0.0.1", 0), backlog=4096) as listener:
        print(f"listening on {listener.getsockname()[1]}", flush=True)
        while True:
            sock, _ = listener.accept()
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=serve, args=(sock,), daemon=True).start()


if __name__ == "__main__":
    main()
