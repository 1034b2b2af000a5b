"""Questions to be answered, one a row of JSON Lines, read as they are needed: a file may be larger than memory.

A row has `question`, `context` (or `document`), and optionally `id`; whatever else it has is passed over, right answers too. Lines
end with a line feed and are counted from 1, blank ones too. What is wrong with a row stands in the row: it does not stop the rest.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, BinaryIO

from palmette.data.records import Document, Question, check_document, check_question
from palmette.data.rows import parse_json_line, question_and_context
from palmette.errors import DataError
from palmette.files import expand

STANDARD_INPUT = "-"
_SOURCE = "the input"
_FORMAT = "Each row needs 'question' and 'context' (text), and may have an 'id' (text or a whole number)."


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the input.

    Attributes:
        line: the number of its line.
        id: its id, if it has a good one; ids need not be unique.
        context: the document; "" in a bad row.
        question: the question; "" in a bad row.
        error: what is wrong with the row, and the way out; "" if it is good.
    """

    line: int
    id: str | int | None = None
    context: str = ""
    question: str = ""
    error: str = ""

    @property
    def key(self) -> str:
        """What names the row's question among all others."""
        return f"line {self.line}"

    def disagreement(self, record: Mapping[str, Any]) -> str | None:
        """The first field of a line of answers that cannot come from this row; None if all can.

        The document itself is not repeated among the answers, but the candidates are words of it, with their places.
        """
        expected: dict[str, Any] = {"line": self.line, "id": self.id}
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


def read_rows(lines: Iterable[bytes]) -> Iterator[Row]:
    r"""Rows of JSON Lines, in order, one for each line that is not blank.

    >>> rows = list(read_rows([b'{"question": "When?", "context": "At 7:40."}\n', b'\n', b'{"id": 7}\n']))
    >>> [(row.line, row.id, row.context) for row in rows]
    [(1, None, 'At 7:40.'), (3, 7, '')]
    >>> rows[1].error.partition('.')[0]
    "the input: line 3: 'question' is NoneType, not text"
    """
    checked = ""  # the last good context: rows about one document share it, and it is checked once
    for number, line in enumerate(lines, start=1):
        row = _read_row(line, number, checked)
        if row is not None:
            checked = row.context or checked
            yield row


def _read_row(line: bytes, number: int, checked: str) -> Row | None:
    row = Row(number)
    where = f"{_SOURCE}: line {number}"
    try:
        text = _decode(line, number, where)
        if not text.strip():
            return None
        record = parse_json_line(text, where, _FORMAT)
        row = replace(row, id=_read_id(record.get("id"), where))
        question, context = question_and_context(record, where, _FORMAT)
        context = checked if context == checked else context
        document = Document(row.key, context, (Question(row.key, question),))
        if context is not checked or not context:
            check_document(document, _SOURCE)
        check_question(document.questions[0], document, _SOURCE)
    except DataError as error:
        return replace(row, error=str(error))
    return replace(row, context=context, question=question)


def _decode(line: bytes, number: int, where: str) -> str:
    try:
        return line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{where} is not UTF-8 at its byte {error.start}", "Save the file as UTF-8.") from error


def _read_id(value: object, where: str) -> str | int | None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, str | int)):
        raise DataError(f"{where}: 'id' is {type(value).__name__}, not text or a whole number", _FORMAT)
    if isinstance(value, str) and any("\ud800" <= character <= "\udfff" for character in value):
        raise DataError(f"{where}: the id {value!a} has half a surrogate pair", "Save the text as UTF-8 once more.")
    return value


def chunk_rows(rows: Iterable[Row], *, max_rows: int, max_characters: int) -> Iterator[list[Row]]:
    """Consecutive rows in chunks; where a chunk ends depends on the rows alone.

    Args:
        rows: what to part; no more than one chunk of it is held.
        max_rows: how many rows fill a chunk.
        max_characters: how many characters of different contexts fill a chunk; the row that reaches it is the last one.
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
    """The documents of the good rows, each with all of its questions, in order of appearance; question ids are the rows' keys.

    >>> [(d.id, [q.id for q in d.questions]) for d in documents_of([Row(1, 0, 'a', 'x'), Row(2, 0, 'b', 'x'), Row(3, 0, 'a', 'y')])]
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
        raise DataError(f"cannot read the input {source!r}: {error}", "Give a .jsonl file, or -.") from error
    with stream:
        yield stream


def count_lines(source: str) -> int:
    """How many lines a file has; 0 where that cannot be known without reading it up (a pipe)."""
    if source == STANDARD_INPUT or not (path := expand(source)).is_file():
        return 0
    count, last = 0, b"\n"
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            count, last = count + block.count(b"\n"), block[-1:]
    return count + (last != b"\n")
