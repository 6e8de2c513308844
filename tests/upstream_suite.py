"""Run Locust's own tests with the kit imported and without, and say which differ.

Neither a wheel of Locust nor its source distribution has the tests. They are in the folder
`locust/test` of its repository, at the tag of the installed release. The Python that runs this needs
Locust and what its tests need: pytest, pyquery, retry, cryptography.

Tests that differ run again without the others: some of Locust's fail at times on a busy machine. Ends
non-zero where a test differs that is not EXPECTED to. Takes about twenty minutes.

python tests/upstream_suite.py ../locust/locust/test
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from importlib.util import find_spec
from pathlib import Path

KIT = Path(__file__).parents[1]
MODULES = (
    "test_stats", "test_runners", "test_web", "test_main", "test_locust_class", "test_users", "test_taskratio",
    "test_sequential_taskset", "test_interruptable_task", "test_tags", "test_wait_time", "test_env", "test_log",
    "test_util",
)  # fmt: skip
AGAIN = 3  # more runs of a test that differs

EXPECTED = {
    "test_default_bucketing": "a bucket has three digits, and Locust's two",
    "test_aggregation_with_rounding": "the histogram has three digits: 552 ms stay 552 and are not 550",
    "test_aggregation_with_decimal_rounding": "the histogram has three digits: 1.99 ms stay 1.99 and are not 2",
    "test_percentile_rounded_down": "the console has three digits: 122 ms stay 122 and are not 120",
    "test_percentile_rounded_up": "the console has three digits: 127 ms stay 127 and are not 130",
    "test_stats_rounding": "the page has three digits: minimum and maximum are not whole milliseconds",
}

Outcomes = dict[str, str]
"""The outcome of each test: passed, failed or skipped."""


def run(folder: Path, tests: list[str], with_kit: bool) -> Outcomes:
    """Run tests in a process of their own, and in all that it starts, with the kit imported or without.

    Args:
        folder: Has a Locust with its tests.
        tests: What pytest is given.
        with_kit: Whether each Python process imports the kit before it does anything else.
    """
    # Locust is imported as early without the kit: its tests depend on when gevent patches the standard library.
    (folder / "sitecustomize.py").write_text("import locust_tcp\n" if with_kit else "import locust\n")
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",  # has the command `locust`
        "PYTHONPATH": f"{folder}{os.pathsep}{KIT}",
    }
    report = folder / "report.xml"
    report.unlink(missing_ok=True)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:locust", "--tb=line"]
    with (folder / "log").open("a") as log:
        subprocess.run([*command, f"--junitxml={report}", *tests], cwd=folder, env=environment, stdout=log, stderr=log)
    outcomes = {}
    for case in ET.parse(report).iter("testcase"):
        kinds = {child.tag for child in case}
        outcome = "failed" if kinds & {"failure", "error"} else "skipped" if "skipped" in kinds else "passed"
        module, _, name = case.attrib["classname"].rpartition(".")
        outcomes[f"{module.replace('.', '/')}.py::{name}::{case.attrib['name']}"] = outcome
    return outcomes


def differing(folder: Path, tests: list[str]) -> list[str]:
    """Return the tests that pass in some run without the kit and in none with it, or the other way round."""
    outcomes: dict[bool, Outcomes] = {False: {}, True: {}}
    for _ in range(1 + AGAIN):
        for with_kit, known in outcomes.items():
            ran = run(folder, tests, with_kit)
            known |= {name: outcome for name, outcome in ran.items() if known.get(name) != "passed"}
            passed = list(ran.values()).count("passed")
            print(f"{'with' if with_kit else 'without'} the kit: {passed} of {len(ran)} tests pass", flush=True)
        without, with_it = outcomes[False], outcomes[True]
        tests = sorted(name for name in without.keys() | with_it.keys() if without.get(name) != with_it.get(name))
        if not tests:
            break
    return tests


def main() -> int:
    """Run the tests, print which differ, and return 1 where one is not expected to."""
    command = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    command.add_argument("tests", type=Path, help="the folder locust/test of Locust's repository")
    command.add_argument("modules", nargs="*", default=MODULES, help="(default: %(default)s)")
    options = command.parse_args()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in the background of a shell, and by children
    installed = find_spec("locust")
    assert installed and installed.origin
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        shutil.copytree(Path(installed.origin).parent, folder / "locust")
        shutil.copytree(options.tests, folder / "locust/test")
        names = differing(folder, [f"locust/test/{module}.py" for module in options.modules])
    for name in names:
        print(f"{name}: {EXPECTED.get(name.rpartition(':')[2], 'NOT EXPECTED')}")
    return int(any(name.rpartition(":")[2] not in EXPECTED for name in names))


if __name__ == "__main__":
    sys.exit(main())
