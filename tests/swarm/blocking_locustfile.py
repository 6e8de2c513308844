"""A locustfile that is itself the limit on any machine: its task blocks the whole process."""

import gevent.monkey
from locust import constant, task

from locust_tcp import TcpUser

BLOCKED = 0.005  # seconds of each request, during which no other user of the process gets a turn

# Locust has replaced the standard library's sleep by gevent's, during which other users get a turn.
sleep = gevent.monkey.get_original("time", "sleep")


class BlockingUser(TcpUser):
    """A user whose code takes long."""

    wait_time = constant(0)

    @task
    def word(self) -> None:
        sleep(BLOCKED)
        self.client.request("hello", name="word", expect="HELLO")
