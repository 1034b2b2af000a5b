"""Tables that people keep: CSV, TSV and Excel (.xlsx), as rows of cells, and as text.

Rows are counted as spreadsheets count them. The first row is row 1, which is most often the header.
"""

from __future__ import annotations

import csv
import datetime
import io
import re
import warnings
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, BinaryIO, TextIO

from palmette.errors import DataError, reason_of

MAX_UNPACKED = 512 * 1024 * 1024
MAX_COLUMNS = 1000
_MAX_CELL = 10_000_000
_DELIMITERS = ",;\t|"
_SEPARATOR = re.compile(r"sep=(.)\r?\n", re.IGNORECASE)
_NUMBER = re.compile(r"[-+]?[\d.,]*\d[\d.,]*%?")
_BLOCK = 1 << 20
_HEAD = 20_000  # characters by which a delimiter is told
_ROWS = 256  # rows of a sheet that are read at a time

Row = tuple[int, list[str]]


def csv_rows(text: str | TextIO, name: str, *, tabs: bool = False) -> Iterator[Row]:
    """The rows of a CSV or TSV text that are not empty, each with its number, read as they are needed.

    The delimiter is the one of comma, semicolon, tab and bar by which the first rows have the same number of cells, or
    the one that a first line such as "sep=;" states.

    Args:
        text: the text, or a file that is open for reading at its beginning, with its own line ends (newline="").
        name: how messages name the file.
        tabs: whether the delimiter is a tab in any case.

    Raises:
        DataError: a cell is larger than 10 million characters, quotes are not closed, or the file cannot be read.
    """
    stream = io.StringIO(text, newline="") if isinstance(text, str) else text
    before, number = csv.field_size_limit(_MAX_CELL), 0
    try:
        head = stream.read(_HEAD + 1)
        stream.seek(0)
        stated = _SEPARATOR.match(head)
        if stated:
            stream.readline()
        delimiter = stated[1] if stated else "\t" if tabs else _delimiter(head)
        reader = csv.reader(stream, delimiter=delimiter, strict=False)
        for number, row in enumerate(reader, start=2 if stated else 1):
            if len(row) > MAX_COLUMNS:
                raise DataError(f"{name}: row {number} has {len(row):,} cells", "Give at most 1,000 columns.")
            if any(cell.strip() for cell in row):
                yield number, row
    except csv.Error as error:
        raise DataError(
            f"{name}: not a table: {error}", "Check its quotation marks, or save it again as CSV."
        ) from error
    except UnicodeDecodeError as error:
        problem = f"{name}: not text in the encoding {error.encoding} after row {number}"
        raise DataError(problem, "Save the table as CSV in UTF-8.") from error
    except OSError as error:
        problem = f"{name}: cannot be read after row {number}: {reason_of(error)}"
        raise DataError(problem, "Check that the file may be read.") from error
    finally:
        csv.field_size_limit(before)


def _delimiter(text: str) -> str:
    """The delimiter by which most of the first rows have the same number of cells, and more than one."""
    sample = text[:_HEAD]
    best = (0.0, 0, ",")
    for delimiter in _DELIMITERS:
        try:
            rows = [row for row in csv.reader(io.StringIO(sample, newline=""), delimiter=delimiter) if any(row)][:50]
        except csv.Error:
            continue
        rows = rows[:-1] if len(rows) > 1 and len(text) > len(sample) else rows  # the last one may be cut
        widths = [len(row) for row in rows]
        usual = widths[0] if widths else 1
        same = sum(width == usual for width in widths) / max(len(widths), 1)
        if usual > 1 and (same, usual) > best[:2]:
            best = (same, usual, delimiter)
    return best[2]


def xlsx_sheets(file: BinaryIO, name: str) -> Iterator[tuple[str, Iterator[Row]]]:
    """The sheets of an Excel file by name, each with its rows that are not empty, read as they are needed.

    The different texts of all cells are held in memory, since Excel stores them in a list of their own. Formulas count
    with the values that were saved. Dates are written as 2026-11-28.

    Args:
        file: the file, open for reading. It must stay open while rows are read.
        name: how messages name it.

    Raises:
        DataError: the file is damaged, which may show at a later row, or unpacks to more than `MAX_UNPACKED` bytes.
    """
    _check_xlsx(file, name)
    from openpyxl import load_workbook

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about features that do not concern the cells
            book = load_workbook(file, read_only=True, data_only=True)
    except Exception as error:  # the library raises a dozen kinds for damaged files
        raise _damaged(name, error) from error
    for sheet in book.worksheets:
        yield sheet.title, _sheet_rows(sheet, name)


def _sheet_rows(sheet: Any, name: str) -> Iterator[Row]:
    sheet.reset_dimensions()  # what the file states may be wrong
    number, rows = 0, sheet.iter_rows(values_only=True)
    while block := _next_rows(rows, name):
        for row in block:
            number += 1
            if len(row) > MAX_COLUMNS:
                raise DataError(f"{name}: row {number} has {len(row):,} cells", "Give at most 1,000 columns.")
            cells = [_cell(value) for value in row]
            if any(cells):
                yield number, cells


def _next_rows(rows: Iterator[tuple[Any, ...]], name: str) -> list[tuple[Any, ...]]:
    try:
        with warnings.catch_warnings():  # not around a yield, since the filters are those of the whole process
            warnings.simplefilter("ignore")
            return list(islice(rows, _ROWS))
    except Exception as error:  # as above
        raise _damaged(name, error) from error


def _cell(value: object) -> str:
    """A cell as text. A whole number has no decimal point, and a day no time."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
    if isinstance(value, datetime.datetime) and value.time() == datetime.time():
        return value.date().isoformat()
    return str(value)


def _check_xlsx(file: BinaryIO, name: str) -> None:
    """Refuse what no ordinary Excel file holds: gigabytes in few bytes, and document types, which declare entities."""
    try:
        with zipfile.ZipFile(file) as archive:
            total = sum(entry.file_size for entry in archive.infolist())
            if total > MAX_UNPACKED:
                raise DataError(
                    f"{name}: unpacks to more than {MAX_UNPACKED >> 20} MiB", "Save the sheet as CSV, and give that."
                )
            for entry in archive.infolist():
                if entry.filename.endswith((".xml", ".rels")) and _declares_type(archive, entry):
                    raise ValueError(f"{entry.filename} declares a document type")
    except DataError:
        raise
    except Exception as error:  # zipfile raises errors of several kinds for damaged archives
        raise _damaged(name, error) from error


def _declares_type(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bool:
    tail = b""
    with archive.open(entry) as stream:
        while block := stream.read(_BLOCK):
            if b"<!DOCTYPE" in tail + block or b"\0" in block:  # a byte of 0: UTF-16, in which it would not be found
                return True
            tail = block[-16:]
    return False


def _damaged(name: str, error: Exception) -> DataError:
    return DataError(f"{name}: no Excel file that can be read: {error}", "Save it again as .xlsx, or as CSV.")


def header_of(row: Sequence[str]) -> list[str] | None:
    """The names of columns if a row is a header: all of them different, none empty, none a number. Else None."""
    names = [cell.strip() for cell in row]
    while names and not names[-1]:
        names.pop()
    good = len(names) > 1 and all(names) and len(set(names)) == len(names)
    return names if good and not any(_NUMBER.fullmatch(one) for one in names) else None


def table_text(rows: Iterable[Row]) -> Iterator[str]:
    """A table as lines of text, one for each row, with the name of its column before each cell.

    A reader who sees one row alone knows what its cells are. Empty cells are left out. Without a header, a line holds
    the cells alone.

    >>> list(table_text([(1, ["Plan", "Fee"]), (2, ["Basic", "5 EUR"]), (3, ["Pro", ""])]))
    ['Plan: Basic | Fee: 5 EUR', 'Plan: Pro']
    """
    names: list[str] | None = None
    for position, (_, row) in enumerate(rows):
        cells = [" ".join(cell.split()) for cell in row]
        if position == 0:
            names = header_of(row)
            if names is not None:
                continue
        if names is None:
            yield " | ".join(cell for cell in cells if cell)
            continue
        labels = names + [""] * (len(cells) - len(names))
        yield " | ".join(
            f"{label}: {cell}" if label else cell for label, cell in zip(labels, cells, strict=False) if cell
        )


def looks_like_table(text: str) -> bool:
    """Whether a text without a telling name is a table: a header, and rows of the same number of cells, three or more.

    Two cells are enough if tabs divide them, since commas are found in prose.
    """
    lines = text[:20000].split("\n")[:21]
    lines = [line for line in lines[:-1] if line.strip()]
    if len(lines) < 3:
        return False
    delimiter = _delimiter("\n".join(lines))
    rows = list(csv.reader(lines, delimiter=delimiter))
    width, names = len(rows[0]), header_of(rows[0])
    enough = width >= (2 if delimiter == "\t" else 3)
    return enough and names is not None and len(names) == width and all(len(row) == width for row in rows)
