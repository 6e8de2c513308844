"""What the tests run: the kit's own processes, and servers that misbehave."""

import contextlib
import csv
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

KIT = Path(__file__).parents[1]
LOCUST = Path(sys.executable).with_name("locust")
PATIENCE = 30.0  # seconds that anything may take on a machine that is busy with something else


def eventually[T](condition: Callable[[], T], patience: float = PATIENCE) -> T:
    """Return the first true value of `condition`, which is asked again and again."""
    end = time.monotonic() + patience
    while not (value := condition()):
        assert time.monotonic() < end, f"waited {patience} s in vain"
        time.sleep(0.02)
    return value
