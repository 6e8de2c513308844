"""Does the network between Locust and the service lose packets, or is it slow? By TCP_INFO of each connection.

The kernel's figures are read when a connection is closed, and about once a second while it is open.
Only these show the network and nothing else:

- Segments that were sent again, once the peer has acknowledged any data of the connection. The
  peer's kernel acknowledges within ACK_DELAY, however slow the service is. A reply that gets lost
  shows too, because the acknowledgement of its request rides on it. Before the first
  acknowledgement the reason may also be a full backlog of the service, whose kernel then drops
  packets. So what was sent again to open a connection is counted apart.
- The shortest round-trip time: the peer's kernel has answered the handshake, and not the service.
- The smoothed round-trip time less ACK_DELAY: where an acknowledgement waits for the reply, the
  round-trip time contains the service's own time, but no more than ACK_DELAY of it.

So a queue in the network that delays packets by less than ACK_DELAY, and was not there when the
connection was opened, looks the same as a slow service.
"""

from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from locust_tcp.metrics.rounding import three_digits
from locust_tcp.metrics.snapshot import percentile

if TYPE_CHECKING:
    from locust_tcp.metrics.generator import GeneratorStats

ACK_DELAY = 200.0  # milliseconds; Linux delays an acknowledgement no longer (TCP_DELACK_MAX), and others less
LOSS_LIMIT = 0.01  # sent again for each exchange: each costs a timeout, so the 99th percentile is the network's
LOSS_SHARE = 0.001  # of the segments; large requests have many, and one in a thousand is usual across the world
LEAST_LOSSES = 10  # the true rate of ten counted events is within a factor of two (Poisson, 95 %)
PATH_LIMIT = 1.0  # milliseconds; a shorter round trip is within one machine or room
PATH_SHARE = 0.5  # of the response time: most of it is the network's
MOST_READ = 10  # connections for each tick of 20 ms: 2.5 us each, so an eighth of a percent of a core


class Connection(Protocol):
    """What this module asks of a connection; transport/timestamps.py says what `path` returns."""

    on_close: Callable[[Any], None] | None

    def path(self) -> tuple[int, int, bool, float, float] | None:
        """Return segments, sent_again, is_acknowledged, round_trip and shortest."""


class Paths:
    """Reads the kernel's figures of open connections in turn, and of each once more before it is closed.

    Args:
        stats: Returns where to count them.
    """

    def __init__(self, stats: "Callable[[], GeneratorStats]") -> None:
        self._stats = stats
        # Segments sent and sent again, when last read; None where the peer had acknowledged no data.
        self._open: OrderedDict[Connection, tuple[int, int] | None] = OrderedDict()

    def watch(self, connection: Connection) -> None:
        """Read a connection's figures from now on."""
        self._open[connection] = None
        connection.on_close = self._close

    def tick(self, ticks_per_second: float) -> None:
        """Read the figures of some connections, so that each has its turn about once a second."""
        for _ in range(min(MOST_READ, int(len(self._open) / ticks_per_second) + 1, len(self._open))):
            connection, before = self._open.popitem(last=False)
            self._open[connection] = self._count(connection, before, is_last=False)

    def _close(self, connection: Connection) -> None:
        self._count(connection, self._open.pop(connection, None), is_last=True)

    def _count(self, connection: Connection, before: tuple[int, int] | None, is_last: bool) -> tuple[int, int] | None:
        path = connection.path()
        if path is None:
            return before
        segments, sent_again, is_acknowledged, round_trip, shortest = path
        stats = self._stats()
        if is_acknowledged:
            stats.round_trips[three_digits(round_trip * 1000)] += 1
        if shortest:
            stats.shortest_trips[three_digits(shortest * 1000)] += 1
        if before:
            stats.segments += segments - before[0]
            stats.sent_again += sent_again - before[1]
        elif is_acknowledged or is_last:
            stats.opened += 1
            stats.opened_again += sent_again > 0
        return (segments, sent_again) if is_acknowledged else before


def network_finding(stats: "GeneratorStats", response_time: float) -> str:
    """Return a sentence on a network that loses packets or takes most of the response time; "" for any other.

    Args:
        stats: What was counted.
        response_time: The 95th percentile of the response times, in milliseconds.
    """
    shortest, typical = percentile(stats.shortest_trips, 0.5), percentile(stats.round_trips, 0.5)
    exchanges = stats.exchanges or stats.segments  # messages that are not answered are none
    if stats.sent_again >= max(LEAST_LOSSES, LOSS_LIMIT * exchanges, LOSS_SHARE * stats.segments):
        share, each = 100 * stats.sent_again / stats.segments, exchanges / stats.sent_again
        return (
            f"The network loses packets: {share:.3g} % of the segments were sent again ({stats.sent_again} of "
            f"{stats.segments}), one for each {each:.3g} exchanges, where the shortest round trip takes "
            f"{shortest:g} ms."
        )
    most = max(PATH_LIMIT, PATH_SHARE * response_time)
    if response_time and shortest >= most:
        return (
            f"The network is slow: a round trip takes {shortest:g} ms at the shortest, of response times of "
            f"{three_digits(response_time):g} ms (p95)."
        )
    if response_time and typical - ACK_DELAY >= most:
        return (
            f"The network is slow: a round trip takes {typical:g} ms, and {shortest:g} ms at the shortest, of response "
            f"times of {three_digits(response_time):g} ms (p95); the service explains {ACK_DELAY:g} ms of it at most."
        )
    if stats.opened_again >= LEAST_LOSSES and stats.opened_again >= LOSS_LIMIT * stats.opened:
        return (
            f"The network loses packets, or the service's backlog of connections is full: "
            f"{100 * stats.opened_again / stats.opened:.3g} % of the new connections had to send a packet again "
            f"({stats.opened_again} of {stats.opened})."
        )
    return ""
