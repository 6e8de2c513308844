"""TcpUser's own task set: Locust's default one, on schedule from the first task, with cheaper turns and picks."""

import contextlib
import random
from collections import deque
from types import FunctionType
from typing import Any

import gevent
from locust import TaskSet, User
from locust.exception import StopUser
from locust.user.task import LOCUST_STATE_RUNNING, LOCUST_STATE_STOPPING, LOCUST_STATE_WAITING, DefaultTaskSet

from locust_tcp.patches.guard import Patch

TURNS = 100  # users in a row, before the event loop may look at the network; gevent has it look every 5 ms

PATCH = Patch(
    lost="TcpUser's own task set: each task takes a few microseconds more",
    tested={
        "locust.user.users:User.run": {
            "3e7bdb992373e5e4",  # 2.32.0
            "306ba2ed4a33b2b6",  # 2.40.0
            "8b52e8926781fb54",  # 2.43.0
            "3dab5944c5686284",  # 2.47.0
        },
        "locust.user.users:User.wait": {"90133816802cba4e"},
        "locust.user.task:TaskSet.run": {
            "3cf75ea85f8e7423",  # 2.32.0
            "4db8f38bcb197f27",  # 2.43.0
        },
        "locust.user.task:TaskSet.wait": {"6eb57b4538d99ace"},
        "locust.user.task:TaskSet._sleep": {"0faef9ec5d2fced1"},
        "locust.user.task:TaskSet.execute_next_task": {"6f75dc2675373db2"},
        "locust.user.task:DefaultTaskSet.execute_task": {"1373dab8ac86eb6a"},
        "locust.user.task:DefaultTaskSet.get_next_task": {"c7697bf822a5476c"},
    },
)


class _Turns:
    """Gives each greenlet that asks for it a turn, in the order of asking.

    All turns together take one callback of the event loop. gevent.sleep(0) takes one for each.
    """

    def __init__(self) -> None:
        self._waiting: deque[Any] = deque()
        self._is_called = False

    def wait(self) -> None:
        """Wait for the next turn."""
        self._call()
        greenlet = gevent.getcurrent()
        self._waiting.append(greenlet)
        try:
            gevent.get_hub().switch()
        except BaseException:  # a stopped greenlet may wait for something else before it ends
            with contextlib.suppress(ValueError):
                self._waiting.remove(greenlet)
            raise

    def _call(self) -> None:
        if not self._is_called:
            self._is_called = True
            gevent.get_hub().loop.run_callback(self._give)

    def _give(self) -> None:
        self._is_called = False
        for _ in range(min(TURNS, len(self._waiting))):
            if self._waiting:  # a greenlet that had its turn may have stopped another
                self._waiting.popleft().switch()
        if self._waiting:
            self._call()


_turns = _Turns()


class ScheduledTaskSet(DefaultTaskSet):
    """Runs the tasks of a TcpUser as Locust's DefaultTaskSet does. On a schedule the first task waits too."""

    def on_start(self) -> None:
        """Wait for the first task's due time. Locust calls this after the user's on_start."""
        if getattr(self.user.wait_time, "is_schedule", False):
            self.wait()


class TcpTaskSet(ScheduledTaskSet):
    """Does the same at less cost."""

    def wait(self) -> None:
        """Wait between two tasks. Locust's method gives the turn with gevent.sleep(0)."""
        user = self._user
        if user._state == LOCUST_STATE_STOPPING:
            raise StopUser
        user._state = LOCUST_STATE_WAITING
        seconds = self.wait_time()
        if seconds > 0:
            self._sleep(seconds)
        else:
            _turns.wait()
        if user._state == LOCUST_STATE_STOPPING:
            raise StopUser
        user._state = LOCUST_STATE_RUNNING

    def execute_next_task(self) -> None:
        """Run one task after another, until an exception ends that. Locust's loop then comes back here.

        A turn of that loop costs as much as a system call.
        """
        user, queue = self._user, self._task_queue
        while True:
            task = queue.popleft() if queue else self.get_next_task()
            if type(task) is FunctionType:
                task(user)
            else:
                self.execute_task(task)
            self.wait()

    def get_next_task(self) -> Any:
        """Pick a task at random. Locust's random.choice may draw more than once."""
        tasks = self._user.tasks
        return tasks[int(random.random() * len(tasks))] if tasks else super().get_next_task()


class TaskSetAttribute:
    """The attribute in which User.run keeps its DefaultTaskSet: a task set of the kit takes its place.

    User.run is final, and differs between releases. Without a `__get__`, the attribute is read
    from the user as any other.
    """

    def __set__(self, user: User, task_set: TaskSet | None) -> None:
        if type(task_set) is DefaultTaskSet:
            task_set = TcpTaskSet(user) if PATCH.applied else ScheduledTaskSet(user)
        user.__dict__["_taskset_instance"] = task_set
