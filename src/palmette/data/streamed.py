"""Questions about documents that stay on disk: rows of an Arrow file or a hub data set, read through a memory map.

Once, all rows are read and checked, and it is noted where each document begins and ends. After that, a document is read
when it is asked for. In memory are 24 bytes a document, and what the reading of one of them takes. Documents, their
order and their names are those of `read_source`.

Rows about one document must stand together, since documents are found by their places. And a question id that occurs in
two documents is an error under every policy, since the ids themselves are not kept.
"""

from __future__ import annotations

import hashlib
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, overload

import numpy as np

from palmette.data.arrow import arrow_batches
from palmette.data.files import DocumentFiles
from palmette.data.kinds import of_kind
from palmette.data.records import DataSet, Document, Question, checked_document
from palmette.data.rows import parse_row
from palmette.data.source import OnBad, document_files, file_named, load_hub
from palmette.data.tables import table_hash
from palmette.errors import DataError

_READ_AT_ONCE = 1024  # rows
_STREAMED = (
    "Give an .arrow file or a hub data set. `datasets.Dataset.from_json(FILE).save_to_disk(FOLDER)` makes Arrow files."
)


def stream_source(
    source: str, *, default_split: str = "train", on_bad_record: OnBad = "error", limit_documents: int | None = None
) -> DataSet:
    """Check a data set whose documents stay on disk, and are read when they are asked for.

    Args:
        source: an Arrow file, or a data set of the hub.
        default_split: see `read_source`.
        on_bad_record: see `read_source`.
        limit_documents: see `read_source`.

    Raises:
        DataError: see `read_source`. Or the source is another kind of file, or the rows about a document do not stand
            together.
    """
    files: DocumentFiles | None = None
    path = None if source.startswith("builtin:") else file_named(source, _STREAMED)
    if path is not None and path.suffix == ".arrow":
        files, table = document_files(source), ArrowTable(arrow_batches(path))
        digest = table_hash(path)
    elif path is None and not source.startswith("builtin:"):
        digest, rows = load_hub(source, default_split, _STREAMED)
        table = ArrowTable(rows.data.table.to_batches())
    else:
        raise DataError(f"data.stream reads Arrow, and {source!r} is something else", _STREAMED)
    documents = StreamedDocuments(table, source, files)
    of_rows: list[str] = []
    of_records: list[str] = []
    ids, owners = array("Q"), array("q")
    groups = grouped_rows(of_kind(table.rows(0, len(table)), source, "questions"), 0, source, files)
    for number, group in enumerate(_once_each(groups, source)):
        if limit_documents is not None and len(documents) >= limit_documents:
            continue  # to the end, for rows about these documents that stand apart
        document = group.document(number)
        errors: list[DataError] = []
        if document is not None:
            document, errors = checked_document(document, {}, source)
        if on_bad_record == "error" and (group.errors or errors):
            raise (group.errors or errors)[0]
        of_rows.extend(error.problem for error in group.errors)
        of_records.extend(error.problem for error in errors)
        if document is not None:
            documents.add(group.start, group.stop, number, len(document.questions))
            ids.extend(hash_of(question.id) for question in document.questions)
            owners.extend([group.start + 1] * len(document.questions))
    twice = repeated(ids)
    if twice is not None:
        first, second = (owners[index] for index in twice)
        raise DataError(
            f"{source}: a question id of the document that begins in row {first} also stands in that of row {second}",
            "Give every question an id of its own.",
        )
    dropped = (*of_rows, *of_records)
    if not ids:
        raise DataError(f"{source}: no question in {len(documents)} documents ({len(dropped)} dropped)", _STREAMED)
    return DataSet(source, documents, files.hash_with(digest) if files else digest, dropped)


class ArrowTable:
    """The rows of memory-mapped Arrow data, by number.

    Args:
        batches: their record batches, of pyarrow.
    """

    def __init__(self, batches: Iterable[Any]) -> None:
        self._batches = list(batches)
        self._starts = [0]
        for batch in self._batches:
            self._starts.append(self._starts[-1] + batch.num_rows)

    def __len__(self) -> int:
        return self._starts[-1]

    def rows(self, start: int, stop: int) -> Iterator[dict[str, Any]]:
        """The rows from `start` to before `stop`, counted from 0. A row without an id gets one by its number."""
        while start < stop:
            index = bisect_right(self._starts, start) - 1
            first = self._starts[index]
            part = self._batches[index].slice(start - first, min(stop - start, _READ_AT_ONCE)).to_pylist()
            for row in part:
                start += 1
                yield {"id": f"row-{start}", **{name: value for name, value in row.items() if value is not None}}


class StreamedDocuments(Sequence[Document]):
    """Documents with their questions, each read when it is asked for.

    Args:
        table: the rows.
        source: how messages name the data.
        files: reads documents that rows name. None if no row does.

    Attributes:
        num_questions: the number of their good questions.
    """

    def __init__(self, table: ArrowTable, source: str, files: DocumentFiles | None) -> None:
        self._table, self._source, self._files = table, source, files
        self._places = array("q")  # start, stop and number of each document
        self.num_questions = 0

    def add(self, start: int, stop: int, number: int, num_questions: int) -> None:
        """Add the document that the rows from `start` to before `stop` ask about, with its number among all."""
        self._places.extend((start, stop, number))
        self.num_questions += num_questions

    def __len__(self) -> int:
        return len(self._places) // 3

    @overload
    def __getitem__(self, index: int) -> Document: ...
    @overload
    def __getitem__(self, index: slice) -> list[Document]: ...
    def __getitem__(self, index: int | slice) -> Document | list[Document]:
        """The document at a place, or those of a slice, with their good questions."""
        if isinstance(index, slice):
            return [self[one] for one in range(*index.indices(len(self)))]
        index = range(len(self))[index]
        start, stop, number = self._places[3 * index : 3 * index + 3]
        (group,) = grouped_rows(self._table.rows(start, stop), start, self._source, self._files)
        document = group.document(number)
        assert document is not None
        found, _ = checked_document(document, {}, self._source)
        assert found is not None
        return found


@dataclass(slots=True)
class RowGroup:
    """Rows about one document, with the bad rows beside them.

    Attributes:
        start, stop: the first row about the document, and the row after the last, counted from 0.
        title, context: of the document.
        questions: what the good rows ask.
        errors: of the bad rows.
    """

    start: int
    stop: int
    title: str = ""
    context: str = ""
    questions: list[Question] = field(default_factory=list)
    errors: list[DataError] = field(default_factory=list)

    def document(self, number: int) -> Document | None:
        """The document, unchecked, with its number among all. None if no row is good."""
        if not self.questions:
            return None
        return Document(f"{self.title or 'document'}/{number}", self.context, tuple(self.questions), self.title)


def grouped_rows(
    rows: Iterable[dict[str, Any] | DataError], first: int, source: str, files: DocumentFiles | None
) -> Iterator[RowGroup]:
    """Rows in groups that ask about one document each. Bad rows belong to the group before them, or to the first.

    Args:
        rows: the rows.
        first: the number of the first of them, counted from 0.
        source: how messages name the data.
        files: reads documents that rows name.
    """
    group = RowGroup(first, first)
    for number, row in enumerate(rows, first):
        assert not isinstance(row, DataError)
        try:
            title, context, question = parse_row(row, number + 1, source, files)
        except DataError as error:
            group.errors.append(error)
            group.stop = number + 1
            continue
        if group.questions and (title, context) != (group.title, group.context):
            yield group
            group = RowGroup(number, number)
        if not group.questions:
            group.start, group.title, group.context = number, title, context
        group.questions.append(question)
        group.stop = number + 1
    if group.stop > first:
        yield group


def _once_each(groups: Iterable[RowGroup], source: str) -> Iterator[RowGroup]:
    """The groups as they are.

    Raises:
        DataError: after the last of them, if two ask about one document.
    """
    seen, starts = array("Q"), array("q")
    for group in groups:
        if group.questions:
            seen.append(hash_of(f"{group.title}\0{group.context}"))
            starts.append(group.start)
        yield group
    twice = repeated(seen)
    if twice is not None:
        one, other = (starts[index] + 1 for index in twice)
        raise DataError(
            f"{source}: the rows {one} and {other} ask about one document, with others between them",
            "Sort the rows by title and context, or take data.stream out.",
        )


def hash_of(text: str) -> int:
    """A hash of 64 bits. Among ten million texts, two have the same one in 3 of a million data sets."""
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


def repeated(hashes: array[int]) -> tuple[int, int] | None:
    """The indices of the first two equal values that sorting finds. None if all differ.

    >>> repeated(array("Q", [5, 3, 5])), repeated(array("Q", [5, 3]))
    ((0, 2), None)
    """
    values = np.frombuffer(hashes, dtype=np.uint64) if len(hashes) else np.empty(0, dtype=np.uint64)
    order = np.argsort(values, kind="stable")
    same = np.flatnonzero(np.diff(values[order]) == 0)
    if not len(same):
        return None
    first, second = order[same[0] : same[0] + 2].tolist()
    return first, second
