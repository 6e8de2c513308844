"""A swarm on the capitalization server: run `locust`, open http://localhost:8089, press Start.

The server sends back each line in upper case. A swarm is many simulated users that send lines at
the same time. This file says what a user does, how often, and which reply is right. For a service
of your own, copy this file and change it.
"""

import sys
from pathlib import Path
from typing import Any

from locust import constant, events, task
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment

from locust_tcp import TcpUser, ca_file, number, on_schedule, start_service, tls_file

HOST = "tcp://localhost:59898"  # the service, unless the Host field or --host names another
STOP_TIMEOUT = "1"  # seconds for stopped users to finish their exchange, so that both sides count it

# If nothing listens on HOST, this starts the bundled server, which ends with Locust. For a service
# of your own, put its command here, or delete this and start your service yourself.
start_service(
    HOST,
    [sys.executable, "-m", "capserver", "--end-with-input"],
    directory=Path(__file__).parent,
)

WORD = "hello"
# Upper case may be longer than lower case: each ß becomes SS, each ﬁ becomes FI.
SENTENCE = "ein süßer ﬁsch grüßt die weiße ὀδύσσεια"
LONG_LINE = "all work and no play makes jack a dull boy " * 760  # about 32 KB


class CapitalizationUser(TcpUser):
    """One simulated user.

    Locust starts as many of these as you ask for. Each has its own connection and runs one task
    after the other: it picks a task at random, runs it, waits, and picks the next.
    """

    host = HOST

    # Each method marked @task is a task. The number is its weight: of ten tasks that a user runs,
    # about six are `word`, three are `sentence` and one is `long_line`.
    @task(6)
    def word(self) -> None:
        # Send one line and read one line. `name` is the row of the statistics in which the request
        # counts, and `expect` is the right reply: any other reply is a failure, however fast it is.
        self.client.request(WORD, name="word", expect=WORD.upper())

    @task(3)
    def sentence(self) -> None:
        # Text beyond ASCII: the server must decode it, and the reply has another length.
        self.client.request(SENTENCE, name="sentence", expect=SENTENCE.upper())

    @task(1)
    def long_line(self) -> None:
        # Too long for one packet: here the time depends on how fast bytes are transferred.
        self.client.request(LONG_LINE, name="long line", expect=LONG_LINE.upper())


@events.init_command_line_parser.add_listener
def add_options(parser: LocustArgumentParser) -> None:
    """Add this locustfile's options to Locust's command line and to its start form."""
    parser.add_argument(
        "--connection",
        choices=["persistent", "per-request"],
        default=TcpUser.connection,
        help="a connection lives as long as its user, or for one request",
    )
    parser.add_argument(
        "--timeout", type=number("seconds"), default=TcpUser.timeout, help="seconds for a whole request and its reply"
    )
    parser.add_argument(
        "--wait", type=number("seconds", zero=True), default=0.0, help="seconds that a user waits between two requests"
    )
    parser.add_argument(
        "--rate",
        type=number("requests per second", zero=True),
        default=0.0,
        help="requests per second of each user, on a schedule; 0: the next request follows the last reply",
    )
    parser.add_argument(
        "--arrivals", choices=["even", "poisson"], default="even", help="with a rate: evenly spaced or at random"
    )
    # Files are named on the command line only: whoever reaches the page could have Locust open any.
    parser.add_argument(
        "--tls-ca",
        type=ca_file,
        default="",
        include_in_web_ui=False,
        help="with a tls:// host: the file (PEM) of the authority that signed its certificate; empty: the system's",
    )
    parser.add_argument(
        "--tls-client-cert",
        type=tls_file,
        default="",
        include_in_web_ui=False,
        help="with a tls:// host: the file (PEM) of the users' own certificate, if the service wants one",
    )
    parser.add_argument(
        "--tls-client-key",
        type=tls_file,
        default="",
        include_in_web_ui=False,
        help="the file (PEM) of its private key; empty: in the same file",
    )
    parser.add_argument(
        "--tls-verify",
        choices=["yes", "no"],
        default="yes",
        help="with a tls:// host: whether its certificate must be trusted and match its name",
    )
    # An option of Locust: the users of a worker that is gone go to the other workers.
    parser.set_defaults(stop_timeout=STOP_TIMEOUT, enable_rebalancing=True)


@events.test_start.add_listener
def apply_options(environment: Environment, **_: Any) -> None:
    """Apply the options of the start form to the users."""
    options: Any = environment.parsed_options
    CapitalizationUser.connection = options.connection
    CapitalizationUser.timeout = options.timeout
    CapitalizationUser.tls_ca = options.tls_ca or None
    CapitalizationUser.tls_cert = options.tls_client_cert or None
    CapitalizationUser.tls_key = options.tls_client_key or None
    CapitalizationUser.tls_verify = options.tls_verify == "yes"
    on_time = on_schedule(options.rate, options.arrivals) if options.rate else None
    CapitalizationUser.wait_time = on_time or constant(options.wait)


@events.init.add_listener
def apply_edited_options(environment: Environment, **_: Any) -> None:
    """Apply the options of the form that Edit opens, too."""
    environment.events.spawning_complete.add_listener(lambda **_: apply_options(environment))
