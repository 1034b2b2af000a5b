"""Columns of short lines side by side, which look like a table: narrow prose, and lists.

Rows of a page whose cells stand below one another are a table unless a rule says otherwise. Two rules do.

- Prose: in each column most lines go on in the middle of a sentence, where the next word had no more room.
- Lists: in each column lines begin with a bullet or a number, and all other lines go on so.

What neither rule tells from a table is read as one, row by row: addresses or verses side by side, for instance.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from statistics import mean, median

from palmette.documents.pieces import Piece, rows_of

_FEWEST_ROWS = 4
_FEWEST_WORDS = (
    2.5  # of a line of prose, on average. Cells of a table that wrap are as long, but seldom in all columns.
)
_MOST_COLUMNS = 12  # of lists or prose. Rows of more cells are not compared.
_ITEM = re.compile(r"(?:[•·▪●○◦‣*]|\d{1,3}[.)])\s+\S|[\u2013\u2014-]\s+[^\s\d]")
_BULLET = re.compile(r"[•·▪●○◦‣*\u2013\u2014-]|\d{1,3}[.)]")
_ENDS_SENTENCE = re.compile(r"[.!?:;][\"'\u201d\u2019)\]]*$")

Cell = list[Piece]


def narrow_columns(pieces: Sequence[Piece]) -> Iterator[list[Piece]]:
    """Parts of a page that are read from top to bottom, one after another: narrow columns, and what is between them.

    Args:
        pieces: what stands on a part of a page. None of it is left out, and none is given twice.
    """
    rows = [_cells(row) for row in rows_of(pieces)]
    between: list[Piece] = []
    index = 0
    while index < len(rows):
        columns, end = _block(rows, index)
        if not (_is_prose(columns) or _is_lists(columns)):
            # No block that begins further down in this one is tried, since it would leave the first rows out.
            between.extend(piece for row in rows[index:end] for cell in row for piece in cell)
        else:
            if between:
                yield between
            yield from ([piece for cell in column for piece in cell] for column in columns)
            between = []
        index = end
    if between:
        yield between


def _cells(row: Sequence[Piece]) -> list[Cell]:
    """The cells of a row, from the left. A bullet is a part of the cell after it."""
    cells: list[Cell] = []
    for piece in sorted(row, key=lambda piece: piece.left):
        if cells and len(cells[-1]) == 1 and _BULLET.fullmatch(cells[-1][0].text.strip()):
            cells[-1].append(piece)
        else:
            cells.append([piece])
    return cells


def _block(rows: Sequence[Sequence[Cell]], start: int) -> tuple[list[list[Cell]], int]:
    """The columns that begin with the cells of a row, and the number of the first row that does not belong to them.

    A row belongs to them if each of its cells stands in a column of its own, and no more space is above it than usual.
    """
    columns = [[cell] for cell in rows[start]]
    edges = [(cell[0].left, cell[-1].right) for cell in rows[start]]
    index, steps = start + 1, list[float]()
    while 1 < len(columns) <= _MOST_COLUMNS and index < len(rows):
        step = rows[index - 1][0][0].middle - rows[index][0][0].middle
        if steps and step > 1.5 * median(steps):
            break
        found = [_column_of(cell, edges) for cell in rows[index]]
        numbers = [number for number in found if number is not None]
        if len(set(numbers)) < len(found):
            break
        for number, cell in zip(numbers, rows[index], strict=True):
            edges[number] = min(edges[number][0], cell[0].left), max(edges[number][1], cell[-1].right)
            columns[number].append(cell)
        steps.append(step)
        index += 1
    return columns, index


def _column_of(cell: Cell, edges: Sequence[tuple[float, float]]) -> int | None:
    """The number of the only column that a cell stands in. None if it stands in none or in several."""
    inside = [i for i, (left, right) in enumerate(edges) if cell[0].left < right and cell[-1].right > left]
    return inside[0] if len(inside) == 1 else None


def _is_prose(columns: Sequence[Sequence[Cell]]) -> bool:
    if len(columns) < 2 or min(len(column) for column in columns) < _FEWEST_ROWS:
        return False
    for column in columns:
        texts, goes_on = [_text(cell) for cell in column], _goes_on(column)
        odd = sum(not on and not _ENDS_SENTENCE.search(text) for on, text in zip(goes_on, texts, strict=False))
        long = mean(len(text.split()) for text in texts) >= _FEWEST_WORDS
        if not long or sum(goes_on) < 0.5 * len(goes_on) or odd > 0.25 * len(goes_on):
            return False
    return True


def _is_lists(columns: Sequence[Sequence[Cell]]) -> bool:
    if len(columns) < 2 or min(len(column) for column in columns) < 2:
        return False
    for column in columns:
        begins = [bool(_ITEM.match(_text(cell))) for cell in column]
        others = zip(begins[1:], _goes_on(column), strict=True)
        if not begins[0] or sum(begins) < 2 or not all(begin or on for begin, on in others):
            return False
    return True


def _goes_on(column: Sequence[Cell]) -> list[bool]:
    """For each line but the last, whether a sentence goes on in the next one, whose first word had no more room."""
    right = max(cell[-1].right for cell in column)
    found = []
    for cell, following in pairwise(column):
        text, after = _text(cell), _text(following)
        letter = (cell[-1].right - cell[0].left) / max(len(text), 1)
        needed = letter * (len(after.partition(" ")[0]) + 1)
        inside = after[:1].islower() and not _ENDS_SENTENCE.search(text)
        found.append(inside and cell[-1].right + needed > right)
    return found


def _text(cell: Cell) -> str:
    return " ".join(piece.text.strip() for piece in cell)
