"""Rows of files with a text in each: JSON Lines, JSON lists, tables, Parquet and Arrow, read one after the other."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from palmette.data.arrow import arrow_rows
from palmette.data.compressed import inner_name, open_bytes
from palmette.data.json_files import is_json_list, is_squad, read_text
from palmette.data.kinds import other_kind, wrong_kind
from palmette.data.not_text import not_utf8
from palmette.data.records import check_unicode
from palmette.data.rows import parse_json_line, parse_json_list
from palmette.data.tables import TableRow, is_table, open_table
from palmette.data.text import short
from palmette.data.values import is_number
from palmette.errors import DataError, kind_of_value

ROWS = frozenset((".jsonl", ".json", ".csv", ".tsv", ".tab", ".xlsx", ".parquet", ".arrow"))
_FORMAT = "Give a JSON object with a 'text' in each line, or a JSON list of such objects."


def rows_of_file(path: Path) -> Iterator[tuple[int, Mapping[str, Any] | DataError]]:
    """The rows of a file, each with its number from 1. A row that cannot be read is given as its error.

    Raises:
        DataError: the file cannot be read, holds questions as SQuAD v2 does, or is compressed and not JSON.
    """
    suffix = inner_name(path).suffix.lower()
    if suffix == ".json":
        yield from _json(path)
    elif suffix == ".jsonl":
        yield from _json_lines(path)
    elif path != inner_name(path):
        raise DataError(f"{path} is compressed, and only text and JSON may be", "Decompress it first.")
    elif suffix == ".arrow":
        yield from enumerate(arrow_rows(path), 1)
    else:
        assert is_table(path)
        for row in open_table(path, str(path)).rows:
            yield row.number, row


def _json(path: Path) -> Iterator[tuple[int, Mapping[str, Any] | DataError]]:
    """The items of a JSON list, or lines as many programs write them into a .json too."""
    if is_squad(path):
        raise wrong_kind(str(path), "questions", ("texts",))
    if is_json_list(path):
        yield from enumerate(parse_json_list(read_text(path, str(path))[1], str(path), _FORMAT), 1)
    else:
        yield from _json_lines(path)


def _json_lines(path: Path) -> Iterator[tuple[int, Mapping[str, Any] | DataError]]:
    with open_bytes(path) as stream:
        for number, line in enumerate(stream, 1):
            where = f"{path}: line {number}"
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise not_utf8(line, f"{where} is not UTF-8 at its byte {error.start}") from error
            if not text.strip():
                continue
            try:
                yield number, parse_json_line(text, where, _FORMAT)
            except DataError as error:
                yield number, error


def weight_of_row(row: Mapping[str, Any], column: str, where: str) -> float:
    """The weight of a row's text in the loss.

    Args:
        row: the row.
        column: the name of its column.
        where: how messages name the row.

    Raises:
        DataError: there is none, or it is no number above 0.
    """
    weight = row.get(column)
    if isinstance(row, TableRow) and isinstance(weight, str):  # text is all that a table of text has
        with contextlib.suppress(ValueError):
            weight = float(weight)
    if not is_number(weight) or weight <= 0:
        raise DataError(
            f"{where}: {column!r} is {short(weight)}, no weight",
            "Give a number above 0. Leave out rows that are not to be learned.",
        )
    return float(weight)


def text_of_row(row: Mapping[str, Any], column: str, where: str) -> str:
    """The text of a row.

    Args:
        row: the row.
        column: the name of its column.
        where: how messages name the row.

    Raises:
        DataError: there is none, or it is not text.
    """
    if column not in row:
        shown = other_kind(row, ("texts",))
        if shown is not None:
            raise wrong_kind(where.partition(": row ")[0], shown, ("texts",))
        others = ", ".join(map(repr, sorted(map(str, row)))) or "nothing"
        raise DataError(
            f"{where} has no {column!r}, but {others}", "Name the column of the texts: data.columns: {text: NAME}."
        )
    text = row[column]
    if not isinstance(text, str):
        raise DataError(f"{where}: {column!r} is {kind_of_value(text)}, not text", "Name the column of the texts.")
    check_unicode(text, where)
    return text
