"""locust_tcp/patches/reports.py. tests/swarm/test_files.py has real runs."""

import json
from pathlib import Path
from types import ModuleType

import pytest
from locust import main, stats
from locust.stats import RequestStats

from tests.patches import upstream


def written(module: ModuleType, kept: RequestStats, folder: Path, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Return what a module prints and saves of the statistics."""
    module.print_stats_json(kept)
    module.save_stats_json(kept, str(folder / "run"))
    return [capsys.readouterr().out.strip(), (folder / "run.json").read_text()]


def test_json_is_locusts_and_leaves_the_statistics_as_they_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = RequestStats()
    for name, milliseconds in (("word", 1.5), ("word", 3.25), ("log line", None)):
        kept.log_request("TCP", name, milliseconds, 6)  # type: ignore[arg-type]
    kept.log_error("TCP", "word", "reply: wrong")
    before = {key: dict(vars(entry)) for key, entry in kept.entries.items()}
    ours = written(stats, kept, tmp_path, capsys)
    assert {key: dict(vars(entry)) for key, entry in kept.entries.items()} == before
    theirs = written(upstream.stats, kept, tmp_path, capsys)
    assert ours == [theirs[0], theirs[0]]
    assert json.loads(theirs[1]) == []  # Locust has cleared them


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_is_one_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "run.json").symlink_to("/dev/full")
    kept = RequestStats()
    kept.log_request("TCP", "word", 1, 6)
    stats.save_stats_json(kept, str(tmp_path / "run"))
    with vars(main)["open"]("/dev/full", "w", encoding="utf-8") as report:
        report.write("a report")
    assert caplog.messages == [
        f"Can't write {tmp_path}/run.json: No space left on device",
        "Can't write /dev/full: No space left on device",
    ]


def test_main_reads_files_as_before(tmp_path: Path) -> None:
    (tmp_path / "some").write_text("text")
    with vars(main)["open"](str(tmp_path / "some")) as file:
        assert file.read() == "text"
    with pytest.raises(FileNotFoundError):
        vars(main)["open"](str(tmp_path / "none"))
