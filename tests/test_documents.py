"""The documents: links lead somewhere, lines are short, examples are Python, the README is short."""

import re
from pathlib import Path

import pytest

from tests.kit import KIT

DOCUMENTS = sorted(path for folder in (KIT, KIT / "docs") for path in folder.glob("*.md"))
WORDS = 900  # of the README
WIDTH = 100  # letters of a line of prose
NO_PROSE = ("|", "    ", "![")

each_document = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(KIT)))


def anchors(document: Path) -> set[str]:
    """Return the anchors of a document's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@each_document
def test_links_within_the_repository_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", document.read_text()):
        if "://" not in target:
            file, _, anchor = target.partition("#")
            other = (document.parent / file).resolve() if file else document
            assert other.exists(), target
            assert not anchor or anchor in anchors(other), target


@each_document
def test_lines_of_prose_are_short(document: Path) -> None:
    prose = re.sub(r"^```.*?^```$", "", document.read_text(), flags=re.MULTILINE | re.DOTALL)
    long = [line for line in prose.splitlines() if len(line) > WIDTH and not line.startswith(NO_PROSE)]
    assert [line for line in long if "](https://" not in line] == []  # an address is one word


@each_document
def test_examples_are_python(document: Path) -> None:
    for code in re.findall(r"^```python\n(.*?)^```$", document.read_text(), re.MULTILINE | re.DOTALL):
        compile(code, str(document), "exec")


def test_the_readme_is_short_and_begins_with_its_two_commands() -> None:
    text = (KIT / "README.md").read_text()
    assert len(text.split()) <= WORDS
    run, test = re.findall(r"^    (.*)$", text, re.MULTILINE)[:2]
    assert run == "python3 -m venv env && env/bin/pip install -q -r requirements.txt && env/bin/locust"
    assert test == "python3 -m venv env && env/bin/pip install -q -r tests/requirements.txt && env/bin/pytest"
