"""Reads a document: its bytes, what kind they are, and the reader of that kind."""

from __future__ import annotations

import os
import re
import sys
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from palmette.documents.charset import NotTextError, decode
from palmette.documents.kinds import recognise
from palmette.documents.record import Extracted, PageMap, extracted
from palmette.errors import DataError, reason_of
from palmette.files import expand

STANDARD_INPUT = "-"
MAX_BYTES = 200 * 1024 * 1024
MAX_CHARACTERS = 20_000_000
_ENDS = re.compile(r"\r\n?")
# Control characters that no text holds. Tab, line feed, form feed and carriage return are left out, and so is escape,
# which logs hold.
_CONTROLS = re.compile(r"[\x00-\x08\x0e-\x1a\x1c-\x1f]")


def read_document(name: str | os.PathLike[str], *, stdin: BinaryIO | None = None) -> Extracted:
    """Read a document as text.

    The kind is recognised by content: PDF, Word (.docx), HTML, a table (.csv, .tsv, .xlsx), Markdown or plain text. In
    text, line ends become line feeds and a byte order mark is removed. Nothing in a document is executed.

    Args:
        name: the path of a file, with "~" for the home folder, or "-" for standard input.
        stdin: what "-" reads. The process's own standard input if None.

    Returns:
        The text of record, its hash, notes for the user, and the way back to line and page.

    Raises:
        DataError: the file is missing, cannot be read, is empty, encrypted, damaged, too large, or holds no text. The
            message names the file and the way out.
    """
    given = os.fspath(name)
    shown = "standard input" if given == STANDARD_INPUT else given
    return read_content(_standard_input(stdin) if given == STANDARD_INPUT else _file(given), shown)


def read_content(raw: bytes, shown: str) -> Extracted:
    """Read the content of a document as text, as `read_document` does.

    Args:
        raw: its bytes.
        shown: its name, for messages. The suffix decides only among kinds that begin alike.

    Raises:
        DataError: as `read_document` does for what it read.
    """
    if len(raw) > MAX_BYTES:
        raise DataError(
            f"the document {shown!r} has more than {MAX_BYTES >> 20} MiB", "Split it, or give a part of it."
        )
    if not raw.strip():
        raise DataError(f"the document {shown!r} is empty", "Give a document that holds text.")
    kind, text, notes, page_map = _text_of(raw, recognise(raw, shown), shown)
    if len(text) > MAX_CHARACTERS:
        raise DataError(
            f"the document {shown!r} has {len(text):,} characters, more than {MAX_CHARACTERS:,}",
            "Split it, or give a part of it.",
        )
    if not text.strip():
        raise DataError(f"the document {shown!r} holds no text", "Give a document that holds text.")
    return extracted(shown, kind, text, notes, page_map)


def _file(name: str) -> bytes:
    path = expand(name)
    try:
        if path.is_dir():
            raise DataError(f"the document {name!r} is a folder", "Give one of the files in it.")
        with path.open("rb") as stream:
            return stream.read(MAX_BYTES + 1)
    except FileNotFoundError as error:
        raise DataError(f"there is no document {name!r}", _nearest(path)) from error
    except (OSError, ValueError) as error:  # ValueError: a name with a byte of 0
        reason = reason_of(error) if isinstance(error, OSError) else "its name holds a byte of 0"
        raise DataError(
            f"cannot read the document {name!r}: {reason}", "Check that it is a file you may read."
        ) from error


def _nearest(path: Path) -> str:
    """A way out that names a file with a similar name, if there is one."""
    from difflib import get_close_matches

    try:
        names = [entry.name for entry in path.parent.iterdir()]
    except OSError:
        return "Check the path. Its folder does not exist either." if not path.parent.exists() else "Check the path."
    near = get_close_matches(path.name, names, n=1, cutoff=0.75)
    return f"Did you mean {str(path.parent / near[0])!r}?" if near else "Check the path."


def _standard_input(stdin: BinaryIO | None) -> bytes:
    try:
        return (stdin or sys.stdin.buffer).read(MAX_BYTES + 1)
    except OSError as error:
        raise DataError(f"cannot read standard input: {reason_of(error)}", "Give the name of a file.") from error


def _text_of(raw: bytes, kind: str, name: str) -> tuple[str, str, list[str], PageMap | None]:
    """The kind of a document, its text, the notes on it, and its map to pages if it has any."""
    if kind == "pdf":
        from palmette.documents.contained import read_contained

        text, page_map, notes = read_contained(raw, name)
        return kind, text, notes, page_map
    if kind == "docx":
        from palmette.documents.docx import docx_text

        return kind, *docx_text(raw, name), None
    if kind == "xlsx":
        return kind, _text_of_sheets(raw, name), [], None
    text, encoding = _decoded(raw, kind, name)
    notes = [f"read as {encoding}, since it is not UTF-8. Save it as UTF-8 if letters are wrong."] if encoding else []
    if encoding == "UTF-16":
        notes = ["read as UTF-16"]
    if kind == "html":
        from palmette.documents.contained import html_contained

        text, more = html_contained(text, name)
        notes += more
    elif kind == "csv" or (kind == "text" and _is_table(text, name)):
        from palmette.documents.tables import csv_rows, table_text

        kind = "csv"
        rows = csv_rows(text, f"the document {name!r}", tabs=name.lower().endswith((".tsv", ".tab")))
        text = "\n".join(table_text(rows))
    return kind, text, notes, None


def _is_table(text: str, name: str) -> bool:
    """Whether a text is a table. One whose name ends in .txt or the like is taken for what it says."""
    if Path(name).suffix or not any(delimiter in text[:20000] for delimiter in ",;\t|"):
        return False
    from palmette.documents.tables import looks_like_table

    return looks_like_table(text)


def _text_of_sheets(raw: bytes, name: str) -> str:
    """The sheets of an Excel file, one after another. If there are several, each begins with its name."""
    from palmette.documents.tables import table_text, xlsx_sheets

    sheets = [(title, list(table_text(rows))) for title, rows in xlsx_sheets(BytesIO(raw), f"the document {name!r}")]
    sheets = [(title, lines) for title, lines in sheets if lines]
    return "\n\n".join("\n".join([title, *lines] if len(sheets) > 1 else lines) for title, lines in sheets)


def _decoded(raw: bytes, kind: str, name: str) -> tuple[str, str]:
    """Bytes of text as text with line feeds, and their encoding."""
    try:
        text, encoding = decode(raw, web=kind == "html")
    except NotTextError as error:
        way_out = "Give a text, Markdown, HTML, PDF, Word (.docx) or CSV file."
        raise DataError(f"the document {name!r} is not text: {error}", way_out) from error
    controls = _CONTROLS.search(text)
    if controls and len(_CONTROLS.findall(text[:65536])) > 0.001 * min(len(text), 65536):
        where = text.count("\n", 0, controls.start()) + 1
        raise DataError(
            f"the document {name!r} is not text: line {where} holds the control character {controls[0]!r}",
            "Give a text, Markdown, HTML, PDF, Word (.docx) or CSV file.",
        )
    return _ENDS.sub("\n", text), encoding
