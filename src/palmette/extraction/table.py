"""What was extracted as a file: JSON Lines with everything, or one row a document for CSV, Parquet and Excel."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

from palmette import run
from palmette.errors import DataError
from palmette.extraction.schema import Field, Schema
from palmette.extraction.values import DocumentResult, FieldResult
from palmette.numbers import count

BETWEEN = " | "  # values of a list in one cell
_DOCUMENT = ("document", "document_sha256", "error")
_NUMBERS = ("probability", "page", "line", "start", "end")
Row = dict[str, Any]


def columns(schema: Schema) -> list[str]:
    """The columns of the table, in order: those of the document, then those of each field."""
    return [*_DOCUMENT, *(name for field in schema.fields for name in _columns(field))]


def _columns(field: Field) -> list[str]:
    currency = ["currency"] if field.type == "amount" else []
    parts = ["value", *currency, "reason", "probability", "absent_probability", "certified", *_NUMBERS[1:]]
    return [field.name, *(f"{field.name}.{part}" for part in parts)]


def row_of(result: DocumentResult, schema: Schema) -> Row:
    """The row of a document. Cells without a value are None. Lists are written as text, with " | " between values."""
    row: Row = {"document": result.document, "document_sha256": result.sha256, "error": result.error or None}
    for found, field in zip(result.fields, schema.fields, strict=True):
        row |= dict.fromkeys(_columns(field)) if result.error else _cells(found, field)
    return row


def _cells(found: FieldResult, field: Field) -> Row:
    cells: Row = dict.fromkeys(_columns(field))
    name = field.name
    cells[f"{name}.reason"] = found.reason or None
    if not found.error:
        cells[f"{name}.absent_probability"], cells[f"{name}.certified"] = found.absent_probability, found.certified
    if not found.values:
        return cells
    if field.many:
        cells[name] = BETWEEN.join(one.text for one in found.values)
        for part in ("value", *_NUMBERS, *(["currency"] if field.type == "amount" else [])):
            parts = [getattr(one, part) for one in found.values]
            if any(one is not None for one in parts):
                cells[f"{name}.{part}"] = BETWEEN.join("" if one is None else str(one) for one in parts)
        return cells
    only = found.values[0]
    cells |= {name: only.text, f"{name}.value": only.value}
    cells |= {f"{name}.{part}": getattr(only, part) for part in _NUMBERS}
    if field.type == "amount":
        cells[f"{name}.currency"] = only.currency
    return cells


def record_of(result: DocumentResult) -> Row:
    """A document as one JSON object, with all values, candidates and options."""
    fields = {}
    for found in result.fields:
        field = {**asdict(found), "reason": found.reason}
        del field["name"]
        fields[found.name] = field
    return {
        "document": result.document,
        "document_sha256": result.sha256,
        "error": result.error or None,
        "fields": fields,
    }


def check_format(out: Path) -> None:
    """Check that a table can be written under a name.

    Raises:
        DataError: its ending is none that is known.
    """
    if out.suffix.lower() not in _WRITERS:
        raise DataError(f"{str(out)!r} is no table", f"Give a name that ends in {', '.join(_WRITERS)}.")


def write_table(out: Path, results: Iterable[DocumentResult], schema: Schema) -> None:
    """Write what was extracted, whole or not at all. The ending of the name says the format.

    Args:
        out: a .csv, .jsonl, .parquet or .xlsx file. One that is there is replaced.
        results: what was found, one document after the other.
        schema: the schema.

    Raises:
        DataError: the ending is none that is known.
        RunError: the file cannot be written.
    """
    check_format(out)
    run.write_bytes(out, _WRITERS[out.suffix.lower()](results, schema))


@dataclass
class Counts:
    """Counts what was extracted.

    Attributes:
        documents: all documents.
        unread: documents that could not be read.
        filled: fields with a value.
        absent, unsure: fields without one, by the reason.
        failed: fields that could not be read, of documents that could.
        not_normalised: fields with a value that no rule reads.
    """

    documents: int = 0
    unread: int = 0
    filled: int = 0
    absent: int = 0
    unsure: int = 0
    failed: int = 0
    not_normalised: int = 0

    def counted(self, results: Iterable[DocumentResult]) -> Iterator[DocumentResult]:
        """The same results, counted as they pass."""
        for result in results:
            self.documents += 1
            self.unread += bool(result.error)
            for field in () if result.error else result.fields:
                self.filled += bool(field.values)
                self.absent += field.refusal == "absent"
                self.unsure += field.refusal == "unsure"
                self.failed += bool(field.error)
                self.not_normalised += any(one.reason for one in field.values)
            yield result

    def summary(self, out: Path) -> str:
        """The message to the user at the end."""
        found = f"{count(self.filled, 'field')} with a value"
        found += f" ({self.not_normalised} of them read by no rule)" if self.not_normalised else ""
        empty = f"{self.absent} absent, {self.unsure} unsure"
        empty += f", {self.failed} with an error" if self.failed else ""
        unread = f", {self.unread} of which could not be read" if self.unread else ""
        return f"done: {count(self.documents, 'document')} in {out}{unread}: {found}, {empty}"


def _jsonl(results: Iterable[DocumentResult], schema: Schema) -> bytes:
    del schema
    lines = (json.dumps(record_of(result), ensure_ascii=False) + "\n" for result in results)
    return "".join(lines).encode("utf-8", "backslashreplace")


def _csv(results: Iterable[DocumentResult], schema: Schema) -> bytes:
    stream = StringIO()
    writer = csv.DictWriter(stream, columns(schema), lineterminator="\n")
    writer.writeheader()
    writer.writerows(row_of(result, schema) for result in results)
    return stream.getvalue().encode("utf-8", "replace")


def _kinds(schema: Schema) -> dict[str, str]:
    """What the cells of each column are, where they are not text."""
    kinds: dict[str, str] = {}
    for field in schema.fields:
        kinds |= {f"{field.name}.absent_probability": "number", f"{field.name}.certified": "truth"}
        if field.many:
            continue
        kinds |= {f"{field.name}.probability": "number"} | {f"{field.name}.{part}": "whole" for part in _NUMBERS[1:]}
        meaning = {"number": "number", "amount": "number", "date": "date"}.get(field.type)
        kinds |= {f"{field.name}.value": meaning} if meaning else {}
    return kinds


def _typed(row: Row, kinds: dict[str, str]) -> Row:
    """A row in which numbers and dates are no text."""
    return {
        name: cell
        if cell is None
        else date.fromisoformat(cell)
        if kinds.get(name) == "date"
        else float(cell)
        if kinds.get(name) == "number"
        else cell
        for name, cell in row.items()
    }


def _parquet(results: Iterable[DocumentResult], schema: Schema) -> bytes:
    import pyarrow
    import pyarrow.parquet

    kinds = _kinds(schema)
    types = {"number": pyarrow.float64(), "whole": pyarrow.int64(), "truth": pyarrow.bool_(), "date": pyarrow.date32()}
    known = pyarrow.schema([(name, types.get(kinds.get(name, ""), pyarrow.string())) for name in columns(schema)])
    rows = [_typed(row_of(result, schema), kinds) for result in results]
    stream = BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows, schema=known), stream)
    return stream.getvalue()


def _xlsx(results: Iterable[DocumentResult], schema: Schema) -> bytes:
    from openpyxl import Workbook
    from openpyxl.cell import WriteOnlyCell
    from openpyxl.cell.cell import ILLEGAL_CHARACTERS_RE

    kinds, book = _kinds(schema), Workbook(write_only=True)
    sheet = book.create_sheet("extracted")
    sheet.freeze_panes = "B2"

    def cells(values: Sequence[Any]) -> list[Any]:
        made = []
        for value in values:
            if isinstance(value, date) and value.year < 1900:
                value = value.isoformat()  # Excel knows no earlier dates
            text = ILLEGAL_CHARACTERS_RE.sub(" ", value) if isinstance(value, str) else value
            cell = WriteOnlyCell(sheet, value=text)
            if isinstance(value, str):
                cell.data_type = "s"  # a text that begins with "=" is no formula
            made.append(cell)
        return made

    sheet.append(cells(columns(schema)))
    for result in results:
        row = _typed(row_of(result, schema), kinds)
        sheet.append(cells([row[name] for name in columns(schema)]))
    stream = BytesIO()
    book.save(stream)
    return stream.getvalue()


_WRITERS: dict[str, Callable[[Iterable[DocumentResult], Schema], bytes]] = {
    ".csv": _csv,
    ".jsonl": _jsonl,
    ".parquet": _parquet,
    ".xlsx": _xlsx,
}
