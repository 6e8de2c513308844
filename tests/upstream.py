"""Locust's source as it is on disk, to notice when what we rest on changes."""

import ast
import hashlib
import importlib.util
from pathlib import Path


def digest(name: str) -> str:
    """Return the first half of the SHA-256 of the source of `module:function` or `module:Class.method`."""
    module, path = name.split(":")
    spec = importlib.util.find_spec(module)
    assert spec and spec.origin
    text = Path(spec.origin).read_text()
    node: ast.AST = ast.parse(text)
    for part in path.split("."):
        (node,) = (child for child in getattr(node, "body", []) if getattr(child, "name", None) == part)
    found = ast.get_source_segment(text, node)
    assert found
    return hashlib.sha256(found.encode()).hexdigest()[:32]
