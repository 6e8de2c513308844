"""A Locust that the kit was not tested with: its own functions stay, one warning says so, and the run goes on."""

import os
import re
import shutil
from pathlib import Path

import locust
import pytest

from tests import kit


def changed_locust(folder: Path, *functions: str) -> dict[str, str]:
    """Copy the installed Locust, change the source of functions, and return the environment that uses the copy."""
    copy = folder / "locust"
    shutil.copytree(Path(locust.__file__).parent, copy, ignore=shutil.ignore_patterns("__pycache__"))
    stats = copy / "stats.py"
    for function in functions:
        text = stats.read_text()
        heading = re.search(rf"^( *)def {function}\(.*:\n", text, re.MULTILINE)
        assert heading, function
        stats.write_text(text.replace(heading[0], f"{heading[0]}{heading[1]}    # changed\n"))
    return os.environ | {"PYTHONPATH": str(folder)}


def swarm(folder: Path, *changed: str) -> tuple[str, list[float], list[float]]:
    """Run a swarm; return its log, the percentiles of its CSV, and the times of its console's table."""
    with kit.server(output=folder / "server") as server:
        command = ("-f", "locustfile.py", "--headless", "-u", "2", "-r", "2", "-t", "2s", "--host", server.host)
        results = ("--csv", folder / "run", "--html", folder / "report.html")
        environment = changed_locust(folder, *changed)
        with kit.program(kit.LOCUST, *command, *results, output=folder / "log", environment=environment) as locust:
            assert locust.ends() == 0, locust.output
        answered = server.totals()[0]
    assert "Traceback" not in locust.output
    row = kit.rows(folder / "run_stats.csv")[-1]
    assert int(row["Request Count"]) == answered + 2  # and a connect of each user
    table = re.findall(r"Aggregated .*\|(.*)\|", locust.output)[-1]
    return locust.output, [float(row[key]) for key in row if key.endswith("%")], [float(each) for each in table.split()]


WARNING = "differs from the releases that this kit was tested with"


def is_whole(times: list[float]) -> bool:
    return all(time == int(time) for time in times)


def test_what_changed_keeps_locusts_own_digits(tmp_path: Path) -> None:
    log, percentiles, table = swarm(tmp_path, "_percentile_fields")
    assert log.count(WARNING) == 1
    lost = "sub-millisecond digits in the CSV's percentiles, and N/A where nothing was measured"
    assert f"Lost: {lost}. Changed functions: locust.stats:StatsCSV." in log
    assert is_whole(percentiles)
    assert not is_whole(table)


@pytest.mark.parametrize("function", ["_log_response_time", "bucket_response_time"])
def test_with_other_histograms_all_digits_are_locusts_own(function: str, tmp_path: Path) -> None:
    log, percentiles, table = swarm(tmp_path, function)
    assert log.count(WARNING) == 1
    assert "Lost: all sub-millisecond digits; " in log
    assert is_whole(percentiles)
    assert is_whole(table)
