"""Locust's Hello World, aimed at a service that does not speak HTTP. Every request fails, on purpose.

Run `locust -f babylocustfile.py`, press Start and open the Failures tab. HTTP is text in lines, so
the capitalization server takes `GET /hello HTTP/1.1` for a line and sends it back in upper case.
The HTTP client, which wanted to read `HTTP/1.1 200 OK`, reports BadStatusLine('GET /HELLO HTTP/1.1').

That is worth seeing once: the connection works, the server answers at once, the response times look
splendid, and still not one request succeeded. A response is not a success before somebody has looked
at it, and a load test has to speak the protocol of the service. locustfile.py does both.
"""

import sys
from pathlib import Path

from locust import HttpUser, constant, task

from locust_tcp import start_service

HOST = "http://localhost:59898"

start_service(
    HOST,
    [sys.executable, "-m", "capserver", "--end-with-input"],
    directory=Path(__file__).parent,
)


class HelloWorldUser(HttpUser):
    """A user who asks for two pages, once a second."""

    host = HOST
    wait_time = constant(1)

    @task
    def hello_world(self) -> None:
        self.client.get("/hello")
        self.client.get("/world")
