"""Tables for a terminal of any width. No word is broken: a table that is too wide is split between its columns."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

Cell = str | Text
Justify = Literal["left", "right"]
_BETWEEN = 3  # characters between two columns
# A word of more characters, such as a path or a setting, may go on in the next line after one of these signs.
_LONG, _LONG_HEADING = 24, 18
_SIGNS = re.compile(r"(?<=[_=+/,])|(?<=\.)(?=[^\W\d])")


@dataclass(frozen=True)
class _Column:
    heading: str
    justify: Justify


class TextTable:
    """A table without a frame, which rich prints.

    If its columns do not fit side by side, it becomes several tables with the same first columns. If these are many and
    would be repeated often, rows are numbered instead. If not even two columns fit, every row becomes a list of
    headings and values.

    Args:
        first: the heading of the first column, which holds words.
        others: the headings of columns of numbers.
        keys: how many columns name a row. They are repeated where the table is split.
    """

    def __init__(self, first: str, *others: str, keys: int = 1) -> None:
        self._columns = [_Column(first, "left"), *(_Column(name, "right") for name in others)]
        self._rows: list[Sequence[Cell]] = []
        self._keys = keys

    def add_column(self, heading: str, *, justify: Justify = "left") -> None:
        """Add a column at the right. By default it holds words."""
        self._columns.append(_Column(heading, justify))

    def add_row(self, *cells: Cell) -> None:
        """Add a row, with a cell for each column. Missing ones at its end are empty."""
        self._rows.append([*cells, *[""] * (len(self._columns) - len(cells))])

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The tables that fit the console, with an empty line between them."""
        width = options.max_width
        groups = list(self._groups(width))
        if len(groups) > 2 and self._keys > 1:
            yield from self._numbered().__rich_console__(console, options)
            return
        if not groups:
            yield from self._lists(width)
            return
        for number, group in enumerate(groups):
            if number:
                yield Text("")
            yield self._table(group, width)

    def _numbered(self) -> TextTable:
        """The same table, in which a number names each row, so that less has to be repeated."""
        table = TextTable("row")
        for column in self._columns:
            table.add_column(column.heading, justify=column.justify)
        for number, row in enumerate(self._rows, 1):
            table.add_row(str(number), *row)
        return table

    def _groups(self, width: int) -> Iterator[list[int]]:
        """The columns of each table. There are none if the columns that name a row leave no room for another one."""
        least = [self._least(index) for index in range(len(self._columns))]
        keys, others = list(range(self._keys)), range(self._keys, len(self._columns))
        room = width - sum(least[index] for index in keys) - _BETWEEN * (len(keys) - 1)
        if (others and any(least[index] + _BETWEEN > room for index in others)) or room < 0:
            return
        group, used = list(keys), 0
        for index in others:
            need = least[index] + _BETWEEN
            if used + need > room:
                yield group
                group, used = list(keys), 0
            group.append(index)
            used += need
        yield group

    def _least(self, index: int) -> int:
        """The width below which a word of a column would be broken, or a number parted from its deviation."""
        column, cells = self._columns[index], [row[index] for row in self._rows]
        measured = _most if column.justify == "right" else _least
        return max([_least(column.heading, _LONG_HEADING), *map(measured, cells)])

    def _most(self, index: int) -> int:
        """The width that a column needs if no line is wrapped."""
        return max(_most(cell) for cell in (self._columns[index].heading, *(row[index] for row in self._rows)))

    def _table(self, columns: Sequence[int], width: int) -> Table:
        """Some columns as a table of this width at most."""
        widths = _widths([self._least(index) for index in columns], [self._most(index) for index in columns], width)
        table = Table(show_edge=False, pad_edge=False)
        for index, chosen in zip(columns, widths, strict=True):
            column = self._columns[index]
            heading = Text("\n".join(even(column.heading, chosen, _LONG_HEADING)))
            table.add_column(heading, justify=column.justify, width=chosen, no_wrap=True)
        for row in self._rows:
            table.add_row(*(_fitted(row[index], chosen) for index, chosen in zip(columns, widths, strict=True)))
        return table

    def _lists(self, width: int) -> Iterator[Text]:
        """Every row as a list of headings and values, for terminals that are narrower than two columns."""
        for number, row in enumerate(self._rows):
            if number:
                yield Text("")
            for column, cell in zip(self._columns, row, strict=True):
                lines = wrapped(f"{column.heading}: {_plain(cell)}", width)
                yield Text("\n".join(lines), overflow="fold")


def wrapped(cell: Cell, width: int, long: int = _LONG) -> list[str]:
    """The lines of a cell. They break at blanks, and in words of more than `long` characters after signs like _ and /.

    >>> wrapped("exact match (EM)", 8), wrapped("learning_rate=0.0001_rank=16", 20)
    (['exact', 'match', '(EM)'], ['learning_rate=', '0.0001_rank=16'])
    """
    lines: list[str] = []
    for paragraph in _plain(cell).split("\n"):
        line = ""
        for blank, piece in _pieces(paragraph, long):
            if line and len(line) + len(blank) + len(piece) > width:
                lines.append(line)
                line = piece
            else:
                line += blank + piece if line else piece
        lines.append(line)
    return lines


def even(cell: Cell, width: int, long: int = _LONG) -> list[str]:
    """The lines of a cell, no more than `wrapped` gives, and of much the same length.

    >>> wrapped("risk over coverage, 0 to 1", 24), even("risk over coverage, 0 to 1", 24)
    (['risk over coverage, 0 to', '1'], ['risk over', 'coverage, 0 to 1'])
    """
    fewest = wrapped(cell, width, long)
    if len(fewest) > 1:
        for narrower in range(_least(cell, long), width):
            lines = wrapped(cell, narrower, long)
            if len(lines) == len(fewest):
                return lines
    return fewest


def _pieces(text: str, long: int) -> Iterator[tuple[str, str]]:
    """What may stand at the beginning of a line, and the blank before it."""
    for word in text.split():
        parts = _SIGNS.split(word) if len(word) > long else [word]
        yield from ((" " if not number else "", part) for number, part in enumerate(parts))


def _plain(cell: Cell) -> str:
    return cell.plain if isinstance(cell, Text) else cell


def _least(cell: Cell, long: int = _LONG) -> int:
    """The width below which something in a cell would be broken."""
    return max((len(piece) for _, piece in _pieces(_plain(cell), long)), default=0)


def _most(cell: Cell) -> int:
    return max(len(line) for line in _plain(cell).split("\n"))


def _fitted(cell: Cell, width: int) -> Text:
    """A cell in lines of a width, in the style that it has."""
    style = cell.style if isinstance(cell, Text) else ""
    fits = _most(cell) <= width
    return Text(_plain(cell) if fits else "\n".join(even(cell, width)), style)


def _widths(least: Sequence[int], most: Sequence[int], width: int) -> list[int]:
    """A width for each column: what it cannot do without, and its share of the rest."""
    room, chosen = width - sum(least) - _BETWEEN * (len(least) - 1), list(least)
    while room > 0:
        growing = [index for index, value in enumerate(chosen) if value < most[index]]
        if not growing:
            break
        for index in growing[:room]:
            chosen[index] += 1
        room -= min(room, len(growing))
    return chosen
