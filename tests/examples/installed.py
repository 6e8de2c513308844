"""Find the real servers that the examples are tested against."""

import os
import shutil
from pathlib import Path

import pytest

FOLDERS = ("usr/sbin", "usr/local/sbin", "usr/lib/postgresql/*/bin")  # of servers; not on every user's path


def installed(name: str) -> str:
    """Return the path of an installed program; without it, skip the test, or on CI fail it."""
    folders = [os.environ.get("PATH", os.defpath)]
    folders += (str(folder) for pattern in FOLDERS for folder in sorted(Path("/").glob(pattern)))
    path = shutil.which(name, path=os.pathsep.join(folders))
    if path is None:
        missing = f"{name} is not installed"
        if os.environ.get("CI"):
            pytest.fail(missing)  # a skip there would pass for an example that works
        pytest.skip(missing)
    return path
