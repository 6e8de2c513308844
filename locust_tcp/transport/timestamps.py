"""When did these bytes arrive, how long did the handshake take, how good is the path? The kernel's figures, of Linux.

The kernel takes the time when a packet arrives at this host, long before a busy process reads it.
See SO_TIMESTAMPING in the kernel's Documentation/networking/timestamping.rst, and TCP_INFO in tcp(7).
"""

import contextlib
import functools
import platform
import socket
import struct
import sys
from typing import Any, NamedTuple

# Linux numbers the option like this on these machines, and their times have 64 bits.
MACHINES = {"x86_64", "aarch64", "ppc64le", "riscv64", "s390x"}
SUPPORTED = sys.platform == "linux" and platform.machine() in MACHINES

# From Linux's socket.h and net_tstamp.h.
SO_TIMESTAMPING = 37
SOF_TIMESTAMPING_RX_SOFTWARE = 1 << 3
SOF_TIMESTAMPING_SOFTWARE = 1 << 4
TIMESTAMPS = struct.Struct("=qq32x")  # three timespecs, of which the first is the software timestamp
# From Linux's linux/tcp.h: the state, the milliseconds since the last ACK arrived, the round-trip time in microseconds,
# and the segments that were sent again.
TCP_INFO = struct.Struct("=B55xI8xI28xI")
TCP_CLOSE = 7  # the state after a reset
# From the same: the round-trip time, the segments that were sent again, the bytes that the peer has acknowledged (the
# SYN counts as one), the shortest round-trip time, and the segments with data that were sent, again or not.
PATH_INFO = struct.Struct("=68xI28xI16xQ20xI4xI")
UNKNOWN_TIME = 0xFFFFFFFF
ANCILLARY = socket.CMSG_SPACE(TIMESTAMPS.size) if SUPPORTED else 0


class Path(NamedTuple):
    """What the kernel knows about the path of a connection, since it was opened.

    Attributes:
        segments: The segments with data that were sent, those that were sent again included.
        sent_again: The segments that were sent again, those of the handshake included.
        is_acknowledged: Whether the peer has acknowledged any data.
        round_trip: The smoothed round-trip time in seconds. Where an acknowledgement rides on the
            reply, this contains the time that the service takes.
        shortest: The shortest round-trip time in seconds; 0.0 where there is none. The kernel of
            the peer answers the handshake, so this contains no time of the service.
    """

    segments: int
    sent_again: int
    is_acknowledged: bool
    round_trip: float
    shortest: float


def ask_for_arrival_times(sock: Any) -> None:
    """Ask the kernel for the arrival times of what a socket receives. An old kernel has none."""
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPING, SOF_TIMESTAMPING_RX_SOFTWARE | SOF_TIMESTAMPING_SOFTWARE)


def receive(sock: Any, most: int) -> tuple[bytes, float]:
    """Read from a non-blocking socket whose arrival times were asked for.

    Returns:
        At most `most` bytes, and when the last of them arrived: seconds since the epoch, or 0.0
        where the kernel gives no time, as with the first packets after it was asked.
    """
    received, ancillary, _, _ = sock.recvmsg(most, ANCILLARY)
    if not ancillary:
        return received, 0.0
    seconds, nanoseconds = TIMESTAMPS.unpack(ancillary[0][2])  # nothing else was asked for
    return received, seconds + nanoseconds * 1e-9


def handshake_time(sock: Any, elapsed: float) -> float | None:
    """Return the seconds that TCP's handshake took, by the kernel; None where it does not say.

    Args:
        sock: A socket that has just been connected, and has sent nothing yet.
        elapsed: The seconds from before the connect until now, which contain Locust's own lag.
    """
    info = _tcp_info(sock)
    if info is None:
        return None
    _, since_ack, round_trip, sent_again = info
    if sent_again:  # the round trip is that of the last SYN, but the handshake began with the first one
        return max(0.0, elapsed - since_ack / 1000)
    return min(round_trip / 1e6, elapsed) if round_trip else None


def was_refused(sock: Any) -> bool:
    """Return whether the peer, which has closed its side, has reset the connection when more was sent."""
    info = _tcp_info(sock)
    return info is not None and info[0] == TCP_CLOSE


def path(sock: Any) -> Path | None:
    """Return what the kernel knows about the path of a connection; None where it does not say."""
    try:
        round_trip, sent_again, acknowledged, shortest, segments = PATH_INFO.unpack(
            sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, PATH_INFO.size)
        )
    except (OSError, struct.error):  # struct.error: a kernel before 4.6
        return None
    shortest = 0 if shortest == UNKNOWN_TIME else shortest
    return Path(segments, sent_again, acknowledged > 1, round_trip / 1e6, shortest / 1e6)


def _tcp_info(sock: Any) -> tuple[int, int, int, int] | None:
    if not SUPPORTED:
        return None
    try:
        state, since_ack, round_trip, sent_again = TCP_INFO.unpack(
            sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, TCP_INFO.size)
        )
    except (OSError, struct.error):
        return None
    return state, since_ack, round_trip, sent_again


def receive_untimed(sock: Any, most: int) -> tuple[bytes, float]:
    """Read from a non-blocking socket. As `receive`, without arrival times."""
    return sock.recv(most), 0.0


@functools.cache
def keep_arrival_times() -> socket.socket:
    """Keep the kernel's timestamps switched on for as long as this process lives.

    The kernel switches them off when the last socket that asked for them is closed, and needs some
    milliseconds to switch them on again. So one socket asks for them and does nothing else.
    """
    keeper = socket.socket()
    ask_for_arrival_times(keeper)
    return keeper
