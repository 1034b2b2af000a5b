"""The forms in which people write down what the fields of a document hold, each as the same kind of label."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from palmette.data.text import short
from palmette.errors import DataError, kind_of_value
from palmette.extraction.schema import Field, Schema
from palmette.extraction.table import BETWEEN

WAY_OUT = (
    "Give rows with 'document' (a file, or the text), 'field' and 'value', or the table that palmette extract wrote, "
    "with its cells corrected."
)


@dataclass(frozen=True)
class Given:
    """A value as somebody wrote it down.

    Attributes:
        text: its text.
        start, end: where it stands, or where the value stood that was there before. None if nothing says so.
    """

    text: str
    start: int | None = None
    end: int | None = None


@dataclass(frozen=True)
class Label:
    """What a row says about a field.

    Attributes:
        field: the field.
        values: its values. Empty where the document does not hold it.
        undecided: whether a model left the field empty because it was unsure, and nobody said what is right.
    """

    field: Field
    values: tuple[Given, ...]
    undecided: bool = False


def labels_of(row: Mapping[str, Any], columns: Collection[str], schema: Schema, where: str) -> Iterator[Label]:
    """What a row says about fields.

    Args:
        row: the row. Empty cells are not among its keys.
        columns: the columns of all rows.
        schema: the fields.
        where: how messages name the row.

    Raises:
        DataError: the row names no field of the schema, or a value is no text.
    """
    known = {field.name: field for field in schema.fields}
    if isinstance(fields := row.get("fields"), Mapping):
        for name, entry in fields.items():
            yield _of_entry(_field(name, known, where), entry, where)
    elif {"field", "value"} <= {*columns}:
        name = row.get("field")
        if not isinstance(name, str):
            raise DataError(f"{where} has no 'field' that is text", WAY_OUT)
        field, values = _field(name, known, where), row.get("value", [])
        texts = values if isinstance(values, list) else [values]
        yield Label(field, tuple(_given(one, row.get("start"), row.get("end"), field, where) for one in texts))
    elif known.keys() & {*columns}:
        for name, field in known.items():
            if name in columns:
                yield _of_cells(field, row, where)
    else:
        raise DataError(f"{where} names no field of the schema ({', '.join(known)})", WAY_OUT)


def _field(name: str, known: Mapping[str, Field], where: str) -> Field:
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"Did you mean {near[0]!r}? " if near else ""
        raise DataError(f"{where}: the schema has no field {name!r}", f"{hint}Its fields are {', '.join(known)}.")
    return known[name]


def _of_entry(field: Field, entry: Any, where: str) -> Label:
    """What a line of JSON Lines that `palmette extract` wrote says about a field."""
    if not isinstance(entry, Mapping):
        raise DataError(f"{where}: the field {field.name!r} is {kind_of_value(entry)}, not an object", WAY_OUT)
    values = entry.get("values", [])
    if not isinstance(values, list) or not all(isinstance(one, Mapping) for one in values):
        raise DataError(f"{where}: 'values' of {field.name!r} is not a list of objects", WAY_OUT)
    given = tuple(_given(one.get("text"), one.get("start"), one.get("end"), field, where) for one in values)
    return Label(field, given, not given and (bool(entry.get("error")) or entry.get("refusal") == "unsure"))


def _of_cells(field: Field, row: Mapping[str, Any], where: str) -> Label:
    """What the cells of a table say about a field."""
    name = field.name
    cell, starts, ends = row.get(name), row.get(f"{name}.start"), row.get(f"{name}.end")
    if cell is None or (isinstance(cell, str) and not cell.strip()):
        return Label(field, (), row.get(f"{name}.reason", "absent") != "absent")
    if not field.many or not isinstance(cell, str):
        return Label(field, (_given(cell, starts, ends, field, where),))
    texts = cell.split(BETWEEN)
    split = [str(given or "").split(BETWEEN) for given in (starts, ends)]
    if any(len(part) != len(texts) for part in split):  # a value was added or taken out
        split = [[""] * len(texts)] * 2
    parts = zip(texts, *split, strict=True)
    return Label(field, tuple(_given(text, start, end, field, where) for text, start, end in parts))


def _given(text: Any, start: Any, end: Any, field: Field, where: str) -> Given:
    if not isinstance(text, str) or not text.strip():
        raise DataError(
            f"{where}: the value of {field.name!r} is {short(text)}, not text", "Write it as it stands in the document."
        )
    return Given(text.strip(), _offset(start), _offset(end))


def _offset(value: Any) -> int | None:
    """A place that a cell holds. Spreadsheets write whole numbers as 12.0 too."""
    try:
        return int(float(value))
    except (TypeError, ValueError, OverflowError):
        return None
