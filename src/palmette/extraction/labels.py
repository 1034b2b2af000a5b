"""Labelled fields of documents as questions with known answers, to train on or to test a promise with.

People write labels as rows of document, field and value, or correct the table that `palmette extract` wrote. Values are
copied from the documents, so each is looked up there. A value that does not stand in its document, or at several
places, is a bad record.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from palmette.data.files import DocumentFiles
from palmette.data.records import Answer, Document, Question
from palmette.data.rows import find_places, named_document
from palmette.data.source import OnBad, check_documents, raw_rows
from palmette.data.tables import TableRow, is_table, open_table
from palmette.data.text import short
from palmette.errors import DataError
from palmette.extraction.label_rows import WAY_OUT, Given, Label, labels_of
from palmette.extraction.schema import Field, Schema
from palmette.files import expand
from palmette.numbers import count

_PASSAGES = {
    "choice": " A choice learns the passage that says which option it is.",
    "yes/no": " A field of type yes/no learns the passage that says so.",
}


@dataclass(frozen=True)
class Labels:
    """Labelled fields as questions.

    Attributes:
        source: the file, as the user named it.
        documents: the documents, with a question for each labelled field, and all of its values as answers.
        dropped: what was wrong with the labels that were left out.
        num_undecided: empty cells at which a model was unsure, and nobody said what is right. They are no labels.
        num_unread: rows of documents that could not be read when the table was made.
    """

    source: str
    documents: tuple[Document, ...]
    dropped: tuple[str, ...]
    num_undecided: int
    num_unread: int

    def summary(self) -> str:
        """What was read and what was left out, in words."""
        questions = [question for document in self.documents for question in document.questions]
        absent = sum(not question.answerable for question in questions)
        said = f"{count(len(questions), 'label')} of {count(len(self.documents), 'document')}, {absent} of them absent"
        left = (
            (self.num_undecided, "empty cell that is unsure", "empty cells that are unsure"),
            (self.num_unread, "document that could not be read", "documents that could not be read"),
            (len(self.dropped), "bad label", "bad labels"),
        )
        left_out = ", ".join(count(number, one, many) for number, one, many in left if number)
        first = f" ({self.dropped[0]})" if self.dropped else ""
        return said + (f". Left out: {left_out}{first}" if left_out else "")


def read_labels(source: str, schema: Schema, *, on_bad_record: OnBad = "error") -> Labels:
    """Read the labelled fields of documents.

    Args:
        source: a .jsonl, .json, .csv, .tsv, .xlsx or .parquet file. Its rows have `document` (a file, or the text) and
            `field`, `value` and perhaps `start`, where a missing value says that the document does not hold the field.
            Or they have a column for each field, as the tables of `palmette extract`.
        schema: the fields.
        on_bad_record: "error" stops at the first bad label. "drop" leaves it out and counts it.

    Raises:
        DataError: the file cannot be read, a label is bad, or there is none.
    """
    reading = _Reading(source, on_bad_record)
    rows, columns = _rows(source)
    for number, row in enumerate(rows, start=1):
        if isinstance(row, DataError):
            reading.bad(row)
            continue
        counted = f"row {row.number}" if isinstance(row, TableRow) else f"the row with id {row.get('id', number)!r}"
        reading.read(row, columns, schema, f"{source}: {counted}")
    return reading.labels()


def questions_to_learn(documents: Sequence[Document], schema: Schema) -> list[Document]:
    """The questions of labels as a model learns them: with `many`, one for each value, so that values share the odds.

    Args:
        documents: the documents of `Labels`.
        schema: the fields.
    """
    many = {field.question for field in schema.fields if field.many}
    return [replace(document, questions=tuple(_apart(document.questions, many))) for document in documents]


def _apart(questions: Iterable[Question], many: set[str]) -> Iterator[Question]:
    for question in questions:
        if question.text not in many or len(question.answers) < 2:
            yield question
            continue
        for number, answer in enumerate(question.answers, start=1):
            yield replace(question, id=f"{question.id}/{number}", answers=(answer,))


def _rows(source: str) -> tuple[list[dict[str, Any] | DataError], set[str]]:
    """The rows of a file, and the names of its columns."""
    path = expand(source)
    if not path.is_file():
        raise DataError(f"there is no file {source!r}", f"Check the path. {WAY_OUT}")
    if is_table(path):
        table = open_table(path, source)
        return list(table.rows), set(table.columns)
    rows = list(raw_rows(source, default_split="train", columns=WAY_OUT, example="")[1])
    columns = {key for row in rows if isinstance(row, dict) for key in row}
    return rows, columns | ({"value"} if "field" in columns else set())


class _Reading:
    """Labels that are being read, by document and field."""

    def __init__(self, source: str, on_bad: OnBad) -> None:
        self._source, self._on_bad = source, on_bad
        self._files = DocumentFiles(expand(source).parent)
        self._names: dict[str, str] = {}  # of each text
        self._found: dict[str, dict[str, tuple[Field, list[Answer]]]] = {}  # by text and name of the field
        self._dropped: list[str] = []
        self._undecided = self._unread = 0

    def bad(self, error: DataError) -> None:
        """Note a bad label, or stop at it."""
        if self._on_bad == "error":
            raise error
        self._dropped.append(error.problem)

    def read(self, row: Mapping[str, Any], columns: set[str], schema: Schema, where: str) -> None:
        """Take the labels of a row in."""
        if row.get("error"):
            self._unread += 1
            return
        with self._noting():
            text = self._text(row, where)
            for label in labels_of(row, columns, schema, where):
                if label.undecided:
                    self._undecided += 1
                    continue
                with self._noting():
                    self._add(text, label, where)

    @contextmanager
    def _noting(self) -> Iterator[None]:
        try:
            yield
        except DataError as error:
            self.bad(error)

    def _text(self, row: Mapping[str, Any], where: str) -> str:
        """The text of the document of a row."""
        name = self._from_here(named_document(dict(row), self._files))
        if not name:
            text = row.get("context", row.get("document"))
            if not isinstance(text, str) or not text.strip():
                raise DataError(f"{where} has no 'document' with a name or a text", WAY_OUT)
            self._names.setdefault(text, f"document {len(self._names) + 1}")
            return text
        try:
            document = self._files.read(name)
        except DataError as error:
            raise DataError(f"{where}: {error.problem}", error.way_out) from error
        if row.get("document_sha256") not in (None, document.sha256):
            raise DataError(
                f"{where}: the text of {name} has changed since the table was made", "Extract from it again."
            )
        self._names.setdefault(document.text, name)
        return document.text

    def _from_here(self, name: str) -> str:
        """A name that begins in the folder of the file or, as in tables of `palmette extract`, in the current one."""
        path = expand(name.strip()) if name else None
        if path is None or path.is_absolute() or (expand(self._source).parent / path).exists() or not path.exists():
            return name
        return str(path.absolute())

    def _add(self, text: str, label: Label, where: str) -> None:
        answers = [_answer(given, text, label.field, where) for given in label.values]
        _, known = self._found.setdefault(text, {}).setdefault(label.field.name, (label.field, answers))
        if known is not answers and bool(known) != bool(answers):
            value = (known or answers)[0].text
            raise DataError(
                f"{where}: {label.field.name!r} has the value {short(value)} and is absent in the same document",
                "Keep one of the two.",
            )
        known.extend(answer for answer in answers if answer not in known)

    def labels(self) -> Labels:
        """What was read."""
        documents = []
        for text, fields in self._found.items():
            name = self._names[text]
            questions = (
                Question(f"{name}/{field.name}", field.question, tuple(dict.fromkeys(answers)))
                for field, answers in fields.values()
            )
            documents.append(Document(name, text, tuple(questions), name))
        if not documents:
            raise DataError(f"{self._source} holds no label ({len(self._dropped)} dropped)", WAY_OUT)
        check_documents(documents, self._source)
        return Labels(self._source, tuple(documents), tuple(self._dropped), self._undecided, self._unread)


def _answer(given: Given, text: str, field: Field, where: str) -> Answer:
    """A value as an answer, with its place.

    The place that is given counts if the value stands there. Else it is looked up. Of several places, the only one
    counts that touches the given one, since a corrected value is often a part of the old one.
    """
    start, end = given.start, given.end
    if start is not None and start >= 0:
        end = start + len(given.text) if end is None else end
        if text[start:end].split() == given.text.split():
            return Answer(text[start:end], start)
    places = find_places(given.text, text, whole=True)
    if len(places) > 1 and start is not None and end is not None:
        places = [place for place in places if place[0] < end and place[1] > start] or places
    if len(places) == 1:
        return Answer(text[places[0][0] : places[0][1]], places[0][0])
    what = f"{where}: the value {short(given.text)} of {field.name!r}"
    if not places:
        way_out = "Copy it from the document, letter by letter." + _PASSAGES.get(field.type, "")
        raise DataError(f"{what} does not stand in the document", way_out)
    raise DataError(
        f"{what} stands {len(places)} times in the document",
        f"Say where it begins, in characters from 0, as 'start' (in a table as '{field.name}.start').",
    )
