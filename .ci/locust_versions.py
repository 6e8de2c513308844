"""Run a swarm of locustfile.py with the oldest supported Locust, one between, and the newest.

Each gets an environment of its own in a temporary folder. Ends non-zero where a swarm fails, or
where the web page, the CSV or the report has no sub-millisecond digits. A release that is newer than
the kit may miss digits, as the warning in its log says.

env/bin/python .ci/locust_versions.py
"""

import json
import re
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests import kit

OLDEST, BETWEEN, NEWEST = "2.32.0", "2.40.5", ""
SECONDS = 4


def run(version: str, folder: Path) -> str:
    """Install a version of Locust ("" is the newest), run a swarm with it, and return what it did."""
    requirements = ["-r", str(kit.KIT / "requirements.txt"), *([f"locust=={version}"] if version else [])]
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(folder / "bin/python"))
    subprocess.run([*pip, "install", "-qq", "--no-compile", *requirements], check=True)

    port = kit.free_port()
    swarm = ("--autostart", "-u", "4", "-r", "4", "-t", str(SECONDS), "--web-port", str(port))
    with kit.server(output=folder / "server") as server:
        command = (folder / "bin/locust", "-f", "locustfile.py", "--web-host", "127.0.0.1", "--host", server.host)
        with kit.program(*command, *swarm, "--csv", folder / "run", output=folder / "log") as locust:
            locust.says("run-time limit reached")
            page = json.loads(download(port, "requests"))["stats"]
            report = download(port, "report")
            code = locust.stop()
        answered = server.totals()[0]
    assert code == 0, locust.output
    assert "Traceback" not in locust.output, locust.output

    csv = kit.rows(folder / "run_stats.csv")
    assert csv[-1]["Request Count"] == str(answered + 4), "the CSV lacks the end of the run"  # and 4 connects
    digits = {
        "page": has_digits(row[key] for row in page for key in row if "response_time" in key),
        "CSV": has_digits(row[key] for row in csv for key in row if key.endswith("%")),
        "report": 'title:"Median (ms)",round:6' in report,
    }
    (installed,) = re.findall(r"Starting Locust ([\w.]+)", locust.output)
    warning = re.search(r"Locust .* differs from the releases that this kit was tested with.*", locust.output)
    if warning:
        assert not version, warning[0]
        return f"Locust {installed}: {answered} lines. {warning[0]}"
    assert all(digits.values()), f"Locust {installed}: sub-millisecond digits are missing: {digits}"
    return f"Locust {installed}: {answered} lines, three digits"


def download(port: int, name: str) -> str:
    """Return what the page has of the statistics."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/stats/{name}", timeout=kit.PATIENCE) as response:
        text: str = response.read().decode()
    return text


def has_digits(times: Iterable[float | str]) -> bool:
    """Say whether some times have digits below a millisecond."""
    return any(0 < float(time) < 1 for time in times)


def main() -> None:
    """Run all versions at the same time."""
    with tempfile.TemporaryDirectory() as temporary, ThreadPoolExecutor() as pool:
        versions = OLDEST, BETWEEN, NEWEST
        folders = [Path(temporary) / (version or "newest") for version in versions]
        for line in pool.map(run, versions, folders):
            print(line, flush=True)


if __name__ == "__main__":
    main()
