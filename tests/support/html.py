"""What stands in a page of HTML."""

from __future__ import annotations

from html.parser import HTMLParser


class ParsedPage(HTMLParser):
    """The elements of a page, the contents of its scripts and styles, and its other texts."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.raw: dict[str, str] = {}
        self.texts: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        tag, attributes = self.elements[-1] if self.elements else ("", {})
        if tag in {"script", "style"} and self.lasttag == tag and self.cdata_elem:
            name = attributes.get("id") or tag
            self.raw[name] = self.raw.get(name, "") + data
        elif data.strip():
            self.texts.append(data.strip())
