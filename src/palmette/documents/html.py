"""HTML to text: tokens in one pass, blocks become lines, and what is no content stays out.

The tokens follow the rules of the HTML standard that matter for text. A tag ends at the first ">" outside quoted
values. Comments, and the contents of scripts and styles, run to their end or to the end of the page. So each character
is looked at once, whatever the page holds. Nothing of a page is executed, and nothing is fetched.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from html import unescape


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


_TAG = re.compile(r"<(/?)([a-zA-Z][^\s/>]*+)((?:[^>=]++|=\s*+(?:\"[^\"]*+\"|'[^']*+')?+)*+)>")
_ATTRIBUTE = re.compile(r"([^\s=/]+)\s*(?:=\s*(?:\"([^\"]*)\"|'([^']*)'|([^\s\"'>]+)))?")
_VOID = _names("area base br col embed hr img input link meta source track wbr")
# Their contents are not markup, up to their own end tag.
_RAW = _names("script style template noscript iframe noembed noframes xmp plaintext textarea title")
_NO_TEXT = _names("script style template noscript iframe noembed noframes head svg math object select button")
_BLOCKS = _names(
    "address article aside blockquote body caption center dd details dialog dir div dl dt fieldset figcaption figure "
    "footer form h1 h2 h3 h4 h5 h6 header hgroup hr html legend li main menu nav ol optgroup option p pre section "
    "summary table tbody td textarea tfoot th thead title tr ul"
)
_CELLS = frozenset(("td", "th"))
# Blocks that stand apart from what is around them by a blank line.
_PARAGRAPHS = _names("p h1 h2 h3 h4 h5 h6 blockquote table ul ol dl pre section article figure")
_CHROME = frozenset(("nav", "footer", "header"))
_CHROME_ROLES = frozenset(("navigation", "banner", "contentinfo", "search"))
_CONTENT = frozenset(("main", "article"))
_SPACES = re.compile(r"[ \t\n\r\f\v\u00a0\u2007\u202f\u2000-\u200a\u3000]+")
_INVISIBLE = re.compile("[\u00ad\u200b\ufeff\u2060]")
_CLOSED_BY_NEXT = {
    "li": ("li",),
    "dt": ("dt", "dd"),
    "dd": ("dt", "dd"),
    "tr": ("td", "th", "tr"),
    "td": ("td", "th"),
    "th": ("td", "th"),
    "p": ("p",),
    **dict.fromkeys(("thead", "tbody", "tfoot"), ("td", "th", "tr", "thead", "tbody")),
}
# A cell with more lines than this is no cell of a table of data. The table is there for the layout.
_LINES_OF_A_CELL = 4
_NESTED_TABLES = 10


@dataclass
class _Row:
    """A row of a table that is being read: its finished cells, and where the lines of the open one begin."""

    cells: list[list[str]] = field(default_factory=list)
    start: int | None = None


@dataclass
class _Page:
    """The text of a page while it is read.

    Attributes:
        whole: keep navigation, headers and footers too.
        lines: finished lines.
        line: the pieces of the line that is being written.
        open: the names of the open elements, each with whether it hides its text and whether it is no content.
        counts: how often each name is open.
        numbers: for each open list, the number of its next item. None where items have no numbers.
        rows: the open rows of tables, the innermost last.
        hidden, chrome: how many open elements hide their text, and how many of them as no content.
        dropped: how many characters were left out as no content.
    """

    whole: bool
    lines: list[str] = field(default_factory=list)
    line: list[str] = field(default_factory=list)
    open: list[tuple[str, bool, bool]] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    numbers: list[int | None] = field(default_factory=list)
    rows: list[_Row] = field(default_factory=list)
    hidden: int = 0
    chrome: int = 0
    dropped: int = 0

    def text(self, text: str) -> None:
        """Write text, with white space as a browser shows it."""
        text = _INVISIBLE.sub("", text)
        if self.hidden:
            self.dropped += len(_SPACES.sub(" ", text).strip()) if self.chrome else 0
        elif self.counts.get("pre"):
            first, *others = text.expandtabs(4).split("\n")
            self.line.append(first)
            for line in others:
                self.end_line()
                self.line.append(line)
        elif text:
            self.line.append(_SPACES.sub(" ", text))

    def end_line(self) -> None:
        """Finish the line, unless it is empty."""
        line = "".join(self.line)
        line = line.rstrip() if self.counts.get("pre") else re.sub(" {2,}", " ", line).strip()
        self.line.clear()
        if line:
            self.lines.append(line)

    def blank(self) -> None:
        """A blank line, unless there is one."""
        if self.lines and self.lines[-1]:
            self.lines.append("")

    def start(self, name: str, attributes: str) -> None:
        """Open an element."""
        for other in _CLOSED_BY_NEXT.get(name, ()):
            if self.open and self.open[-1][0] == other:
                self.end(other)
        if name == "br" or name in _BLOCKS:
            self.end_line()
        if name in _PARAGRAPHS:
            self.blank()
        if name in _VOID:
            return
        chrome = self._is_chrome(name, attributes)
        hides = chrome or name in _NO_TEXT or _is_hidden(attributes)
        self.hidden += hides
        self.chrome += chrome
        self.open.append((name, hides, chrome))
        self.counts[name] = self.counts.get(name, 0) + 1
        if name in ("ol", "ul"):
            self.numbers.append(_start_number(attributes) if name == "ol" else None)
        elif name == "li":
            self._start_item()
        elif name == "tr":
            self.rows.append(_Row())
        elif name in _CELLS and self.rows and len(self.rows) <= _NESTED_TABLES:
            self.rows[-1].start = len(self.lines)

    def end(self, name: str) -> None:
        """Close the innermost open element of a name, and all in it. Nothing happens if there is none."""
        if not self.counts.get(name):
            return
        while self.open:
            closed, hides, chrome = self.open.pop()
            if closed in _BLOCKS:
                self.end_line()
            if closed in _PARAGRAPHS:
                self.blank()
            self.counts[closed] -= 1
            self.hidden -= hides
            self.chrome -= chrome
            if closed in ("ol", "ul"):
                self.numbers.pop()
            elif closed in _CELLS:
                self._end_cell()
            elif closed == "tr":
                self._end_row(self.rows.pop())
            if closed == name:
                return

    def _end_cell(self) -> None:
        row = self.rows[-1] if self.rows else _Row()
        if row.start is not None:
            row.cells.append(self.lines[row.start :])
            del self.lines[row.start :]
            row.start = None

    def _end_row(self, row: _Row) -> None:
        if any(len([line for line in cell if line]) > _LINES_OF_A_CELL for cell in row.cells):
            for cell in row.cells:
                self.lines.extend(cell)
                self.blank()
            return
        cells = [" ".join(filter(None, cell)) for cell in row.cells]
        if any(cells):
            self.lines.append(" | ".join(cells).strip())

    def _start_item(self) -> None:
        number = self.numbers[-1] if self.numbers else None
        if self.numbers and number is not None:
            self.numbers[-1] = number + 1
        if not self.hidden:
            self.line.append("- " if number is None else f"{number}. ")

    def _is_chrome(self, name: str, attributes: str) -> bool:
        if self.whole:
            return False
        if name in _CHROME and (name == "nav" or not any(self.counts.get(one) for one in _CONTENT)):
            return True
        return "role" in attributes and _attributes(attributes).get("role") in _CHROME_ROLES


def html_text(markup: str) -> tuple[str, list[str]]:
    """The text of a page, and notes on what was left out.

    Blocks become lines, with a blank line between paragraphs. Rows of tables become lines with " | " between cells.
    Items of lists begin with "- " or their number. Navigation, and headers and footers of the page, are left out, and a
    note says how much. If nothing else is left, they are the text.

    Args:
        markup: the page.
    """
    page = _read(markup, whole=False)
    notes = []
    if not any(page.lines):
        page = _read(markup, whole=True)
    elif page.dropped:
        notes.append(f"left out navigation, header and footer of the page ({page.dropped:,} characters)")
    return "\n".join(page.lines).strip("\n"), notes


def _read(markup: str, *, whole: bool) -> _Page:
    page, position, size, title = _Page(whole), 0, len(markup), ""
    while position < size:
        start = markup.find("<", position)
        if start < 0:
            page.text(unescape(markup[position:]))
            break
        if start > position:
            page.text(unescape(markup[position:start]))
        following = markup[start + 1 : start + 2]
        if following in ("!", "?"):
            position = _after_declaration(markup, start)
            continue
        if not (following == "/" or (following.isascii() and following.isalpha())):
            page.text("<")
            position = start + 1
            continue
        tag = _TAG.match(markup, start)
        if tag is None:  # a tag that does not end, or an end tag without a name
            end = markup.find(">", start) if following == "/" else -1
            position = end + 1 if end >= 0 else size
            continue
        position, name = tag.end(), tag[2].lower()
        if tag[1]:
            page.end(name)
            continue
        page.start(name, tag[3])
        if name in _RAW:
            end = _end_of_raw(markup, name, position)
            inside = markup[position:end]
            if name == "title" and not title and not page.counts.get("svg"):
                title = _SPACES.sub(" ", unescape(inside)).strip()
            elif name in ("textarea", "xmp", "plaintext"):
                page.text(unescape(inside) if name == "textarea" else inside)
            position = end
    page.end_line()
    if title and not any(title in line for line in page.lines[:20]) and any(page.lines):
        page.lines[:0] = [title, ""]
    return page


def _after_declaration(markup: str, start: int) -> int:
    """Where a comment, doctype, CDATA section or processing instruction ends."""
    opening, closing = ("<!--", "-->") if markup.startswith("<!--", start) else ("<", ">")
    if markup.startswith(("<!-->", "<!--->"), start):
        opening, closing = "<!", ">"
    end = markup.find(closing, start + len(opening))
    return len(markup) if end < 0 else end + len(closing)


def _end_of_raw(markup: str, name: str, position: int) -> int:
    found = re.compile(rf"</{re.escape(name)}(?=[\s/>])", re.IGNORECASE).search(markup, position)
    return found.start() if found else len(markup)


def _attributes(text: str) -> dict[str, str]:
    return {
        name.lower(): unescape(double or single or bare).strip().lower()
        for name, double, single, bare in _ATTRIBUTE.findall(text)
    }


def _is_hidden(text: str) -> bool:
    if "hid" not in text.lower() and "none" not in text.lower():
        return False
    attributes = _attributes(text)
    style = attributes.get("style", "").replace(" ", "")
    return "hidden" in attributes or attributes.get("aria-hidden") == "true" or "display:none" in style


def _start_number(text: str) -> int:
    start = _attributes(text).get("start", "")
    return int(start) if re.fullmatch(r"-?\d{1,9}", start) else 1
