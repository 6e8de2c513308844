"""A user to add to a locustfile: its code has a mistake."""

from locust import User, constant, task


class Raising(User):
    """Raises an exception in each task."""

    wait_time = constant(0.5)
    fixed_count = 1

    @task
    def divide(self) -> None:
        raise ZeroDivisionError("a mistake in the locustfile")
