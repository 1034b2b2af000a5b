"""Questions to be answered, one in each row of JSON Lines or of a table.

Rows are read as they are needed, so a file may be larger than memory. A row has `question`, `context` (or `document`,
which may name a file), and optionally `id`. Everything else is ignored, known answers too. A null means the same as a
missing key.

Lines end with a line feed. They are counted from 1, and blank lines count. A fault of a row is kept in the row and
does not stop the others.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, BinaryIO

from palmette.data.files import DocumentFiles
from palmette.data.not_text import not_utf8
from palmette.data.records import Document, Question, check_document, check_question
from palmette.data.rows import named_document, parse_json_line, question_and_context
from palmette.data.values import read_id
from palmette.documents import Extracted
from palmette.errors import DataError, reason_of
from palmette.files import expand

STANDARD_INPUT = "-"
INPUT = "the input"  # what messages call it
_INPUTS = "Give a .jsonl, .csv, .tsv, .xlsx, .parquet or .arrow file, or - for JSON Lines on standard input."
_FORMAT = "Each row needs 'question' and 'context' (text), and may have an 'id' (text or a whole number)."


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the input.

    Attributes:
        line: the number of its line.
        id: its id, if it has a valid one. Ids need not be unique.
        context: the document. "" in a bad row.
        question: the question. "" in a bad row.
        error: the fault of the row, with a way out. "" if the row is good.
        document: the name of the document if the row names one. "" if it holds the text itself.
        extracted: what was read from that document. None in a bad row.
    """

    line: int
    id: str | int | None = None
    context: str = ""
    question: str = ""
    error: str = ""
    document: str = ""
    extracted: Extracted | None = field(default=None, repr=False, compare=False)

    @property
    def key(self) -> str:
        """The name of the row's question among all others."""
        return f"line {self.line}"

    def disagreement(self, record: Mapping[str, Any]) -> str | None:
        """The first field of a line of answers that cannot come from this row. None if all can.

        The answers do not repeat the document, but the candidates are copied from it and have their positions.
        """
        expected: dict[str, Any] = {"line": self.line, "id": self.id, **self.about_document()}
        if self.error:
            expected["error"] = self.error
        elif "error" not in record:
            expected["question"] = self.question
        for name, value in expected.items():
            if name not in record or record[name] != value:
                return name
        for candidate in record.get("candidates") or ():
            if self.context[candidate["start"] : candidate["end"]] != candidate["text"]:
                return "candidates"
        return None

    def about_document(self) -> dict[str, Any]:
        """The document in a line of answers: its name and the hash of its text, if the row names one."""
        if not self.document:
            return {}
        return {"document": self.document, "document_sha256": self.extracted.sha256 if self.extracted else None}


def read_rows(lines: Iterable[bytes], files: DocumentFiles | None = None) -> Iterator[Row]:
    r"""Rows of JSON Lines, in order, one for each line that is not blank.

    Args:
        lines: the lines.
        files: reads documents that rows name under `document`. Without it, `document` holds the text itself.

    >>> rows = list(read_rows([b'{"question": "When?", "context": "At 7:40."}\n', b'\n', b'{"id": 7}\n']))
    >>> [(row.line, row.id, row.context) for row in rows]
    [(1, None, 'At 7:40.'), (3, 7, '')]
    >>> rows[1].error.partition('.')[0]
    "the input: line 3 has no 'question'"
    """
    checked = ""  # the last good context, since rows about one document share it and it is checked once
    for number, line in enumerate(lines, start=1):
        where = f"{INPUT}: line {number}"
        try:
            text = _decode(line, number, where)
            if not text.strip():
                continue
            record = parse_json_line(text, where, _FORMAT)
        except DataError as error:
            yield Row(number, error=str(error))
            continue
        row = row_of(record, number, where, checked, files)
        checked = row.context or checked
        yield row


def row_of(
    record: dict[str, Any],
    number: int,
    where: str,
    checked: str = "",
    files: DocumentFiles | None = None,
    way_out: str = _FORMAT,
) -> Row:
    """A row, checked. A fault is kept in it.

    Args:
        record: its values.
        number: the number of its line.
        where: how messages name it.
        checked: a context that was found to be good before.
        files: as in `read_rows`.
        way_out: what the format asks for.
    """
    row = Row(number)
    try:
        row = replace(row, id=read_id(record["id"], where) if "id" in record else None)
        row = replace(row, document=named_document(record, files))
        question, context, extracted = question_and_context(record, where, way_out, files)
        context = checked if context == checked else context
        asked = Document(row.document or row.key, context, (Question(row.key, question),))
        if context is not checked or not context:
            check_document(asked, INPUT)
        check_question(asked.questions[0], asked, INPUT)
    except DataError as error:
        return replace(row, error=str(error))
    return replace(row, context=context, question=question, extracted=extracted)


def _decode(line: bytes, number: int, where: str) -> str:
    try:
        return line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        raise not_utf8(line, f"{where} is not UTF-8 at its byte {error.start}") from error


def chunk_rows(rows: Iterable[Row], *, max_rows: int, max_characters: int) -> Iterator[list[Row]]:
    """Consecutive rows in chunks. Where a chunk ends depends on the rows alone.

    Args:
        rows: the rows. No more than one chunk of them is held in memory.
        max_rows: the number of rows that fill a chunk.
        max_characters: the number of characters of different contexts that fill a chunk. The row that reaches it is the
            last one of the chunk.
    """
    chunk: list[Row] = []
    contexts: dict[str, str] = {}
    characters = 0
    for row in rows:
        if row.context not in contexts:
            contexts[row.context] = row.context
            characters += len(row.context)
        chunk.append(replace(row, context=contexts[row.context]))  # equal texts are held once
        if len(chunk) >= max_rows or characters >= max_characters:
            yield chunk
            chunk, contexts, characters = [], {}, 0
    if chunk:
        yield chunk


def documents_of(rows: Iterable[Row]) -> list[Document]:
    """The documents of the good rows, each with all of its questions, in order of appearance.

    The keys of the rows are the ids of the questions.

    >>> rows = [Row(1, 0, 'a', 'x'), Row(2, 0, 'b', 'x'), Row(3, 0, 'a', 'y')]
    >>> [(document.id, [question.id for question in document.questions]) for document in documents_of(rows)]
    [('line 1', ['line 1', 'line 3']), ('line 2', ['line 2'])]
    """
    groups: dict[str, list[Row]] = {}
    for row in rows:
        if not row.error:
            groups.setdefault(row.context, []).append(row)
    return [
        Document(group[0].key, context, tuple(Question(row.key, row.question) for row in group))
        for context, group in groups.items()
    ]


@contextlib.contextmanager
def open_lines(source: str) -> Iterator[BinaryIO]:
    """The lines of a file, or of standard input for "-".

    Raises:
        DataError: the file cannot be opened.
    """
    if source == STANDARD_INPUT:
        yield sys.stdin.buffer
        return
    try:
        stream = expand(source).open("rb")
    except OSError as error:
        raise DataError(f"cannot read the input {source!r}: {reason_of(error)}", _INPUTS) from error
    with stream:
        yield stream


def count_lines(source: str) -> int:
    """The number of lines of a file. 0 for a pipe, whose lines can only be read once."""
    if source == STANDARD_INPUT or not (path := expand(source)).is_file():
        return 0
    count, last = 0, b"\n"
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            count, last = count + block.count(b"\n"), block[-1:]
    return count + (last != b"\n")
