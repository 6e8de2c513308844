"""What the tests of the command and of its page share."""

from pathlib import Path

import pytest

from tests.compare.files import LINE, WORD, write_stats


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Change to a folder with runs A, A2, B, B2, and with folders old and new of runs."""
    monkeypatch.chdir(tmp_path)
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        write_stats(tmp_path / name / "run_stats.csv", WORD, LINE)
    write_stats(tmp_path / "new" / "run2_stats.csv", WORD)
    for name in ("A", "A2", "B", "B2"):
        write_stats(tmp_path / f"{name}_stats.csv", WORD, LINE)
    return tmp_path
