"""A change of Locust that is applied only where the installed Locust is known to fit.

When a release changes a function, the warning names it. Read the change, adapt the patch, and add what
`digest` returns for the function to the patch's `tested`, with the release as a comment.
"""

import hashlib
import importlib
import inspect
import linecache
import types
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

ABSENT = "absent"  # the digest where a release lacks the function
UNREADABLE = "unreadable"  # the digest where the source is not installed


@dataclass(eq=False)
class Patch:
    """A change of Locust, with the releases of Locust that it fits.

    A name of a function reads `module:function` or `module:Class.method`.

    Attributes:
        lost: What a run lacks without the patch. The warning in the log names it.
        tested: For each function that the patch replaces or relies on, the digests of its source
            in the releases that the patch was tested with.
        replacements: For each function that the patch replaces, the one to use instead.
        requires: The patches without which this one makes wrong output.
        differing: The functions that the last `check` found to differ from the tested ones.
        applied: Whether the patch is in effect.
    """

    lost: str
    tested: Mapping[str, Collection[str]]
    replacements: Mapping[str, Callable[..., Any]] = field(default_factory=dict)
    requires: "Collection[Patch]" = ()
    differing: list[str] = field(default_factory=list)
    applied: bool = False

    def check(self) -> None:
        """Compare the installed functions with the tested ones. Call it before any patch is applied."""
        self.differing = [name for name, digests in self.tested.items() if digest(name) not in digests]

    def apply(self) -> None:
        """Replace Locust's functions, unless `check` found a difference or a required patch is not applied."""
        if self.differing or not all(patch.applied for patch in self.requires):
            return
        for name, function in self.replacements.items():
            owner, attribute = _owner(name)
            setattr(owner, attribute, function)
        self.applied = True


def digest(name: str) -> str:
    """Return 16 digits of the SHA-256 of the source of a function, or ABSENT, or UNREADABLE."""
    try:
        owner, attribute = _owner(name)
        found = _member(owner, attribute)
        function: Any = found.fget if isinstance(found, property) else found
    except (ImportError, AttributeError):
        return ABSENT
    code = getattr(function, "__code__", function)
    if not isinstance(code, types.CodeType):
        return UNREADABLE
    linecache.checkcache(code.co_filename)
    lines = linecache.getlines(code.co_filename)
    if not lines:
        return UNREADABLE
    # As inspect.getsource, which first looks at the files of all modules: that takes 50 ms.
    source = "".join(inspect.getblock(lines[code.co_firstlineno - 1 :]))
    return hashlib.sha256(source.encode()).hexdigest()[:16]


def _owner(name: str) -> tuple[Any, str]:
    """Return what has the function as an attribute, and the name of the attribute."""
    module, path = name.split(":")
    *owners, attribute = path.split(".")
    owner: Any = importlib.import_module(module)
    for part in owners:
        owner = _member(owner, part)
    return owner, attribute


def _member(owner: Any, name: str) -> Any:
    """Return an attribute of a module or class, or the code of a function inside a function."""
    if not isinstance(owner, types.FunctionType):
        return getattr(owner, name)
    for constant in owner.__code__.co_consts:
        if getattr(constant, "co_name", None) == name:
            return constant
    raise AttributeError(name)
