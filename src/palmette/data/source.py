"""Data sources by name: `builtin:train`, SQuAD v2, JSON Lines, a table, or a data set of the Hugging Face hub."""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any, Literal, cast

from palmette.data.arrow import arrow_rows
from palmette.data.compressed import COMPRESSED, inner_name
from palmette.data.files import DocumentFiles
from palmette.data.forms import standard_rows
from palmette.data.json_files import HEAD, read_text
from palmette.data.kinds import KINDS, of_kind
from palmette.data.records import DataSet, Document, checked_document
from palmette.data.rows import group_rows, parse_json_lines, parse_json_list
from palmette.data.squad import parse_squad
from palmette.data.tables import SUFFIXES, TableRow, is_table, open_table, question_rows, table_hash, typed_rows
from palmette.errors import DataError, reason_of
from palmette.files import expand
from palmette.hub import first_contact, is_answer, not_reached, without_hub

OnBad = Literal["error", "drop"]
SPLITS = ("train", "dev", "test")
_FILES = frozenset((".json", ".jsonl", ".arrow", *COMPRESSED)) | SUFFIXES
_NEAR = 0.7  # difflib's ratio from which a name is suggested
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+(?::\w+)?")
_WAYS = (
    "Give builtin:train, builtin:dev, builtin:test, a SQuAD v2 .json file, a .jsonl, .csv, .tsv, .xlsx, .parquet or "
    ".arrow file, or a hub data set such as rajpurkar/squad_v2:validation."
)


def read_data(
    source: str | os.PathLike[str],
    *,
    split: str = "validation",
    limit: int | None = None,
    on_bad_record: OnBad = "error",
) -> DataSet:
    """Read and check questions with known answers.

    Args:
        source: "builtin:train", "builtin:dev" or "builtin:test", a SQuAD v2 .json file, a .jsonl, .csv, .tsv, .xlsx,
            .parquet or .arrow file, or a data set on the Hugging Face hub such as "rajpurkar/squad_v2".
        split: the split of a data set on the hub, unless its name gives one after a colon.
        limit: read only so many documents, from the start.
        on_bad_record: "error" stops at the first bad record. "drop" leaves bad records out and counts them in
            `dropped`.

    Returns:
        The data set, with `documents`, `num_questions`, `source`, `sha256` and `dropped`.

    Raises:
        DataError: there is no such source, a record is bad, a question id occurs twice, or nothing is left.
    """
    name = os.fspath(source)
    return read_source(name, default_split=split, on_bad_record=on_bad_record, limit_documents=limit)


def check_source(source: str) -> None:
    """Check that a data set is there, before anything heavy is imported. It is not read, and the hub is not asked.

    Args:
        source: a name as described in `read_data`.

    Raises:
        DataError: the name is that of a file, and there is none.
    """
    if not source.startswith("builtin:"):
        file_named(source, _WAYS)


def check_documents(documents: Sequence[Document], source: str) -> None:
    """Check documents with their questions, as `read_source` checks what it reads.

    Args:
        documents: the documents.
        source: how messages name the data.

    Raises:
        DataError: a bad record, a question id that occurs twice, or no question at all.
    """
    seen: dict[str, str] = {}
    for document in documents:
        _, errors = checked_document(document, seen, source)
        if errors:
            raise errors[0]
    if not seen:
        raise DataError(f"{source}: no question in {len(documents)} documents", _WAYS)


def read_source(
    source: str, *, default_split: str = "train", on_bad_record: OnBad = "error", limit_documents: int | None = None
) -> DataSet:
    """Read and check a data set.

    Args:
        source: a name as described in `read_data`.
        default_split: the split of a hub data set whose name gives none after a colon.
        on_bad_record: "error" stops at the first bad record. "drop" leaves it out and counts it. A bad record is a
            question, or a document with all of its questions.
        limit_documents: read at most so many documents.

    Raises:
        DataError: there is no such source, a record is bad, a question id occurs twice, or nothing is left.
    """
    files = document_files(source)
    digest, records = _open(source, default_split, files)
    documents: list[Document] = []
    dropped: list[str] = []
    seen: dict[str, str] = {}
    for document in records:
        if limit_documents is not None and len(documents) >= limit_documents:
            break
        checked, errors = checked_document(document, seen, source)
        if errors and on_bad_record == "error":
            raise errors[0]
        dropped.extend(error.problem for error in errors)
        if checked is not None:
            documents.append(checked)
    if not any(document.questions for document in documents):
        raise DataError(f"{source}: no question in {len(documents)} documents ({len(dropped)} dropped)", _WAYS)
    return DataSet(source, tuple(documents), files.hash_with(digest), tuple(dropped))


def checked_records(source: str, default_split: str = "train") -> Iterator[Document | DataError]:
    """Every document of a source with its good questions, and the error of every record that is bad, in order.

    Args:
        source: a name as described in `read_data`.
        default_split: the split of a hub data set whose name gives none after a colon.

    Raises:
        DataError: there is no such source, or it cannot be read at all.
    """
    seen: dict[str, str] = {}
    for record in _open(source, default_split, document_files(source))[1]:
        document, errors = checked_document(record, seen, source)
        yield from errors
        if document is not None:
            yield document


def document_files(source: str) -> DocumentFiles:
    """Reads documents that rows of a source name. Names begin in its folder."""
    path = expand(source)
    return DocumentFiles(path.parent if path.suffix in _FILES else Path())


def _open(source: str, default_split: str, files: DocumentFiles) -> tuple[str, Iterable[Document | DataError]]:
    if source.startswith("builtin:"):
        split = source.removeprefix("builtin:")
        if split not in SPLITS:
            raise DataError(f"the built-in corpus has no split {split!r}", f"It has {', '.join(SPLITS)}.")
        raw = resources.files("palmette.data").joinpath("corpus", f"{split}.json").read_bytes()
        return hashlib.sha256(raw).hexdigest(), parse_squad(raw.decode("utf-8"), source)
    path = file_named(source, _WAYS)
    return _open_file(path, source, files) if path else _open_hub(source, default_split)


def _open_file(path: Path, source: str, files: DocumentFiles) -> tuple[str, Iterable[Document | DataError]]:
    if is_table(path):
        table = open_table(path, source)
        # Before columns that questions do not have are left out.
        rows = cast("Iterator[TableRow]", of_kind(table.rows, source, "questions"))
        table = replace(table, rows=rows)
        return table_hash(path), group_rows(question_rows(table, source, labelled=True), source, files)
    if path.suffix == ".arrow":
        digest, rows_of_file = _arrow_file(path)
        return digest, group_rows(rows_of_file, source, files)
    digest, text = read_text(path, source)
    if path.suffix == ".jsonl":
        return digest, group_rows(parse_json_lines(text, source), source, files)
    return digest, parse_squad(text, source)


def _arrow_file(path: Path) -> tuple[str, Iterator[dict[str, Any]]]:
    """The hash of an Arrow file, and its rows. A row without an id gets one by its number.

    They are rows as JSON Lines have them, and no table: there an empty cell for an answer means that there is none,
    and here it is a mistake.
    """
    return table_hash(path), ({"id": f"row-{number}", **row} for number, row in enumerate(arrow_rows(path), 1))


def _open_hub(source: str, default_split: str) -> tuple[str, Iterable[Document | DataError]]:
    digest, rows = hub_rows(source, default_split, _WAYS)
    return digest, group_rows(rows, source)


def open_rows(
    source: str, *, default_split: str, columns: str, example: str, names: Mapping[str, str] | None = None
) -> tuple[str, Iterable[dict[str, Any] | DataError]]:
    """The rows of a file or of a hub data set, unchecked, in the forms that palmette's readers know (`data/forms.py`).

    Args:
        source: a file of JSON Lines (which may be compressed), a JSON list, a table (.csv, .tsv, .xlsx, .parquet) or an
            Arrow file, or a hub id with an optional split after a colon.
        default_split: the split of a hub data set whose name gives none.
        columns: the columns that each row needs, for messages.
        example: a hub data set with these columns, for messages.
        names: the names of columns that the data call otherwise, as {ours: theirs}.

    Returns:
        A hash of the source's bytes (or the hub's fingerprint), and the rows. A line that is not an object is given as
        its error.

    Raises:
        DataError: there is no such source, or it cannot be read.
    """
    digest, rows = raw_rows(source, default_split=default_split, columns=columns, example=example)
    return digest, standard_rows(rows, names)


def raw_rows(
    source: str, *, default_split: str, columns: str, example: str
) -> tuple[str, Iterable[dict[str, Any] | DataError]]:
    """The rows of a source as they are. Arguments and errors are those of `open_rows`."""
    ways = (
        "Give a .jsonl or .json file, a table (.csv, .tsv, .xlsx, .parquet), an .arrow file, or a hub data set such as "
        f"{example}. {columns}"
    )
    if source.startswith("builtin:"):
        raise _holds_questions(source, ways)
    path = file_named(source, ways)
    if path is None:
        return hub_rows(source, default_split, ways)
    if is_table(path):
        return table_hash(path), ({"id": f"row-{row.number}", **row} for row in typed_rows(open_table(path, source)))
    if path.suffix == ".arrow":
        return _arrow_file(path)
    digest, text = read_text(path, source)
    if inner_name(path).suffix != ".jsonl" and '"paragraphs"' in text[:HEAD]:
        raise _holds_questions(source, ways)
    if inner_name(path).suffix == ".json" and text.lstrip().startswith("["):
        return digest, parse_json_list(text, source, columns)
    return digest, parse_json_lines(text, source, columns)


def _holds_questions(source: str, ways: str) -> DataError:
    """The error of SQuAD v2 data where other rows are needed."""
    kind = KINDS["questions"]
    return DataError(f"{source} holds {kind.title}, and other data are needed here", f"{kind.uses} {ways}")


def file_named(source: str, ways: str) -> Path | None:
    """The file that a source names. None if it names a hub data set."""
    path = expand(source)
    try:
        if path.is_file():
            return path
    except OSError as error:
        raise DataError(f"cannot read the data {source!r}: {reason_of(error)}", ways) from error
    if _HUB_ID.fullmatch(source) and path.suffix not in _FILES:
        return None
    raise DataError(f"there is no data file {source!r}", _nearest(source) + ways)


def hub_rows(
    source: str, default_split: str, ways: str, *, config: str | None = None
) -> tuple[str, Iterable[dict[str, Any]]]:
    """The fingerprint of a hub data set, and its rows.

    Args:
        source: its id, with an optional split after a colon.
        default_split: the split, if the id names none.
        ways: what else can be given, for messages.
        config: the part of the data set, where it has several.

    Raises:
        DataError: the hub does not have it, or cannot be reached.
    """
    digest, rows = load_hub(source, default_split, ways, config=config)
    return digest, (dict(row) for row in rows)


def load_hub(source: str, default_split: str, ways: str, *, config: str | None = None) -> tuple[str, Any]:
    """The fingerprint of a hub data set, and the data set. Arguments and errors are those of `hub_rows`."""
    name, _, split = source.partition(":")
    missed = _not_reached(name, source, ways)
    from datasets import load_dataset  # takes seconds, and only now is it known to be needed

    try:
        with without_hub() if missed else contextlib.nullcontext():
            part = {"name": config} if config else {}
            rows = load_dataset(name, split=split or default_split, **part)
    except Exception as error:  # the library raises a dozen kinds, network ones among them
        first_line = str(error).strip().partition("\n")[0]
        why = f"no file has this name, and {missed}" if missed else first_line
        raise DataError(
            f"cannot load the data set {name!r}, split {split or default_split!r}: {why}",
            f"{_nearest(source)}Check its id and its split, or go online. {ways}",
        ) from error
    return str(rows._fingerprint), rows


def hub_stream(
    name: str, part: str | None, split: str, source: str, ways: str
) -> tuple[dict[str, Any], Callable[[], Iterator[dict[str, Any]]]]:
    """A data set of the hub whose rows are read as they are needed, and never all of them.

    Args:
        name: its id.
        part: its configuration, such as "en", if it has several.
        split: its split.
        source: the name that the user gave.
        ways: what else can be given, for messages.

    Returns:
        What identifies the data, and a function that gives the rows from the first one.

    Raises:
        DataError: the hub cannot be reached, or has no such data set.
    """
    missed = _not_reached(name, source, ways)
    if missed:
        raise DataError(
            f"no file or folder has the name {source!r}, and {missed}", f"Go online, or {ways[0].lower()}{ways[1:]}"
        )
    from datasets import load_dataset
    from huggingface_hub import dataset_info

    def opened() -> Iterator[dict[str, Any]]:
        return (dict(row) for row in load_dataset(name, part, split=split, revision=commit, streaming=True))

    def rows() -> Iterator[dict[str, Any]]:
        read = 0
        try:
            for row in opened():
                yield row
                read += 1
        except Exception as error:  # as below
            first_line = str(error).strip().partition("\n")[0]
            raise DataError(
                f"the stream of {source!r} broke off after row {read}: {first_line or type(error).__name__}",
                "Check the network, and try again. A training that had begun goes on with --resume.",
            ) from error

    try:
        commit = dataset_info(name).sha
        next(opened(), None)
    except Exception as error:  # the library raises a dozen kinds, network ones among them
        first_line = str(error).strip().partition("\n")[0]
        raise DataError(
            f"cannot read the data set {source!r}: {first_line}", f"Check its name and split. {ways}"
        ) from error
    return {"hub": name, "revision": commit}, rows


def _not_reached(name: str, source: str, ways: str) -> str | None:
    """Ask the hub once for a data set. The result says why it cannot be reached, if that is so.

    Raises:
        DataError: the hub does not have it.
    """
    error = first_contact(name, "README.md", kind="dataset")
    if error is not None and is_answer(error) and not _lacks_only_the_file(error):
        raise DataError(
            f"there is no data set {name!r}: no file has this name, and the hub does not know it, or keeps it private",
            _nearest(source) + ways,
        ) from error
    return not_reached(error) if error is not None and not is_answer(error) else None


def _nearest(source: str) -> str:
    """A question about the file whose name is nearest, in the folder that a name points to. "" if none is near."""
    path = expand(source)
    with contextlib.suppress(OSError):
        names = [entry.name for entry in path.parent.iterdir() if entry.is_file()]
        near = difflib.get_close_matches(path.name, names, n=1, cutoff=_NEAR)
        return f"Did you mean {path.with_name(near[0])}? " if near else ""
    return ""


def _lacks_only_the_file(error: Exception) -> bool:
    from huggingface_hub.errors import EntryNotFoundError

    return isinstance(error, EntryNotFoundError)
