"""Printed lines become paragraphs: words divided at line ends are joined, and every character keeps its place."""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from palmette.documents.pieces import Line
from palmette.documents.record import PageMap

SOFT_HYPHEN = "\u00ad"
_WORD = re.compile(r"[^\W\d_]+(?:-[^\W\d_]+)*")
_ITEM = re.compile(
    r"(?:[•·▪●○◦‣*\u2013\u2014-]|[(\[]?(?:\d{1,3}(?:\.\d{1,3})*|[A-Za-z]|[ivxlcIVXLC]{1,6})[.)\]]+|\d+(?:\.\d+)+)\s"
)
_DIVIDED = re.compile(r"[^\W\d_][-\u2010\u00ad]$")
_KEEP_HYPHEN = frozenset(
    "non self well half cross ex twenty thirty forty fifty sixty seventy eighty ninety".split()  # noqa: SIM905
)
_ENDS_SENTENCE = re.compile(r"[.!?:;][\"'\u201d\u2019)\]]*$")


@dataclass
class _Writer:
    """The text that is being written, with the place of each character."""

    pieces: list[str] = field(default_factory=list)
    size: int = 0
    boxes: array[float] = field(default_factory=lambda: array("f"))
    starts: list[int] = field(default_factory=list)
    pages: list[int] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)

    def write(self, text: str, boxes: Sequence[float] | None = None) -> None:
        self.pieces.append(text)
        self.size += len(text)
        self.boxes.extend([0.0] * (4 * len(text)) if boxes is None else boxes)

    def end_paragraph(self) -> None:
        """A hyphen that stayed at the end is written as one."""
        if self.pieces and self.pieces[-1].endswith(SOFT_HYPHEN):
            self.pieces[-1] = self.pieces[-1][:-1] + "-"
        self.write("\n")


def write_pages(pages: Sequence[Sequence[tuple[int, Line]]]) -> tuple[str, PageMap]:
    """The text of pages, one paragraph a line, and the place of each of its characters.

    Args:
        pages: for each page its lines in reading order, each with its number on the page.
    """
    words = {word.lower() for lines in pages for _, line in lines for word in _WORD.findall(line.text)}
    writer, previous = _Writer(), None
    numbered = [(page, number, line) for page, lines in enumerate(pages, start=1) for number, line in lines]
    leadings = _leadings(pages)
    for page, number, line in numbered:
        text, boxes = _without_soft_hyphens(line.text, line.boxes)
        if previous is not None:
            before_page, before = previous
            if _begins_paragraph(before, line, page != before_page, leadings[page - 1]):
                writer.end_paragraph()
            else:
                _join(writer, text, words)
        writer.starts.append(writer.size)
        writer.pages.append(page)
        writer.numbers.append(number)
        writer.write(text, boxes)
        previous = (page, line)
    writer.end_paragraph()
    text = "".join(writer.pieces).rstrip("\n")
    return text, PageMap(writer.starts, writer.pages, writer.numbers, writer.boxes[: 4 * len(text)])


def _without_soft_hyphens(text: str, boxes: array[float]) -> tuple[str, array[float]]:
    """A line without the soft hyphens inside it, which are invisible. One at its end is a hyphen."""
    if SOFT_HYPHEN not in text[:-1]:
        return text, boxes
    kept = [index for index, one in enumerate(text) if one != SOFT_HYPHEN or index == len(text) - 1]
    places = array("f", [number for index in kept for number in boxes[4 * index : 4 * index + 4]])
    return "".join(text[index] for index in kept), places


def _leadings(pages: Sequence[Sequence[tuple[int, Line]]]) -> list[float]:
    """For each page, the usual distance between lines as a multiple of their height."""
    found = []
    for lines in pages:
        steps = sorted(_steps([line for _, line in lines]))
        # Most lines are followed by one of their own paragraph, but short pages have many headings.
        found.append(steps[len(steps) // 3] if steps else 1.2)
    return found


def _steps(lines: Sequence[Line]) -> Iterator[float]:
    for line, following in pairwise(lines):
        if line.column == following.column and following.top < line.top and not line.row and line.height > 0:
            yield (line.top - following.top) / line.height


def _begins_paragraph(before: Line, line: Line, new_page: bool, leading: float) -> bool:
    """Whether a line begins a paragraph, by what is between it and the line before it.

    A paragraph begins after a larger distance, in another size, with an item of a list, with an indentation, at a row
    of a table, and after a line on which the next word would have had room. In another column or on another page it
    goes on only if a sentence does.
    """
    if before.row or line.row or _ITEM.match(line.text):
        return True
    tall, low = max(before.height, line.height), min(before.height, line.height)
    if low < 0.85 * tall:
        return True
    if new_page or line.column != before.column:
        return bool(_ENDS_SENTENCE.search(before.text)) or not line.text[:1].islower()
    if before.top - line.top > (leading + 0.35) * before.height or line.top > before.top:
        return True
    left, right = line.edges
    letter = (line.right - line.left) / max(len(line.text), 1)
    needed = letter * (len(line.text.partition(" ")[0]) + 2)
    indented = line.left - before.left > 0.8 * line.height and abs(before.left - left) < 3.0
    if _DIVIDED.search(before.text) and line.text[:1].islower():
        return False
    return before.right + needed < right or (indented and bool(_ENDS_SENTENCE.search(before.text)))


def _join(writer: _Writer, text: str, words: set[str]) -> None:
    """What stands between a line and the next one of its paragraph: a space, or nothing in a divided word.

    A hyphen between letters at the end of a line belongs to the line, unless the word is written with it elsewhere in
    the document and nowhere without it, or begins as English words with a hyphen do ("twenty-eight").
    """
    before = writer.pieces[-1]
    if len(before) < 2 or before[-1] not in "-\u2010\u00ad" or not (before[-2].isalpha() and text[:1].isalpha()):
        bare = before.endswith(("-", "\u2010")) and before[-2:-1].isdigit() and text[:1].isdigit()
        writer.write("" if bare or (before.endswith(("/", "\u2014")) and text[:1].isalnum()) else " ")
        return
    first, second = _last_word(before[:-1]), _WORD.match(text)
    rest = second[0] if second else ""
    known = f"{first}-{rest}".lower() in words and f"{first}{rest}".lower() not in words
    compound = known or first.lower() in _KEEP_HYPHEN
    if compound or not text[:1].islower():
        writer.pieces[-1] = before[:-1] + "-"
        return
    writer.pieces[-1] = before[:-1]
    writer.size -= 1
    del writer.boxes[-4:]


def _last_word(text: str) -> str:
    tail = text[-60:]
    start = len(tail)
    while start and (tail[start - 1].isalpha() or tail[start - 1] == "-"):
        start -= 1
    return tail[start:].lstrip("-")
