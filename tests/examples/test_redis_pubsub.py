"""examples/redis_pubsub.py on Redis: each message of each subscriber is one event, with its true time."""

import time
from pathlib import Path

from tests import kit
from tests.examples.redis_server import Redis, redis
from tests.examples.swarms import CLOSED, USERS, swarm

EXAMPLE = "redis_pubsub.py"
PUBLISHERS = 2
SUBSCRIBERS = USERS - PUBLISHERS
KILLS = 2
AGE = 50.0  # seconds since which the test's own messages have been under way, as their text says


def publish(server: Redis, messages: int) -> int:
    """Publish messages; return how many subscribers they reached, in sum."""
    return sum(int(server.ask(f"PUBLISH locust {time.time() - AGE}")) for _ in range(messages))


def test_a_message_is_one_event_and_its_time_is_since_it_was_published(tmp_path: Path) -> None:
    with redis(tmp_path) as server, swarm(EXAMPLE, "Subscriber", port=server.port, folder=tmp_path) as locust:
        kit.eventually(lambda: server.clients("pubsub") == USERS)
        delivered = publish(server, messages=100)
        assert server.kill("pubsub") == USERS
        kit.eventually(lambda: server.clients("pubsub") == USERS)
        delivered += publish(server, messages=100)
        assert delivered == 200 * USERS
        kit.eventually(lambda: locust.counted("message") == delivered + USERS)  # and one failure of each
        locust.stop()
        assert server.calls("subscribe") == 2 * USERS
    requests, row = locust.requests(), locust.rows()["message"]
    assert requests["SUBSCRIBE"] == requests["connect"] == 2 * USERS
    assert (locust.failed(), locust.texts()) == ({"message": USERS}, {"reply: closed"})
    assert locust.exceptions() == []
    assert AGE * 1000 <= float(row["Min Response Time"]) <= float(row["Max Response Time"])
    assert float(row["Max Response Time"]) < (AGE + kit.PATIENCE) * 1000


def await_users(server: Redis) -> None:
    """Wait until all users are connected, and twenty messages more are published."""
    kit.eventually(lambda: (server.clients("pubsub"), server.clients("normal")) == (SUBSCRIBERS, PUBLISHERS))
    enough = server.calls("publish") + 20
    kit.eventually(lambda: server.calls("publish") >= enough)


def test_killed_publishers_and_subscribers_connect_again(tmp_path: Path) -> None:
    with redis(tmp_path) as server, swarm(EXAMPLE, port=server.port, folder=tmp_path) as locust:
        for _ in range(KILLS):
            await_users(server)
            assert (server.kill("normal"), server.kill("pubsub")) == (PUBLISHERS, SUBSCRIBERS)
        await_users(server)
        locust.stop()
        subscribed, published = server.calls("subscribe"), server.calls("publish")
    requests, failed = locust.requests(), locust.failed()
    assert requests["connect"] == (KILLS + 1) * USERS
    assert requests["SUBSCRIBE"] == subscribed == (KILLS + 1) * SUBSCRIBERS
    assert locust.exceptions() == []
    assert locust.texts() <= CLOSED
    assert failed == {"PUBLISH": KILLS * PUBLISHERS, "message": KILLS * SUBSCRIBERS}
    assert requests["PUBLISH"] - failed["PUBLISH"] <= published <= requests["PUBLISH"]
    # Less than all: between a kill and the next SUBSCRIBE a message reaches no subscriber.
    assert 0 < requests["message"] - failed["message"] <= published * SUBSCRIBERS
