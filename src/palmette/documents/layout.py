"""The reading order of a page: pieces of text with their places become lines, lines become columns and tables.

A page of a PDF says where each character is drawn, and nothing else. What a reader sees is derived here by rules on
white space, which are stated at the functions. Coordinates are in points, upwards and to the right, of the page as it
is displayed.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterator, Sequence
from itertools import groupby, pairwise
from statistics import median

from palmette.documents.narrow import narrow_columns
from palmette.documents.pieces import CELLS, Line, Piece, rows_of

# A column of prose has at least so many lines, and its lines so many characters in the middle.
_LINES_OF_A_COLUMN = 4
_LETTERS_OF_A_COLUMN = 20
# Rows with more cells than in any table are not compared, since that would take the product of their numbers.
_MANY_CELLS = 10_000
_ENUMERATOR = re.compile(
    r"[(\[]?(?:[•·▪●○◦‣*\u2013\u2014-]|\d{1,3}(?:\.\d{1,3})*|[A-Za-z]|[ivxlcIVXLC]{1,6})[.)\]]{0,2}"
)
_RIGHT_TO_LEFT = re.compile("[\u0590-\u08ff]")


def read_page(pieces: Sequence[Piece]) -> list[Line]:
    """The lines of a page in reading order.

    Args:
        pieces: what is drawn on the page, in any order. Pieces of white space alone are ignored.
    """
    found: list[Line] = []
    for number, column in enumerate(_columns([piece for piece in pieces if piece.text.strip()])):
        lines = _lines(column)
        edges = (min(line.left for line in lines), max(line.right for line in lines))
        for line in lines:
            line.column, line.edges = number, edges
        found.extend(lines)
    return found


def _columns(pieces: list[Piece], depth: int = 0) -> Iterator[list[Piece]]:
    """Parts of a page that are read from top to bottom, one after another.

    Where a strip of white space has prose on both sides, the page has two columns. What crosses the strip, such as a
    title, divides the page: above it both columns are read, then the title, then the columns below.
    """
    strip = _strip(pieces) if depth < 3 and len(pieces) >= 2 * _LINES_OF_A_COLUMN else None
    if strip is None:
        yield from narrow_columns(pieces)
        return
    together: list[Piece] = []
    for in_columns, band in _bands(pieces, strip):
        left = [piece for piece in band if piece.right <= strip]
        right = [piece for piece in band if piece.left >= strip]
        if not in_columns or not (_is_read_down(left) and _is_read_down(right)):
            together.extend(band)
            continue
        yield from _columns(together, depth + 1)
        yield from _columns(left, depth + 1)
        yield from _columns(right, depth + 1)
        together = []
    yield from _columns(together, depth + 1)


def _bands(pieces: Sequence[Piece], strip: float) -> Iterator[tuple[bool, list[Piece]]]:
    """From top to bottom, groups of rows that stand in columns beside a strip, and groups of rows that do not.

    A row does not stand in columns if a piece of it crosses the strip, or if it belongs to a table: it has cells on
    both sides that fill neither, and so has a row beside it, with cells at the same places.
    """
    rows = [sorted(row, key=lambda piece: piece.left) for row in rows_of(pieces)]
    left, right = min(piece.left for piece in pieces), max(piece.right for piece in pieces)
    crosses = [any(piece.left < strip < piece.right for piece in row) for row in rows]
    short = []
    for row, crossing in zip(rows, crosses, strict=True):
        before = [piece for piece in row if piece.right <= strip]
        after = [piece for piece in row if piece.left >= strip]
        on_both = bool(before and after) and not crossing
        short.append(on_both and not _fills(before, strip - left) and not _fills(after, right - strip))
    table = [False] * len(rows)
    for index, (row, other) in enumerate(pairwise(rows)):
        if short[index] and short[index + 1] and _agree(row, other):
            table[index] = table[index + 1] = True
    for in_columns, group in groupby(range(len(rows)), key=lambda index: not (crosses[index] or table[index])):
        yield in_columns, [piece for index in group for piece in rows[index]]


def _fills(row: Sequence[Piece], width: float) -> bool:
    """Whether a row fills its column: as one piece at least half of it, as several all of it."""
    covered = (max(piece.right for piece in row) - min(piece.left for piece in row)) / width
    return covered > (0.55 if len(row) == 1 else 0.9)


def _strip(pieces: list[Piece]) -> float | None:
    """The middle of a vertical strip of white space between two columns of prose. None if there is none.

    Of all strips in the middle three fifths of the page that at most a third of the pieces cross, the one that the
    fewest cross is taken, and of those the widest.
    """
    left, right = min(piece.left for piece in pieces), max(piece.right for piece in pieces)
    width = int(right - left) + 1
    if not 100 < width < 20000:
        return None
    changes = [0] * (width + 2)
    for piece in pieces:
        changes[max(int(piece.left - left), 0)] += 1
        changes[min(int(piece.right - left) + 1, width + 1)] -= 1
    covered, depth = [], 0
    for change in changes[: width + 1]:
        depth += change
        covered.append(depth)
    narrow = 0.5 * median(piece.height for piece in pieces)
    best: tuple[int, float, float] | None = None
    for crossed, first, last in _runs(covered):
        middle = left + (first + last) / 2
        if last - first < narrow or not 0.2 * width < middle - left < 0.8 * width or crossed > len(pieces) / 3:
            continue
        if best is None or (crossed, first - last) < best[:2]:
            best = (crossed, first - last, middle)
    if best is None:
        return None
    sides = [piece for piece in pieces if piece.right <= best[2]], [piece for piece in pieces if piece.left >= best[2]]
    return best[2] if all(_is_read_down(side) for side in sides) else None


def _is_read_down(pieces: list[Piece]) -> bool:
    """Whether pieces are prose in one column or in several."""
    return _is_prose(pieces) or (len(pieces) >= 2 * _LINES_OF_A_COLUMN and _strip(pieces) is not None)


def _runs(covered: list[int]) -> Iterator[tuple[int, int, int]]:
    """Runs of bins with equal counts that are lower than at both ends: the count, the first and the last bin."""
    start = 0
    for index in range(1, len(covered) + 1):
        if index < len(covered) and covered[index] == covered[start]:
            continue
        before = covered[start - 1] if start else -1
        after = covered[index] if index < len(covered) else -1
        if before > covered[start] < after:
            yield covered[start], start, index - 1
        start = index


def _is_prose(pieces: Sequence[Piece]) -> bool:
    """Whether pieces are lines of prose, not cells of a table.

    Prose has several lines, most of them long and filled, and where its lines have wide white space it stands at
    another place in each.
    """
    if len(pieces) < _LINES_OF_A_COLUMN:
        return False
    rows = [sorted(row, key=lambda piece: piece.left) for row in rows_of(pieces)]
    if len(rows) < _LINES_OF_A_COLUMN:
        return False
    width = max(piece.right for piece in pieces) - min(piece.left for piece in pieces)
    long = median(sum(len(piece.text) for piece in row) for row in rows) >= _LETTERS_OF_A_COLUMN
    filled = median(row[-1].right - row[0].left for row in rows) > 0.5 * width
    aligned = sum(_agree(row, other) for row, other in pairwise(rows))
    return long and filled and aligned <= 0.4 * len(rows)


def _lines(pieces: Sequence[Piece]) -> list[Line]:
    """Lines of a column, from top to bottom. Pieces beside one another are cells of a row where the lines around agree.

    Two rows are a table if cells of them begin or end at the same place. A number or a bullet at the beginning of a
    line is no cell.
    """
    rows = [sorted(row, key=lambda piece: piece.left) for row in rows_of(pieces)]
    parts = [tuple(piece.text for piece in row) for row in rows]
    rows = [_joined_enumerators(row) for row in rows]
    tables = [_agree(row, other) for row, other in pairwise(rows)]
    lines = []
    for index, row in enumerate(rows):
        is_row = len(row) > 1 and ((index > 0 and tables[index - 1]) or (index < len(tables) and tables[index]))
        if len(row) > 1 and all(_RIGHT_TO_LEFT.search(piece.text) for piece in row):
            row = row[::-1]
        lines.append(_line(row, CELLS if is_row else " ", parts[index]))
    return lines


def _joined_enumerators(row: list[Piece]) -> list[Piece]:
    """A row whose first piece, if it is a number or a bullet, is joined to the second."""
    if len(row) < 2 or not _ENUMERATOR.fullmatch(row[0].text.strip()):
        return row
    return [_joined(row[:2], " "), *row[2:]]


def _agree(row: Sequence[Piece], other: Sequence[Piece]) -> bool:
    """Whether cells of two rows begin, end or have their middle at the same place.

    That the first cells begin together says nothing.
    """
    if len(row) < 2 or len(other) < 2 or len(row) * len(other) > _MANY_CELLS:
        return False
    return (
        any(_near(one.left, two.left) for one in row[1:] for two in other[1:])
        or any(_near(one.right, two.right) for one in row[:-1] for two in other[:-1])
        or any(_near(one.left + one.right, two.left + two.right) for one in row for two in other)
        or _near(row[-1].right, other[-1].right)
        or (len(row) == len(other) > 2 and _between(row, other))
    )


def _between(row: Sequence[Piece], other: Sequence[Piece]) -> bool:
    """Whether each cell of a row stands between the neighbours of the cell of another row with its number."""
    after = all(two.right < one.left for one, two in zip(row[1:], other, strict=False))
    return after and all(one.right < two.left for one, two in zip(row, other[1:], strict=False))


def _near(one: float, two: float) -> bool:
    return abs(one - two) < 3.0


def _joined(pieces: Sequence[Piece], between: str) -> Piece:
    text, boxes = pieces[0].text.rstrip(), array("f", pieces[0].boxes[: 4 * len(pieces[0].text.rstrip())])
    for piece in pieces[1:]:
        start = len(piece.text) - len(piece.text.lstrip())
        end = len(piece.text.rstrip())
        boxes.extend([0.0] * (4 * len(between)))
        boxes.extend(piece.boxes[4 * start : 4 * end])
        text += between + piece.text[start:end]
    left, right = min(piece.left for piece in pieces), max(piece.right for piece in pieces)
    return Piece(text, boxes, left, min(p.bottom for p in pieces), right, max(p.top for p in pieces))


def _line(row: Sequence[Piece], between: str, parts: tuple[str, ...]) -> Line:
    whole = _joined(row, between)
    start = len(whole.text) - len(whole.text.lstrip())
    text, boxes = whole.text[start:], whole.boxes[4 * start :]
    return Line(text, boxes, whole.left, whole.bottom, whole.right, whole.top, between == CELLS, parts)
