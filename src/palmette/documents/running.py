"""Running heads and page numbers: what stands at the top or bottom of many pages and belongs to none of them.

A line counts as the same on several pages if all of it is the same but for a page number. A page number is set apart:
it is alone, or stands behind wide white space or a divider at one end, or follows a word such as "Page". And it grows
as the pages do. So lines such as "Article 1. The tenant pays 100." and "Article 2. The tenant pays 100." are text.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from palmette.documents.pieces import Line

# What is written for "page" and for "of": in English, German, French, Spanish, Italian, Portuguese, Dutch, Swedish,
# Danish, Finnish, Polish, Czech, Hungarian, Turkish and Russian.
_PAGE = (
    r"(?:pages?|pg\.?|pp?\.|seite|s\.|página|pagina|pág\.|pag\.|bladzijde|blz\.|side|sida|sivu|strona|strana|str\."
    r"|oldal|sayfa|страница|стр\.)"
)
_OF = r"(?:/|of|von|sur|de|di|van|av|af|z|ze|из)"
_NUMBER = r"(?:\d{1,9}|[ivxlc]{1,8})"
_NUMBERS = rf"{_NUMBER}(?:[-.]{_NUMBER})?(?:\s*{_OF}\s*{_NUMBER})?"
_DASH = r"[-\u2010-\u2015]"
_PAGE_NUMBER = re.compile(
    rf"(?:{_DASH}\s*)?(?:{_PAGE}\s*)?{_NUMBERS}(?:\s*{_DASH})?"
    r"|[A-Z][A-Z_-]*\d{4,9}",  # stamped on every page, as ABC000123
    re.IGNORECASE,
)
_AT_END = re.compile(rf"(?<=\s)(?:(?:[|·•]|{_DASH})\s+(?:{_PAGE}\s*)?|{_PAGE}\s*){_NUMBERS}\Z", re.IGNORECASE)
_AT_START = re.compile(rf"\A(?:{_PAGE}\s*)?{_NUMBERS}\s+[|·•](?=\s)", re.IGNORECASE)
_SINGLE_NUMBER = re.compile(r"\d+|\b[ivxlc]+\b", re.IGNORECASE)
_LONGEST = 300  # characters of a line that may end with a page number
_FEWEST = 3  # pages
_ROMAN = {"i": 1, "v": 5, "x": 10, "l": 50, "c": 100}

# What a line says, with "#" for its page number, and by how much that differs from the number of the page that it
# stands on. None if it has no page number.
Head = tuple[str, int | None]


def running_heads(pages: Sequence[Sequence[Line]]) -> set[Head]:
    """What stands at the top or at the bottom of at least half of the pages, and of three.

    Args:
        pages: the lines of each page.
    """
    found = [
        {head for line in _edge(lines) for head in _heads(line, page)} for page, lines in enumerate(pages, start=1)
    ]
    heads = {head for head, count in Counter(head for page in found for head in page).items() if count >= _FEWEST}
    # A numbering may begin again, as after the foreword. So the pages of all of them together are counted.
    texts = Counter(text for page in found for text in {text for text, _ in page & heads})
    return {head for head in heads if texts[head[0]] >= len(pages) / 2}


def without_running(lines: Sequence[Line], running: set[Head], page: int, num_pages: int) -> list[Line]:
    """The lines of a page without running heads and page numbers at its top and bottom.

    Args:
        lines: the lines.
        running: what `running_heads` found.
        page: the number of the page, from 1.
        num_pages: the number of all pages. That of the only page of a document is text.
    """
    number = re.compile(rf"(?:page|p\.|-|\u2013)?\s*{page}\s*(?:-|\u2013|(?:of|/)\s*{num_pages})?", re.IGNORECASE)
    edge = {
        id(line)
        for line in _edge(lines)
        if not running.isdisjoint(_heads(line, page)) or (num_pages > 1 and number.fullmatch(line.text))
    }
    return [line for line in lines if id(line) not in edge]


def shown_head(line: Line) -> str:
    """What a line says, with "#" for each number of its page number.

    >>> from array import array
    >>> shown_head(Line("Terms Page 3 of 9", array("f"), 0.0, 0.0, 100.0, 10.0, False, ("Terms", "Page 3 of 9")))
    'Terms Page # of #'
    """
    return _numbered(line)[0]


def _edge(lines: Sequence[Line]) -> Iterable[Line]:
    by_height = sorted(lines, key=lambda line: -line.top)
    return by_height[:2] + by_height[2:][-2:]


def _heads(line: Line, page: int) -> Iterator[Head]:
    """What a line is if it is a running head, one for each number that may be that of the page."""
    text, values = _numbered(line)
    if not values:
        yield text, None
    for value in values:
        yield text, value - page


def _numbered(line: Line) -> tuple[str, list[int]]:
    """What a line says with "#" for the numbers of its page number, and those numbers."""
    values: list[int] = []

    def replace(found: re.Match[str]) -> str:
        numbers = [(one, _value(one[0])) for one in _SINGLE_NUMBER.finditer(found[0])]
        values.extend(value for _, value in numbers if value is not None)
        shown = found[0]
        for one, value in reversed(numbers):
            shown = shown if value is None else f"{shown[: one.start()]}#{shown[one.end() :]}"
        return shown

    parts = []
    for part in line.parts:
        text = " ".join(part.split())
        if _PAGE_NUMBER.fullmatch(text):
            text = _PAGE_NUMBER.sub(replace, text)
        elif len(text) <= _LONGEST:
            text = _AT_START.sub(replace, _AT_END.sub(replace, text))
        parts.append(text)
    return " ".join(parts), values


def _value(text: str) -> int | None:
    """The value of a number in digits or Roman numerals. None if it is neither, as "civil" is not."""
    if text.isdecimal():
        return int(text)
    values = [_ROMAN[letter] for letter in text.lower()]
    value = sum(-one if one < after else one for one, after in zip(values, [*values[1:], 0], strict=True))
    return value if _roman(value) == text.lower() else None


def _roman(value: int) -> str:
    """A number below 400 in Roman numerals."""
    written = ""
    for numeral, worth in (
        ("c", 100),
        ("xc", 90),
        ("l", 50),
        ("xl", 40),
        ("x", 10),
        ("ix", 9),
        ("v", 5),
        ("iv", 4),
        ("i", 1),
    ):
        written += numeral * (value // worth)
        value %= worth
    return written
