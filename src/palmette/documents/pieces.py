"""What the layout of a page is made of: pieces of text with their places, and lines."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

CELLS = " | "


@dataclass(slots=True)
class Piece:
    """Characters that were drawn side by side.

    Attributes:
        text: the characters.
        boxes: four numbers for each character, as in `Place.box`. All are 0 for a character that is not drawn.
        left, bottom, right, top: the box around the piece, on the page as displayed.
    """

    text: str
    boxes: array[float]
    left: float
    bottom: float
    right: float
    top: float

    @property
    def height(self) -> float:
        """The height, which is about the size of the font."""
        return self.top - self.bottom

    @property
    def middle(self) -> float:
        """The height of its middle above the origin."""
        return (self.top + self.bottom) / 2


@dataclass(slots=True)
class Line:
    """A line of a page as a reader sees it.

    Attributes:
        text, boxes: as in `Piece`.
        left, bottom, right, top: the box around the line.
        row: whether it is a row of a table, with cells divided by `CELLS`.
        parts: its pieces, which wide white space divides.
        column: the number of the column that it stands in. Lines of one column that follow one another may be one
            paragraph.
        edges: the left and right edge of that column.
    """

    text: str
    boxes: array[float]
    left: float
    bottom: float
    right: float
    top: float
    row: bool
    parts: tuple[str, ...] = ()
    column: int = 0
    edges: tuple[float, float] = (0.0, 0.0)

    @property
    def height(self) -> float:
        """The height, which is about the size of the font."""
        return self.top - self.bottom


def rows_of(pieces: Sequence[Piece]) -> Iterator[list[Piece]]:
    """Pieces whose middles are at about the same height, from top to bottom."""
    row: list[Piece] = []
    tallest = 0.0
    for piece in sorted(pieces, key=lambda piece: -piece.middle):
        if row and row[0].middle - piece.middle > 0.4 * min(tallest, piece.height * 2):
            yield row
            row, tallest = [], 0.0
        row.append(piece)
        tallest = max(tallest, piece.height)
    if row:
        yield row
