"""Question files as people keep them: CSV, TSV, Excel (.xlsx) and Parquet, with the columns that people have.

A row of a table becomes a row as JSON Lines has it, with `question`, `context` or `document`, `answers`, `id` and
`title`. An empty cell means the same as a missing one, except for answers: a row whose cells for answers are all empty
is a question that the document does not answer.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from palmette.data.arrow import arrow_batches
from palmette.data.text import short
from palmette.data.values import parse_json
from palmette.documents.charset import NotTextError, open_text
from palmette.documents.tables import csv_rows, xlsx_sheets
from palmette.errors import DataError, reason_of

SUFFIXES = frozenset((".csv", ".tsv", ".tab", ".xlsx", ".parquet"))
# What people call the columns, the first that is there counts. Names are compared without case, blanks and hyphens.
_COLUMNS: dict[str, tuple[str, ...]] = {
    "id": ("id", "question_id", "qid"),
    "question": ("question", "query", "questions"),
    "context": ("context", "passage", "paragraph", "text"),
    "document": ("document",),
    "file": ("file", "filename", "path"),
    "title": ("title",),
    "answers": ("answers", "answer", "answer_text", "gold"),
    "answer_start": ("answer_start",),
    "is_impossible": ("is_impossible", "impossible"),
    "rationale": ("rationale",),
    "plausible_answers": ("plausible_answers",),
}
_MORE_ANSWERS = re.compile(r"answers?_?\d+")
_TRUTHS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
# Columns of preferences and conversations that hold more than text, and what they hold.
_NO_ROWS = range(1, 1)
_NUMBERS_AND_LISTS: dict[str, tuple[type, ...]] = {
    "margin": (int, float),
    **dict.fromkeys(("messages", "prompt", "chosen", "rejected", "completion"), (list,)),
    **dict.fromkeys(("ranked", "completions", "ranks", "scores"), (list,)),
}
_NO_ANSWERS = "Name the column of known answers so. A cell is empty where the document does not answer the question."
WAY_OUT = (
    "The first row names the columns: question, context (the text) or document (a file), and for known answers answer."
)


class TableRow(dict[str, Any]):
    """A row of a table, with its number as a spreadsheet counts it. In Parquet, rows count from 1.

    Args:
        number: the number.
        values: the values by column.
    """

    def __init__(self, number: int, values: Mapping[str, Any]) -> None:
        super().__init__(values)
        self.number = number


@dataclass(frozen=True)
class Table:
    """A table that is being read.

    Attributes:
        columns: the names of its columns.
        rows: its rows, which are read as they are needed.
    """

    columns: tuple[str, ...]
    rows: Iterator[TableRow]


def is_table(path: Path) -> bool:
    """Whether a file is a table, by the end of its name."""
    return path.suffix.lower() in SUFFIXES


def table_hash(path: Path) -> str:
    """The hash of the bytes of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def open_table(path: Path, source: str) -> Table:
    """A table with its own names of columns.

    Of an Excel file, the first sheet with rows is read. Empty cells are left out. Rows are read as they are needed.

    Args:
        path: the file.
        source: how messages name it.

    Raises:
        DataError: the file cannot be read, has no header, or names a column twice. That it is damaged may show at a
            later row.
    """
    try:
        if path.suffix.lower() == ".parquet":
            return _parquet_rows(path, source)
        return _with_header(_cells(path, source), source)
    except OSError as error:
        raise DataError(f"cannot read {source}: {reason_of(error)}", "Check that it may be read.") from error


def row_numbers(path: Path, source: str) -> range:
    """The numbers that rows of a table or of an Arrow file can have. None if it cannot be read.

    A row of CSV, TSV and Excel has the number that a spreadsheet gives it, so the names of columns are row 1.

    The arguments are those of `open_table`.
    """
    if path.suffix == ".arrow":
        try:
            return range(1, sum(batch.num_rows for batch in arrow_batches(path)) + 1)
        except DataError:
            return _NO_ROWS
    if path.suffix.lower() == ".parquet":
        import pyarrow
        import pyarrow.parquet

        try:
            return range(1, int(pyarrow.parquet.read_metadata(path).num_rows) + 1)
        except (pyarrow.ArrowException, OSError):
            return _NO_ROWS
    try:
        return range(2, max((row.number for row in open_table(path, source).rows), default=1) + 1)
    except DataError:
        return _NO_ROWS


def _cells(path: Path, source: str) -> Iterator[tuple[int, list[str]]]:
    with path.open("rb") as file:
        if path.suffix.lower() == ".xlsx":
            yield from _of_first_sheet(file, source)
            return
        first = file.read(4)
    if first in (b"PAR1", b"PK\x03\x04"):
        kind = ".parquet" if first == b"PAR1" else ".xlsx"
        raise DataError(f"{source} is not a CSV file", f"Give it a name that ends in {kind}, if it is one.")
    try:
        text = open_text(path)
    except NotTextError as error:
        raise DataError(f"{source} is not text: {error}", "Save the table as CSV in UTF-8.") from error
    with text:
        yield from csv_rows(text, source, tabs=path.suffix.lower() in (".tsv", ".tab"))


def _of_first_sheet(file: BinaryIO, source: str) -> Iterator[tuple[int, list[str]]]:
    """The rows of the first sheet that has any."""
    for _, rows in xlsx_sheets(file, source):
        first = next(rows, None)
        if first is not None:
            yield first
            yield from rows
            return


def _with_header(rows: Iterator[tuple[int, list[str]]], source: str) -> Table:
    _, first = next(rows, (0, []))
    names = [name.strip() for name in first]
    if not any(names):
        raise DataError(f"{source} has no rows", WAY_OUT)
    twice = next((name for index, name in enumerate(names) if name and name in names[:index]), None)
    if twice is not None:
        raise DataError(f"{source} has two columns {twice!r}", "Rename one of them.")
    return Table(tuple(filter(None, names)), _named(rows, names))


def _named(rows: Iterable[tuple[int, list[str]]], names: Sequence[str]) -> Iterator[TableRow]:
    for number, cells in rows:
        values = zip(names, cells, strict=False)
        yield TableRow(number, {name: cell for name, cell in values if name and cell.strip()} | _spilled(names, cells))


def _spilled(names: Sequence[str], cells: Sequence[str]) -> dict[str, str]:
    """Cells beyond the last column. They come from a text with a delimiter that is not in quotation marks."""
    extra = [cell for cell in cells[len(names) :] if cell.strip()]
    return {"": short(extra[0])} if extra else {}


def _parquet_rows(path: Path, source: str) -> Table:
    import pyarrow
    import pyarrow.parquet

    try:
        file = pyarrow.parquet.ParquetFile(path)
    except (pyarrow.ArrowException, OSError) as error:
        first = str(error).partition("\n")[0]
        raise DataError(f"{source}: no Parquet file that can be read: {first}", "Write it again.") from error
    return Table(tuple(file.schema_arrow.names), _batches(file, source))


def _batches(file: Any, source: str) -> Iterator[TableRow]:
    import pyarrow

    number = 0
    try:
        for batch in file.iter_batches(batch_size=1024):
            for row in batch.to_pylist():
                number += 1
                yield TableRow(number, {name: value for name, value in row.items() if value not in (None, "")})
    except (pyarrow.ArrowException, OSError) as error:
        first = str(error).partition("\n")[0]
        raise DataError(f"{source}: row {number + 1} cannot be read: {first}", "Write the file again.") from error


def question_rows(table: Table, source: str, *, labelled: bool) -> Iterator[TableRow | DataError]:
    """Rows as JSON Lines has them, with the names that the columns have there. A row with a mistake is its error.

    Args:
        table: the table.
        source: how messages name it.
        labelled: whether the questions have known answers, so that no cell for an answer means that there is none.

    Raises:
        DataError: there is no column for questions, or none for answers though they are known.
    """
    columns = {_plain(name) for name in table.columns}
    shown = ", ".join(map(repr, table.columns))
    if not columns & {*_COLUMNS["question"]}:
        raise DataError(f"{source} has no column 'question', but {shown}", WAY_OUT)
    if labelled and not (columns & {*_COLUMNS["answers"]} or any(map(_MORE_ANSWERS.fullmatch, columns))):
        raise DataError(f"{source} has no column 'answer', but {shown}", _NO_ANSWERS)
    return _question_rows(table.rows, source, labelled=labelled)


def _question_rows(rows: Iterable[TableRow], source: str, *, labelled: bool) -> Iterator[TableRow | DataError]:
    for row in rows:
        where = f"{source}: row {row.number}"
        if "" in row:
            yield DataError(
                f"{where} has more cells than there are columns, {row['']} among them",
                "Put texts that hold the delimiter into quotation marks.",
            )
            continue
        try:
            yield TableRow(row.number, _renamed(row, where, labelled=labelled))
        except DataError as error:
            yield error


def _renamed(row: TableRow, where: str, *, labelled: bool) -> dict[str, Any]:
    known = {_plain(name): value for name, value in row.items()}
    found: dict[str, Any] = {}
    for name, others in _COLUMNS.items():
        value = next((known[other] for other in others if other in known), None)
        if value is not None:
            found[name] = value
    more = [value for name, value in known.items() if _MORE_ANSWERS.fullmatch(name)]
    answers = [*_list(found.pop("answers", None)), *(one for value in more for one in _list(value))]
    start = found.pop("answer_start", None)
    if start is not None and len(answers) == 1 and isinstance(answers[0], str):
        answers = [{"text": answers[0], "answer_start": _whole_number(start, where)}]
    if isinstance(found.get("is_impossible"), str):
        found["is_impossible"] = _truth(found["is_impossible"], where)
    if answers or labelled:
        found["answers"] = answers
    if "plausible_answers" in found:
        found["plausible_answers"] = _list(found["plausible_answers"])
    return found


def typed_rows(table: Table) -> Iterator[TableRow]:
    """Rows of other kinds than questions, with truth values, numbers and lists where their columns hold those.

    A table of text says "true", "yes" or "1" for true, and lists are written as JSON. A cell that holds nothing of the
    kind stays text, which the reader of its kind refuses.

    Args:
        table: the table.
    """
    for row in table.rows:
        yield TableRow(row.number, {name: _typed(name, value) for name, value in row.items()})


def _typed(name: str, value: Any) -> Any:
    if name == "label" and isinstance(value, str | int):
        return _TRUTHS.get(str(value).strip().lower(), value)
    if name not in _NUMBERS_AND_LISTS or not isinstance(value, str):
        return value
    try:
        parsed = parse_json(value)
    except (ValueError, RecursionError):
        return value
    return parsed if isinstance(parsed, _NUMBERS_AND_LISTS[name]) else value


def _plain(name: str) -> str:
    return re.sub(r"[\s-]+", "_", name.strip().lower())


def _list(value: Any) -> list[Any]:
    """The answers of a cell: those of a list or of a JSON list, and else the cell itself."""
    if value is None:
        return []
    if isinstance(value, dict):
        texts, starts = value.get("text"), value.get("answer_start")
        if isinstance(texts, list) and isinstance(starts, list) and len(texts) == len(starts):
            return [{"text": text, "answer_start": start} for text, start in zip(texts, starts, strict=True)]
        return [value]
    if isinstance(value, str) and value.lstrip().startswith(("[", "{")):
        try:
            parsed = parse_json(value)
        except (ValueError, RecursionError):
            return [value]  # a text that begins with a bracket
        return _list(parsed) if isinstance(parsed, list | dict) else [value]
    return value if isinstance(value, list) else [value]


def _whole_number(value: object, where: str) -> int:
    text = str(value).strip()
    if not re.fullmatch(r"\d{1,15}", text):
        raise DataError(f"{where}: answer_start is {short(value)}", "Make it a whole number that counts from 0.")
    return int(text)


def _truth(text: str, where: str) -> bool:
    value = _TRUTHS.get(text.strip().lower())
    if value is None:
        raise DataError(f"{where}: is_impossible is {short(text)}", "Make it true or false.")
    return value
