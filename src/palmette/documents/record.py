"""The text of a document, and the way back from a character to its line and page."""

from __future__ import annotations

import hashlib
from array import array
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Any

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Place:
    """Where a character stands, or a part of a line.

    Attributes:
        line: its line, from 1. In a PDF, the line of its page as printed. Else the line of the extracted text.
        page: its page in a PDF, from 1. None in a document without pages.
        box: in a PDF, the box around the character, or around all characters of the part: left, bottom, right, top.
            They are in points (1/72 inch) from the origin of the page's own coordinates, which is nearly always its
            lower left corner. None elsewhere, and for white space between words, which no box is drawn for.
    """

    line: int
    page: int | None = None
    box: Box | None = None

    def __str__(self) -> str:
        return f"line {self.line}" if self.page is None else f"page {self.page}, line {self.line}"


@dataclass(frozen=True)
class PageMap:
    """Where each character of a text stands on the pages of a PDF.

    Attributes:
        starts: for each printed line, in order, the offset of its first character in the text.
        pages: for each printed line, its page, from 1.
        lines: for each printed line, its number on that page, from 1.
        boxes: four numbers for each character of the text, as in `Place.box`. All are 0 where there is no box.
    """

    starts: Sequence[int]
    pages: Sequence[int]
    lines: Sequence[int]
    boxes: array[float]

    def place(self, offset: int) -> Place:
        """The place of the character at an offset."""
        row = self._row(offset)
        return Place(self.lines[row], self.pages[row], self._around(offset, offset + 1))

    def places(self, start: int, end: int) -> list[Place]:
        """The places of the characters from `start` to before `end`: one for each printed line, with one box."""
        if start >= end:
            return []
        first, last = self._row(start), self._row(end - 1)
        bounds = [start, *self.starts[first + 1 : last + 1], end]
        parts = zip(range(first, last + 1), pairwise(bounds), strict=True)
        return [Place(self.lines[row], self.pages[row], self._around(*part)) for row, part in parts]

    def _row(self, offset: int) -> int:
        return max(bisect_right(self.starts, offset) - 1, 0)

    def _around(self, start: int, end: int) -> Box | None:
        """The box around the characters of a line that are drawn. None if none is."""
        edges = [self.boxes[4 * offset : 4 * offset + 4] for offset in range(start, end)]
        drawn = [box for box in edges if box and (box[2] > box[0] or box[3] > box[1])]
        if not drawn:
            return None
        left, bottom, right, top = zip(*drawn, strict=True)
        return min(left), min(bottom), max(right), max(top)


@dataclass(frozen=True)
class Extracted:
    """The text of a document.

    Attributes:
        name: the name that the document was given by. "standard input" for "-".
        kind: "text", "markdown", "html", "pdf", "docx", "csv" or "xlsx".
        text: the text of record. Offsets refer to it, and count Unicode code points from 0.
        sha256: hash of the text in UTF-8.
        notes: what the user should know about how it was read, one sentence each.
        page_map: the places on the pages of a PDF. None for other kinds.
    """

    name: str
    kind: str
    text: str
    sha256: str
    notes: tuple[str, ...] = ()
    page_map: PageMap | None = field(default=None, repr=False, compare=False)

    def place(self, offset: int) -> Place:
        """Where the character at an offset stands.

        Args:
            offset: an offset in `text`. The end of the text counts as its last character.

        Raises:
            IndexError: there is no such offset.
        """
        if not 0 <= offset <= len(self.text):
            raise IndexError(f"offset {offset} of a text of {len(self.text)} characters")
        offset = min(offset, max(len(self.text) - 1, 0))
        if self.page_map is not None:
            return self.page_map.place(offset)
        return Place(bisect_right(self._line_starts, offset))

    def places(self, start: int, end: int) -> list[Place]:
        """Where a passage stands: a place for each line that it touches, in the order of the text.

        Args:
            start: the offset of its first character in `text`.
            end: one past the offset of its last character.

        Raises:
            IndexError: the text has no such characters.
        """
        if not 0 <= start < end <= len(self.text):
            raise IndexError(f"offsets {start} to {end} of a text of {len(self.text)} characters")
        if self.page_map is not None:
            return self.page_map.places(start, end)
        return [Place(line) for line in range(self.place(start).line, self.place(end - 1).line + 1)]

    def place_record(self, start: int, end: int) -> dict[str, Any]:
        """Where a passage stands, as JSON: where it begins, and in a PDF a box for each line. Boxes have two digits.

        The arguments and errors are those of `places`.

        >>> extracted("a.txt", "text", "The ferry leaves\\nat 7:40.").place_record(20, 24)
        {'line': 2}
        """
        places = self.places(start, end)
        page = {} if places[0].page is None else {"page": places[0].page}
        boxes = [
            {"page": place.page, "line": place.line, "box": [round(edge, 2) for edge in place.box]}
            for place in places
            if place.box is not None
        ]
        return {**page, "line": places[0].line, **({"boxes": boxes} if boxes else {})}

    @cached_property
    def _line_starts(self) -> list[int]:
        starts, found = [0], self.text.find("\n")
        while found >= 0:
            starts.append(found + 1)
            found = self.text.find("\n", found + 1)
        return starts


def extracted(name: str, kind: str, text: str, notes: Sequence[str] = (), page_map: PageMap | None = None) -> Extracted:
    """A document with the hash of its text. The arguments are the attributes of `Extracted`."""
    return Extracted(name, kind, text, hashlib.sha256(text.encode()).hexdigest(), tuple(notes), page_map)
