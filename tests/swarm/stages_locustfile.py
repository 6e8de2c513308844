"""A load shape to add to a locustfile: users come in two stages, and leave in a third."""

from locust import LoadTestShape

SPAWN_RATE = 100  # users per second
STAGES = ((1.5, 3), (3.0, 5), (4.5, 2))  # until how many seconds, and how many users


class Stages(LoadTestShape):
    """The load shape."""

    def tick(self) -> tuple[int, float] | None:
        """Return users and spawn rate of the current stage."""
        return next(((users, SPAWN_RATE) for end, users in STAGES if self.get_run_time() < end), None)
