"""Users that log in on each connection, wait briefly, and log out when they are stopped."""

from locust import between, task

from locust_tcp import TcpUser


class Visitor(TcpUser):
    """Makes one request for a login, and two for the transaction of its logout."""

    wait_time = between(0, 0.1)

    def on_connect(self) -> None:
        self.client.request("login", name="login", expect="LOGIN")

    @task
    def word(self) -> None:
        self.client.request("word", name="word", expect="WORD")

    def on_stop(self) -> None:
        with self.client.transaction("logout"):
            self.client.request("bye", expect="BYE")
            self.client.request("quit", expect="QUIT")
