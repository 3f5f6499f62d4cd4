"""A page as a browser would take it apart."""

from __future__ import annotations

from html.parser import HTMLParser

#: A text that breaks out of whatever does not quote it.
HOSTILE = "</script><script>alert(1)</script>\"'><img src=http://evil.example/x onerror=alert(2)>&"


class Reader(HTMLParser):
    """Reads a page at once.

    Attributes:
        tags: each opening tag and its attributes.
        open: tags that were not closed.
        unbalanced: closing tags of what was not open.
        data: all text, scripts and styles included.
        shown: the text that a person sees.
    """

    VOID = frozenset({"meta", "link", "br", "img", "input", "hr"})

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.unbalanced: list[str] = []
        self.data: list[str] = []
        self.shown: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.unbalanced.append(tag)

    def handle_data(self, data: str) -> None:
        self.data.append(data)
        if "script" not in self.open and "style" not in self.open:
            self.shown.append(data)

    @property
    def text(self) -> str:
        """What a person reads."""
        return " ".join(self.shown)
