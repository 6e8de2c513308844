"""Imports point one way: each part of the kit, what of the kit it may import, and what else it must not."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import kit

NETWORK = ("flask", "socket", "gevent.socket")
RULES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "capserver": ((), ("locust", "gevent", "locust_tcp")),
    "locust_tcp/compare": (("compare", "metrics.evidence"), ("locust",)),
    "locust_tcp/metrics/evidence.py": ((), ("locust", *NETWORK)),
    "locust_tcp/transport": (("transport",), ("locust",)),
    "locust_tcp/metrics": (("metrics", "version", "transport.errors"), NETWORK),
    "locust_tcp/patches": (("patches", "metrics.rounding"), ()),
    "locust_tcp/web": (("web", "metrics", "transport", "user", "compare.chart", "version"), ()),
    "locust_tcp/turns.py": (("transport",), NETWORK),
    "locust_tcp/client.py": (("transport", "metrics", "patches", "turns", "user.TcpUser"), NETWORK),
    "locust_tcp/user.py": (("transport", "patches", "client"), NETWORK),
    "locust_tcp/printable.py": ((), ("locust", *NETWORK)),
    "locust_tcp/pacing.py": (("user", "client"), NETWORK),
    "locust_tcp/service.py": (("transport", "web.form"), ()),
    "locust_tcp/plugin.py": (
        ("web", "metrics", "patches", "user", "client", "transport", "printable", "version"),
        NETWORK,
    ),
}


def imported(file: Path) -> Iterator[str]:
    """Yield the full name of each thing that a file imports."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{file}: a relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def is_in(name: str, *modules: str) -> bool:
    """Return whether a name is one of the modules, or stands in one of them."""
    return any(f"{name}.".startswith(f"{module}.") for module in modules)


@pytest.mark.parametrize("part", RULES)
def test_a_part_imports_only_what_it_may(part: str) -> None:
    own, foreign = RULES[part]
    allowed = [f"locust_tcp.{module}" for module in own] if own else ["capserver"]
    for file in sorted((kit.KIT / part).rglob("*.py")) or [kit.KIT / part]:
        where = str(file.relative_to(kit.KIT))
        for name in imported(file):
            assert not is_in(name, *foreign), f"{where} imports {name}"
            assert not is_in(name, "locust_tcp", "capserver") or is_in(name, *allowed), f"{where} imports {name}"
