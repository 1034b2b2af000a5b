"""What a job answers: a file with a question in each row, or documents with a list of questions about each of them."""

from __future__ import annotations

import contextlib
import glob
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from palmette.data.arrow import arrow_rows
from palmette.data.files import DocumentFiles
from palmette.data.records import Document, Question, check_question
from palmette.data.rows import parse_json_line
from palmette.data.stream import STANDARD_INPUT, Row, count_lines, open_lines, read_rows, row_of
from palmette.data.tables import WAY_OUT, TableRow, is_table, open_table, question_rows, row_numbers
from palmette.data.values import read_id
from palmette.documents import read_document
from palmette.errors import DataError
from palmette.files import expand

_QUESTIONS = "Give a text file with a question on each line, or rows with 'question' and optionally 'id'."
DOCUMENT_SUFFIXES = frozenset(
    (".txt", ".text", ".md", ".markdown", ".html", ".htm", ".xhtml", ".pdf", ".docx", ".csv", ".tsv", ".xlsx")
)


class Input(Protocol):
    """What a job answers."""

    @property
    def name(self) -> str:
        """How messages and manifests name it."""

    def open(self) -> AbstractContextManager[Iterator[Row]]:
        """The rows, from the first one.

        Raises:
            DataError: it cannot be read.
        """

    def lines(self) -> range:
        """The numbers that its rows can have, for the estimate. None if they are not known before they are read."""


@dataclass(frozen=True)
class QuestionFile:
    """A file with a question in each row: JSON Lines, CSV, TSV, Excel, Parquet or Arrow.

    "-" is JSON Lines on standard input.

    Attributes:
        name: the file.
    """

    name: str

    @contextlib.contextmanager
    def open(self) -> Iterator[Iterator[Row]]:
        """The rows, from the first one. See `Input`."""
        path = expand(self.name)
        files = DocumentFiles(Path() if self.name == STANDARD_INPUT else path.parent)
        if self._in_columns:
            if not path.is_file():
                raise DataError(f"there is no file {self.name!r}", "Check the path.")
            if path.suffix == ".arrow":
                rows: Iterator[TableRow | DataError] = (TableRow(*one) for one in enumerate(arrow_rows(path), 1))
            else:
                rows = question_rows(open_table(path, self.name), self.name, labelled=False)
            yield _table_rows(rows, self.name, files)
            return
        with open_lines(self.name) as lines:
            yield read_rows(lines, files)

    def lines(self) -> range:
        """The numbers that its rows can have. See `Input`."""
        if self._in_columns:
            return row_numbers(expand(self.name), self.name)
        return range(1, count_lines(self.name) + 1)

    @property
    def _in_columns(self) -> bool:
        """Whether it is a table or an Arrow file, and no lines."""
        path = expand(self.name)
        return self.name != STANDARD_INPUT and (is_table(path) or path.suffix == ".arrow")


def question_file(sources: Sequence[str]) -> QuestionFile:
    """The file of questions that the arguments of a command name.

    Raises:
        DataError: several files are named, or a document.
    """
    way_out = 'To ask about documents, add --question "..." or --questions FILE. The last argument is the output.'
    if len(sources) > 1:
        raise DataError(f"{len(sources)} files are given, and no question about them", way_out)
    path = expand(sources[0])
    if path.is_dir() or (path.suffix.lower() in DOCUMENT_SUFFIXES and not is_table(path)):
        raise DataError(f"{sources[0]} holds no questions", way_out)
    return QuestionFile(sources[0])


def _table_rows(rows: Iterable[TableRow | DataError], name: str, files: DocumentFiles) -> Iterator[Row]:
    checked, number = "", 1
    for record in rows:
        if isinstance(record, DataError):
            number += 1
            yield Row(number, error=str(record))
            continue
        number = record.number
        row = row_of(record, number, f"{name}: row {number}", checked, files, WAY_OUT)
        checked = row.context or checked
        yield row


@dataclass(frozen=True)
class SharedQuestion:
    """A question that is put to every document: its id, if it has one, and its text."""

    id: str | int | None
    text: str


@dataclass(frozen=True)
class Documents:
    """Documents, each with the same questions. A document that cannot be read makes an error of each of its rows.

    Attributes:
        names: the files, in order.
        questions: the questions.
        name: how messages and manifests name the input.
    """

    names: tuple[str, ...]
    questions: tuple[SharedQuestion, ...]
    name: str = "documents"

    @contextlib.contextmanager
    def open(self) -> Iterator[Iterator[Row]]:
        """The rows: all questions about the first document, then those about the next. See `Input`."""
        yield self._rows()

    def _rows(self) -> Iterator[Row]:
        number = 0
        for name in self.names:
            try:
                document, error = read_document(name), ""
            except DataError as failure:
                document, error = None, str(failure)
            for question in self.questions:
                number += 1
                text = document.text if document else ""
                yield Row(number, question.id, text, question.text, error, name, document)

    def lines(self) -> range:
        """The numbers of its rows. See `Input`."""
        return range(1, len(self.names) * len(self.questions) + 1)


def find_documents(given: Sequence[str]) -> tuple[tuple[str, ...], int]:
    """The documents that files, folders and patterns name, each once, in the order given and by name within each.

    Args:
        given: files, folders (with all folders in them) and patterns such as "contracts/*.pdf". In folders, files that
            are hidden or that do not end as documents do are left out. A file that is named counts in any case.

    Returns:
        The files, and how many were left out.

    Raises:
        DataError: a name leads nowhere, or nothing is found.
    """
    found: dict[str, None] = {}
    left_out = 0
    for name in given:
        path = expand(name)
        if path.is_dir():
            inside, others = _in_folder(path)
            left_out += others
            found.update(dict.fromkeys(inside))
        elif path.is_file():
            found[str(path)] = None
        elif glob.has_magic(name):
            matches = sorted(match for match in glob.glob(str(path), recursive=True) if Path(match).is_file())  # noqa: PTH207
            if not matches:
                raise DataError(f"no file matches {name!r}", "Check the pattern, and the folder that it begins in.")
            found.update(dict.fromkeys(matches))
        else:
            read_document(path)  # says what is wrong with the name
    if not found:
        suffixes = ", ".join(sorted(DOCUMENT_SUFFIXES))
        raise DataError(f"there is no document in {', '.join(given)}", f"Documents end in {suffixes}.")
    return tuple(found), left_out


def _in_folder(folder: Path) -> tuple[list[str], int]:
    """The documents in a folder and in the folders in it, by name, and how many other files there are."""
    found, others = [], 0
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(one for one in folders if not one.startswith("."))
        for file in sorted(files):
            path = Path(parent, file)
            if file.startswith((".", "~$")):
                continue
            if path.suffix.lower() in DOCUMENT_SUFFIXES:
                found.append(str(path))
            else:
                others += 1
    return found, others


def read_questions(name: str) -> tuple[SharedQuestion, ...]:
    """A list of questions: the lines of a text file, or the rows of a .jsonl file or of a table with `question`.

    Args:
        name: the file.

    Raises:
        DataError: it cannot be read, holds no question, or a question is bad.
    """
    path = expand(name)
    asked: list[SharedQuestion] = []
    if is_table(path) and path.is_file():
        for row in question_rows(open_table(path, name), name, labelled=False):
            if isinstance(row, DataError):
                raise row
            asked.append(_asked(row, f"{name}: row {row.number}"))
    else:
        for number, line in enumerate(read_document(name).text.split("\n"), start=1):
            if line.strip() and path.suffix == ".jsonl":
                where = f"{name}: line {number}"
                asked.append(_asked(parse_json_line(line, where, _QUESTIONS), where))
            elif line.strip():
                asked.append(SharedQuestion(None, line.strip()))
    if not asked:
        raise DataError(f"{name} holds no question", _QUESTIONS)
    return check_questions(asked, name)


def _asked(row: Mapping[str, Any], where: str) -> SharedQuestion:
    text = row.get("question")
    if not isinstance(text, str):
        raise DataError(f"{where} has no 'question' that is text", _QUESTIONS)
    return SharedQuestion(read_id(row["id"], where) if "id" in row else None, text)


def check_questions(questions: Sequence[SharedQuestion], name: str) -> tuple[SharedQuestion, ...]:
    """The questions, if all of them are good.

    Args:
        questions: the questions.
        name: where they are from, for messages.

    Raises:
        DataError: one is empty, is not valid Unicode, or stands twice.
    """
    seen: set[str] = set()
    for number, question in enumerate(questions, start=1):
        asked = Question(str(number), question.text)
        check_question(asked, Document(name, "", ()), name)
        if question.text in seen:
            raise DataError(f"{name}: the question {question.text!r} stands twice", "Remove one of them.")
        seen.add(question.text)
    return tuple(questions)
