"""Whose turn it is to use a client: one greenlet at a time, for an exchange or for a scope of several."""

from collections.abc import Callable
from typing import Any

from gevent import getcurrent
from gevent.event import Event

from locust_tcp.transport.connection import Connection
from locust_tcp.transport.errors import TcpError


class Scope:
    """Exchanges that succeed or fail together: those of on_connect, or those of a transaction.

    Args:
        transaction: The name of the transaction; None for on_connect, whose exchanges are events of their own.

    Attributes:
        has_failed: Whether one of them has failed. No more of them are then made.
        failure: Why, where an exchange was made and failed.
        start_time: When the first of them began, in seconds since the epoch; None before.
        seconds: The sum of their response times; None where none has one.
        size: The sum of their bytes.
    """

    def __init__(self, transaction: str | None = None) -> None:
        self.transaction = transaction
        self.has_failed = False
        self.failure: TcpError | None = None
        self.start_time: float | None = None
        self.seconds: float | None = None
        self.size = 0

    def add(self, start_time: float, seconds: float | None, size: int, failure: TcpError | None) -> None:
        """Add an exchange that was made."""
        if self.start_time is None:
            self.start_time = start_time
        if seconds is not None:
            self.seconds = (self.seconds or 0.0) + seconds
        self.size += size
        self.failure = self.failure or failure
        self.has_failed = self.failure is not None


class Turns:
    """Gives the greenlets that use a client their turns, in the order of asking.

    A with-block is a turn for one exchange. It yields the connection; None where there is none to be had,
    or where the scope has failed. An exception that leaves the block closes the connection.

    Args:
        connect: Opens a connection, which becomes the attribute, unless that fails.

    Attributes:
        connection: The client's connection, if one is open.
        scope: The scope whose exchanges are made now.
    """

    def __init__(self, connect: Callable[[], None]) -> None:
        self.connection: Connection | None = None
        self.scope: Scope | None = None
        self._connect = connect
        self._owner: Any = None  # the greenlet whose turn it is
        self._waiting: list[Event] = []  # one for each greenlet that waits for its turn

    def __enter__(self) -> Connection | None:
        if self._owner is None:
            self._owner = getcurrent()
        else:
            self.take()
            if self.scope and self.scope.has_failed:
                return None
        if self.connection is None:
            try:
                self._connect()
            except BaseException:
                self.drop()
                self.give()
                raise
        return self.connection

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if error is not None:  # a stopped user, or a mistake in the locustfile
            self.drop()
        if self.scope is None:
            self._owner = None
            if self._waiting:
                self._hand_over()

    def drop(self) -> None:
        """Close the connection, if there is one."""
        if self.connection:
            self.connection.close()
            self.connection = None

    def take(self) -> None:
        """Wait for a turn. In a scope its greenlet has it already.

        Raises:
            RuntimeError: The greenlet is in the middle of an exchange: it would wait for itself.
        """
        greenlet = getcurrent()
        if self._owner is None:
            self._owner = greenlet
        elif self._owner is not greenlet:
            self._wait(greenlet)
        elif self.scope is None:
            raise RuntimeError("an exchange in the middle of another one: read and expect can't use the client")

    def give(self) -> None:
        """End the turn, unless it is that of a scope."""
        self.__exit__(None, None, None)

    def _hand_over(self) -> None:
        """Let the greenlet go on that has waited longest."""
        self._owner = turn = self._waiting.pop(0)
        turn.set()

    def _wait(self, greenlet: Any) -> None:
        turn = Event()
        self._waiting.append(turn)
        try:
            turn.wait()
        except BaseException:  # it was stopped
            if turn.is_set():
                self.give()
            else:
                self._waiting.remove(turn)
            raise
        self._owner = greenlet
