"""locust_tcp/plugin.py, and the state that each environment has of its own."""

import gc
from unittest.mock import patch

from locust import events
from locust.env import Environment
from locust.event import Events

from locust_tcp import TcpUser, plugin
from locust_tcp.metrics.generator import LoadGenerator
from tests import peers


class Word(TcpUser):
    """A user without tasks, whose client is used directly."""


def listeners(hooks: Events) -> dict[str, int]:
    return {name: len(hook._handlers) for name, hook in vars(hooks).items()}


def test_a_second_install_adds_nothing() -> None:
    before = listeners(events)
    plugin.install()
    assert listeners(events) == before
    assert before["init"] > 0


def test_nothing_listens_to_requests() -> None:
    environment = Environment()
    environment.create_local_runner()
    before = listeners(environment.events)
    with patch("gevent.signal_handler"), patch("gevent.spawn"), patch("locust_tcp.plugin.keep_arrival_times"):
        plugin._init(environment)
    after = listeners(environment.events)
    assert after["test_start"] > before["test_start"]
    assert after["request"] == before["request"]


def test_no_full_garbage_collection_sees_the_users_of_a_running_test() -> None:
    environment = Environment()
    environment.create_local_runner()
    with patch("gevent.signal_handler"), patch("gevent.spawn"), patch("locust_tcp.plugin.keep_arrival_times"):
        plugin._init(environment)
    users: list[object] = [[]]
    environment.events.spawning_complete.fire(user_count=1)
    try:
        assert not any(each is users for each in gc.get_objects())
    finally:
        environment.events.test_stop.fire(environment=environment)
    assert any(each is users for each in gc.get_objects())


def test_two_environments_do_not_mix() -> None:
    one, other = Environment(), Environment()
    with peers.peer(peers.answering(b"HELLO\n")) as port:
        with patch.object(Word, "host", f"tcp://127.0.0.1:{port}"):
            first, second, third = Word(one), Word(one), Word(other)
        for user in (first, first, second, third):
            assert user.client.request("hello") == "HELLO"
        for user in (first, second, third):
            user.client.close()
    assert LoadGenerator.of(one).processes()["Locust"].exchanges == 3
    assert LoadGenerator.of(other).processes()["Locust"].exchanges == 1
    LoadGenerator.of(one).reset()
    assert LoadGenerator.of(one).processes()["Locust"].exchanges == 0
    assert LoadGenerator.of(other).processes()["Locust"].exchanges == 1
