"""HTML taken apart, for the tests of pages and reports."""

from html.parser import HTMLParser

VOID = frozenset({"meta", "link", "br", "hr", "img", "input"})


class Parsed(HTMLParser):
    """A page or a part of one, taken apart. Each element must be closed in its place.

    Attributes:
        tags: The tags in the order of their opening.
        attributes: Names and values of all attributes.
        texts: The text of each element, by tag, without the text of the elements inside.
    """

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.texts: dict[str, list[str]] = {}
        self._open: list[tuple[str, int]] = []  # tag, and index of its text
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in VOID:
            texts = self.texts.setdefault(tag, [])
            self._open.append((tag, len(texts)))
            texts.append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self._open.pop()

    def handle_endtag(self, tag: str) -> None:
        opened, _ = self._open.pop()
        assert opened == tag

    def handle_data(self, data: str) -> None:
        if self._open:
            tag, index = self._open[-1]
            self.texts[tag][index] += data
