"""Locust's Hello World, aimed at a service without HTTP. Every request fails, on purpose.

Run `locust -f babylocustfile.py`, press Start and open the Failures tab. HTTP is text in lines, so
the capitalization server treats `GET /hello HTTP/1.1` as a line and sends it back in upper case.
The HTTP client expects `HTTP/1.1 200 OK` and reports BadStatusLine('GET /HELLO HTTP/1.1').

That is worth seeing once: the connection works, the server answers at once, the response times look
splendid, and still no request succeeds. A reply is a success only after it was checked, and a load
test must speak the protocol of its service. locustfile.py does both.
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
    """A user that requests two pages, once a second."""

    host = HOST
    wait_time = constant(1)

    @task
    def hello_world(self) -> None:
        self.client.get("/hello")
        self.client.get("/world")
