"""A locustfile that is itself the limit, without need of a fast machine: its one task blocks the whole process."""

import gevent.monkey
from locust import constant, task

from locust_tcp import TcpUser

BLOCKED = 0.005  # seconds of each request, in which no other user of the process gets a turn

# Locust has put gevent's in the place of the standard library's, in which others get one.
sleep = gevent.monkey.get_original("time", "sleep")


class BlockingUser(TcpUser):
    """A user whose code takes long."""

    wait_time = constant(0)

    @task
    def word(self) -> None:
        sleep(BLOCKED)
        self.client.request("hello", name="word", expect="HELLO")
