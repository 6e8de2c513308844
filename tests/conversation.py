"""A user in this process, on a peer of the test's own: what its exchanges come to as events of Locust."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import gevent
from locust.env import Environment

from locust_tcp import TcpUser
from tests import kit, peers

Event = dict[str, Any]
Script = Callable[[TcpUser], Any]


class Conversation:
    """A user of a peer, and the events of its exchanges.

    Attributes:
        user: The user.
        events: The events, in the order of time, as Locust's listeners get them.
    """

    def __init__(self, user_class: type[TcpUser], host: str) -> None:
        environment = Environment(user_classes=[user_class], host=host)
        environment.create_local_runner()
        self.events: list[Event] = []
        environment.events.request.add_listener(lambda **event: self.events.append(event))
        user_class.host = host
        self.user: Any = user_class(environment)

    @property
    def outcomes(self) -> list[tuple[str, str | None]]:
        """The name of each event, and why its exchange failed."""
        return [(event["name"], event["exception"] and str(event["exception"])) for event in self.events]

    def event(self, name: str) -> Event:
        """Return the only event of this name."""
        (found,) = (event for event in self.events if event["name"] == name)
        return found

    def run(self, script: Script) -> Any:
        """Run code of the user in a greenlet, as Locust does; return what it returns."""
        return gevent.spawn(script, self.user).get(timeout=kit.PATIENCE)


@contextlib.contextmanager
def conversation(
    behave: peers.Behaviour, *, scheme: str = "tcp", name: str = "127.0.0.1", **attributes: Any
) -> Iterator[Conversation]:
    """Begin a conversation with a peer.

    Args:
        behave: What the peer does on each connection.
        scheme: Of the host.
        name: Of the host.
        **attributes: Those of the user's class.
    """
    user_class = type("User", (TcpUser,), {"timeout": 5.0, **attributes})
    with peers.peer(behave) as port:
        talk = Conversation(user_class, f"{scheme}://{name}:{port}")
        try:
            yield talk
        finally:
            talk.user.client.stop()
