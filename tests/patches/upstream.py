"""Locust's modules without the kit's patches."""

import importlib.util
import sys
from types import ModuleType


def unpatched(name: str) -> ModuleType:
    """Load a module of Locust a second time: its functions are those that the release has."""
    found = importlib.util.find_spec(name)
    assert found and found.origin
    spec = importlib.util.spec_from_file_location(f"{name}_unpatched", found.origin)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


stats = unpatched("locust.stats")
