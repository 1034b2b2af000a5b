"""HTML to text: Lexbor parses the page as browsers do, blocks become lines, and what is no content stays out.

Lexbor is the HTML5 parser of selectolax. It decodes entities, closes what authors leave open, and gives a tree. The
tree is walked without recursion, so the depth of a page is no limit. Nothing of a page is executed or fetched. A page
that is made to do harm may cost the parser much time and memory, so `contained.py` runs it with limits of both.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count

from selectolax.lexbor import LexborHTMLParser, LexborNode, SelectolaxError


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


_NO_TEXT = _names(
    "script style template noscript iframe noembed noframes head title svg math object select button audio video canvas"
)
_BLOCKS = _names(
    "address article aside blockquote body br caption center dd details dialog dir div dl dt fieldset figcaption "
    "figure footer form h1 h2 h3 h4 h5 h6 header hgroup hr html legend li main menu nav ol optgroup option p pre "
    "section summary table tbody td textarea tfoot th thead tr ul"
)
# Blocks that stand apart from what is around them by a blank line.
_PARAGRAPHS = _names("p h1 h2 h3 h4 h5 h6 blockquote table ul ol dl pre section article figure")
_CHROME_ROLES = _names("navigation banner contentinfo search")
_SPACES = re.compile(r"[ \t\n\r\f\v\u00a0\u2007\u202f\u2000-\u200a\u3000]+")
_INVISIBLE = re.compile("[\u00ad\u200b\ufeff\u2060]")
# A cell with more lines than this is no cell of a table of data. The table is there for the layout.
_LINES_OF_A_CELL = 4
_NESTED_TABLES = 10


@dataclass
class _Open:
    """An open element: what is left of its children, and what it and those around it say about the text in it."""

    name: str
    children: Iterator[LexborNode]
    pre: bool = False
    content: bool = False  # in <main> or <article>, whose headers and footers are content
    numbers: Iterator[int] | None = None  # of the items of the innermost list, if they have any
    rows: int = 0  # how many rows of tables it is in
    start: int = 0  # the number of lines before it
    cells: list[list[str]] = field(default_factory=list)  # the lines of each finished cell of a row


class _Page:
    """The text of a page while its tree is walked. `whole` keeps navigation, headers and footers too."""

    def __init__(self, root: LexborNode, *, whole: bool) -> None:
        self.lines: list[str] = []
        self.dropped = 0  # how many characters were left out as no content
        self._line: list[str] = []
        self._mark = ""  # of an item of a list whose first line is yet to come
        self._whole = whole
        around = [_Open("", iter((root,)))]
        while around:
            node = next(around[-1].children, None)
            if node is None:
                self._leave(around.pop(), around[-1] if around else None)
            elif node.is_text_node:
                self._write(node.text_content or "", pre=around[-1].pre)
            elif node.is_element_node and (entered := self._enter(node, around[-1])):
                around.append(entered)

    def _enter(self, node: LexborNode, parent: _Open) -> _Open | None:
        """Open an element. None if its contents are no text of the page."""
        name, attributes = node.tag or "", node.attributes
        if name in _NO_TEXT or _is_hidden(attributes):
            return None
        if not self._whole and _is_chrome(name, attributes, parent):
            self.dropped += sum(map(len, _Page(node, whole=True).lines))
            return None
        self._separate(name, pre=parent.pre)
        numbers = parent.numbers
        if name in ("ol", "ul"):
            numbers = count(_start_number(attributes)) if name == "ol" else None
        elif name == "li":
            self._mark = f"{next(numbers)}. " if numbers else "- "
        return _Open(
            name,
            node.iter(include_text=True),
            pre=parent.pre or name == "pre",
            content=parent.content or name in ("main", "article"),
            numbers=numbers,
            rows=parent.rows + (name == "tr"),
            start=len(self.lines),
        )

    def _leave(self, left: _Open, parent: _Open | None) -> None:
        self._separate(left.name, pre=left.pre)
        if left.name == "li":
            self._mark = ""
        elif left.name in ("td", "th") and parent and parent.name == "tr" and left.rows <= _NESTED_TABLES:
            parent.cells.append(self.lines[left.start :])
            del self.lines[left.start :]
        elif left.name == "tr":
            self._write_row(left.cells)

    def _write_row(self, cells: list[list[str]]) -> None:
        if any(len([line for line in cell if line]) > _LINES_OF_A_CELL for cell in cells):
            for cell in cells:
                self.lines.extend(cell)
                self._separate("table", pre=False)
        elif any(map(any, cells)):
            self.lines.append(" | ".join(" ".join(filter(None, cell)) for cell in cells).strip())

    def _write(self, text: str, *, pre: bool) -> None:
        """Write text, with white space as a browser shows it."""
        text = _INVISIBLE.sub("", text)
        first, *others = text.expandtabs(4).split("\n") if pre else [_SPACES.sub(" ", text)]
        self._line.append(first)
        for line in others:
            self._separate("br", pre=pre)
            self._line.append(line)

    def _separate(self, name: str, *, pre: bool) -> None:
        """End the line where a block begins or ends, and leave a blank line beside a paragraph."""
        if name not in _BLOCKS:
            return
        line = "".join(self._line)
        line = line.rstrip() if pre else re.sub(" {2,}", " ", line).strip()
        self._line.clear()
        if line:
            self.lines.append(self._mark + line)
            self._mark = ""
        if name in _PARAGRAPHS and self.lines and self.lines[-1] and not self._mark:
            self.lines.append("")


def html_text(markup: str) -> tuple[str, list[str]]:
    """The text of a page, and notes on what was left out.

    Blocks become lines, with a blank line between paragraphs. Rows of tables become lines with " | " between cells.
    Items of lists begin with "- " or their number. Navigation, and headers and footers of the page, are left out, and a
    note says how much. If nothing else is left, they are the text.

    Args:
        markup: the page.

    Raises:
        MemoryError: the tree of the page does not fit in memory.
    """
    try:
        parser = LexborHTMLParser(markup)
    except SelectolaxError as error:  # there is no other reason: any text is some page
        raise MemoryError(str(error)) from error
    if parser.root is None:
        return "", []
    page, notes = _Page(parser.root, whole=False), []
    if not any(page.lines):
        page = _Page(parser.root, whole=True)
    elif page.dropped:
        notes.append(f"left out navigation, header and footer of the page ({page.dropped:,} characters)")
    title = parser.css_first("head > title")
    heading = _SPACES.sub(" ", title.text()).strip() if title else ""
    if heading and any(page.lines) and not any(heading in line for line in page.lines[:20]):
        page.lines[:0] = [heading, ""]
    return "\n".join(page.lines).strip("\n"), notes


def _is_chrome(name: str, attributes: dict[str, str | None], parent: _Open) -> bool:
    if name == "nav" or (name in ("header", "footer") and not parent.content):
        return True
    return (attributes.get("role") or "").strip().lower() in _CHROME_ROLES


def _is_hidden(attributes: dict[str, str | None]) -> bool:
    style = (attributes.get("style") or "").replace(" ", "").lower()
    hides = "hidden" in attributes or "display:none" in style
    return hides or (attributes.get("aria-hidden") or "").strip().lower() == "true"


def _start_number(attributes: dict[str, str | None]) -> int:
    start = attributes.get("start") or ""
    return int(start) if re.fullmatch(r"-?\d{1,9}", start) else 1


def main() -> None:
    """Read a page from standard input and write its text to standard output, as `contained.py` reads it."""
    text, notes = html_text(sys.stdin.buffer.read().decode())
    sys.stdout.buffer.write(json.dumps({"text": text, "notes": notes}).encode() + b"\n")
