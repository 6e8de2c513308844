"""A swarm on the capitalization server: run `locust`, open http://localhost:8089, press Start.

The server sends back each line in upper case. A swarm is many simulated users, all doing that at
once. What a user does, how often, and which answer is the right one stands below; for a service of
your own, this is the file to copy and change.
"""

import sys
from pathlib import Path
from typing import Any

from locust import constant, events, task
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment

from locust_tcp import TcpUser, ca_file, number, on_schedule, start_service

HOST = "tcp://localhost:59898"  # where the users go when the Host field or --host says nothing else
STOP_TIMEOUT = "1"  # seconds that stopped users get to finish their exchange, so that both sides count it

# Nobody there? Then the bundled server is started, and ends with Locust. For a service of your own,
# name your own command here, or delete this and start your service yourself.
start_service(
    HOST,
    [sys.executable, "-m", "capserver", "--end-with-input"],
    directory=Path(__file__).parent,
)

WORD = "hello"
# Upper case is not always as long as lower case: each ß becomes SS, each ﬁ becomes FI.
SENTENCE = "ein süßer ﬁsch grüßt die weiße ὀδύσσεια"
LONG_LINE = "all work and no play makes jack a dull boy " * 760  # about 32 KB


class CapitalizationUser(TcpUser):
    """One simulated user.

    Locust starts as many of these as you ask for. Each has a connection of its own and does one
    thing after the other: it picks a task at random, does it, waits, picks the next.
    """

    host = HOST

    # The number is the task's weight: of ten tasks that a user does, about six are `word`, three
    # `sentence` and one `long_line`. Each method marked @task is one thing that a user may do.
    @task(6)
    def word(self) -> None:
        # One line goes out and one comes back. `name` is the row in the statistics that it counts
        # for, and `expect` the reply that is right: any other one is a failure, however fast it came.
        self.client.request(WORD, name="word", expect=WORD.upper())

    @task(3)
    def sentence(self) -> None:
        # Beyond ASCII the server has to decode, and what comes back has another length.
        self.client.request(SENTENCE, name="sentence", expect=SENTENCE.upper())

    @task(1)
    def long_line(self) -> None:
        # More than one packet holds: what counts here is how fast bytes get through.
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
        help="requests per second of each user, on a schedule; 0: each when the last is answered",
    )
    parser.add_argument(
        "--arrivals", choices=["even", "poisson"], default="even", help="with a rate: evenly spaced, or at random"
    )
    parser.add_argument(
        "--tls-ca",
        type=ca_file,
        default="",
        help="with a tls:// host: the file (PEM) of the authority that signed its certificate; empty: the system's",
    )
    parser.add_argument(
        "--tls-verify",
        choices=["yes", "no"],
        default="yes",
        help="with a tls:// host: whether its certificate has to be trusted and for its name",
    )
    # Users of a worker that is gone go to the others: an option of Locust, with which nobody has to think of it.
    parser.set_defaults(stop_timeout=STOP_TIMEOUT, enable_rebalancing=True)


@events.test_start.add_listener
def apply_options(environment: Environment, **_: Any) -> None:
    """Give the users the options of the start form."""
    options: Any = environment.parsed_options
    CapitalizationUser.connection = options.connection
    CapitalizationUser.timeout = options.timeout
    CapitalizationUser.tls_ca = options.tls_ca or None
    CapitalizationUser.tls_verify = options.tls_verify == "yes"
    on_time = on_schedule(options.rate, options.arrivals) if options.rate else None
    CapitalizationUser.wait_time = on_time or constant(options.wait)


@events.init.add_listener
def apply_edited_options(environment: Environment, **_: Any) -> None:
    """Give them those of the form that Edit opens, too."""
    environment.events.spawning_complete.add_listener(lambda **_: apply_options(environment))
