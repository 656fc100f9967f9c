"""Reading a written page: its tables, links, tags and words."""

from html.parser import HTMLParser
from pathlib import Path


class Page(HTMLParser):
    """Table cells (value, text) by table id, attributes (tag, name, value), tags and words."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.text = path.read_text(encoding="utf-8")
        self.cells: dict[str, list[tuple[str, str]]] = {}
        self.attributes: list[tuple[str, str, str]] = []
        self.tags: list[str] = []
        self.words = ""
        self._table, self._value, self._shown = "", None, ""
        self.feed(self.text)

    def values(self, tag: str, name: str) -> list[str]:
        return [v for t, n, v in self.attributes if (t, n) == (tag, name)]

    def handle_starttag(self, tag, attrs):
        own = dict(attrs)
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag == "table":
            self._table = own.get("id", "")
        if tag == "td" and "data-value" in own:
            self._value, self._shown = own["data-value"], ""
        elif tag == "span" and self._value is not None:
            self._shown += "|"

    def handle_endtag(self, tag):
        if tag == "td" and self._value is not None:
            shown = self._shown.split("|")[0]
            self.cells.setdefault(self._table, []).append((self._value, shown))
            self._value = None

    def handle_data(self, data):
        if self._value is not None:
            self._shown += data
        self.words += data
