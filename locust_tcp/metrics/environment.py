"""State of which each Locust environment has its own."""

from typing import Self

from locust.env import Environment


class PerEnvironment:
    """Base class of what each environment has one of, as long as the environment lives."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment

    @classmethod
    def of(cls, environment: Environment) -> Self:
        """Return the object of an environment. The first call creates it."""
        attributes = vars(environment)
        key = f"locust_tcp.{cls.__name__}"
        if key not in attributes:
            attributes[key] = cls(environment)
        found: Self = attributes[key]
        return found
