"""Tell whether Locust has measured something."""

from collections.abc import Mapping


def has_times(row: Mapping[str, str]) -> bool:
    """Return whether a row of the statistics has response times. Without them Locust writes 0 or N/A."""
    return any(value not in ("0", "N/A") for column, value in row.items() if column.endswith("%"))
