"""Items of a task, from the hub or from the files that people have."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import json
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from palmette.choice.forms import (
    Row,
    is_request,
    is_subject,
    official_row,
    request_rows,
    six_line_rows,
    subject_rows,
)
from palmette.choice.items import ChoiceItem, check_item
from palmette.choice.task import RowReader, Task
from palmette.data.not_text import not_utf8
from palmette.data.rows import parse_json_lines
from palmette.data.source import hub_rows
from palmette.data.tables import is_table, open_table
from palmette.data.values import json_problem, parse_json, without_nulls
from palmette.errors import DataError, reason_of
from palmette.files import expand

_WAYS = "Give a .jsonl or .json file (.gz and .bz2 too), a .parquet, .csv or .tsv table, or HellaSwag's text form."
# How the authors of MMLU name the file of a subject.
_SUBJECT = re.compile(r"(\w+)_(?:test|dev|val)\.csv")
_OPENERS: dict[str, Any] = {".gz": gzip.decompress, ".bz2": bz2.decompress}


@dataclass(frozen=True)
class Rows:
    """The rows of a source, which are not checked yet.

    Attributes:
        source: the file, or the hub id with its part and split.
        sha256: the hash of the file's bytes, or the hub's fingerprint.
        rows: the rows, with the columns of the hub's data set.
        rendered: whether rows hold contexts and continuations as they are scored, examples included.
    """

    source: str
    sha256: str
    rows: tuple[Row, ...]
    rendered: bool = False

    def where(self, index: int) -> str:
        """How messages name a row."""
        return _where(self.rows[index], index, self.source)

    def items(self, reader: RowReader, *, keep_equal: bool = False) -> list[ChoiceItem]:
        """The items of the rows.

        Args:
            reader: reads a row as a rule has it. It has no use for rendered rows.
            keep_equal: whether an item may have two choices that are equal.

        Raises:
            DataError: a row cannot be read, or an id stands twice.
        """
        found: list[ChoiceItem] = []
        seen: set[str] = set()
        for index, row in enumerate(self.rows):
            where = self.where(index)
            given = {"id": f"row-{index + 1}", **row}
            item = _rendered(given, where) if self.rendered else reader.item(given, where, keep_equal=keep_equal)
            if self.rendered:
                check_item(item, where, keep_equal=keep_equal)
            if item.id in seen:
                raise DataError(f"{where} has an id that another item has too", "Give every item an id of its own.")
            seen.add(item.id)
            found.append(item)
        return found


def read_rows(
    task: Task, data: str | None, *, split: str = "", limit: int | None = None, option: str = "--data"
) -> Rows:
    """The rows of a task.

    Args:
        task: the task.
        data: a file, or a folder with MMLU's file of each subject. The hub's data set of the task if None.
        split: the split of the hub's data set. That of the task if "".
        limit: only so many rows, from the start.
        option: the option that names a file, for messages.

    Raises:
        DataError: there is no such file, the hub cannot be reached, or rows cannot be read.
    """
    if data is None:
        return _of_hub(task, split or task.split, limit, option)
    path = expand(data)
    if not path.exists():
        raise DataError(f"there is no data file {data!r}", _WAYS)
    try:
        raw, rows = _of_folder(path) if path.is_dir() else _of_file(path, data)
    except OSError as error:
        raise DataError(f"cannot read {data!r}: {reason_of(error)}", "Check that it may be read.") from error
    rendered = bool(rows) and is_request(rows[0])
    rows = list(request_rows(rows, data)) if rendered else list(_official(rows, data))
    rows = rows[:limit]
    if not rows:
        raise DataError(f"{data} holds no items", _WAYS)
    return Rows(data, hashlib.sha256(raw).hexdigest(), tuple(rows), rendered)


def _of_hub(task: Task, split: str, limit: int | None, option: str) -> Rows:
    ways = f"Give {option}, a file of items."
    if not task.hub:
        raise DataError(f"the task {task.name!r} has no data on the hub", ways)
    digest, rows = hub_rows(task.hub, split, ways, config=task.config or None)
    name = ":".join(part for part in (task.hub, task.config, split) if part)
    found = tuple(_official((without_nulls(row) for row in islice(rows, limit)), name))
    return Rows(name, digest, found)


def _official(rows: Iterable[Row], source: str) -> Iterator[Row]:
    for index, row in enumerate(rows):
        yield official_row(row, _where(row, index, source))


def _where(row: Row, index: int, source: str) -> str:
    return f"{source}: {row.get('id', f'row {index + 1}')}"


def _of_file(path: Path, source: str) -> tuple[bytes, list[Row]]:
    raw = path.read_bytes()
    subject = _SUBJECT.fullmatch(path.name)
    if subject and is_subject(raw.decode("utf-8-sig", "replace"), source):
        return raw, list(subject_rows(_text(raw, source), subject[1], source))
    return raw, list(_file_rows(path, raw, source))


def _of_folder(folder: Path) -> tuple[bytes, list[Row]]:
    """The rows of all files of subjects in a folder, in the order of their names."""
    found, rows = [], list[Row]()
    for path in sorted(folder.iterdir()):
        if subject := _SUBJECT.fullmatch(path.name):
            found.append(path.read_bytes())
            rows += subject_rows(_text(found[-1], str(path)), subject[1], str(path))
    return b"".join(found), rows


def _text(raw: bytes, source: str) -> str:
    """Bytes as text.

    Raises:
        DataError: they are not UTF-8.
    """
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise not_utf8(raw, f"{source}: byte {error.start} is not UTF-8") from error


def _file_rows(path: Path, raw: bytes, source: str) -> Iterator[Row]:
    """The rows of a file, by the end of its name."""
    if is_table(path):
        yield from (without_nulls(dict(row)) for row in open_table(path, source).rows)
        return
    opener = _OPENERS.get(path.suffix.lower())
    suffix = path.with_suffix("").suffix.lower() if opener else path.suffix.lower()
    try:
        raw = opener(raw) if opener else raw
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise DataError(f"{source} cannot be decompressed: {reason_of(error)}", "Fetch the file again.") from error
    text = _text(raw, source)
    if suffix == ".txt":
        yield from six_line_rows(text, source)
    elif suffix == ".json":
        yield from _json_rows(text, source)
    else:
        yield from _labelled(_json_lines(text, source), path, source)


def _json_lines(text: str, source: str) -> Iterator[Row]:
    for row in parse_json_lines(text, source, "Each line needs to be an object, such as one row of the benchmark."):
        if isinstance(row, DataError):
            raise row
        yield row


def _json_rows(text: str, source: str) -> Iterator[Row]:
    try:
        values = parse_json(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{source} is not JSON: {json_problem(error)}", _WAYS) from error
    if not isinstance(values, list) or not all(isinstance(row, dict) for row in values):
        raise DataError(f"{source} is not a list of objects", _WAYS)
    yield from (without_nulls(row) for row in values)


def _labelled(rows: Iterable[Row], path: Path, source: str) -> Iterator[Row]:
    """Rows with the labels that the authors of PIQA keep in a file beside them, one a line."""
    beside = path.with_name(f"{path.stem}-labels.lst")
    if not beside.is_file():
        yield from rows
        return
    labels = _text(beside.read_bytes(), str(beside)).split()
    given = list(rows)
    if len(labels) != len(given):
        raise DataError(
            f"{beside} has {len(labels)} labels for {len(given)} rows of {source}", "Give the files of one split."
        )
    for row, label in zip(given, labels, strict=True):
        yield {**row, "label": label}


def _rendered(row: Mapping[str, Any], where: str) -> ChoiceItem:
    """The item of rendered requests."""
    gold, choices = row.get("gold"), row["choices"]
    texts = [*row["contexts"], *row["continuations"], *choices]
    if isinstance(gold, bool) or not isinstance(gold, int):
        raise DataError(f"{where} has no gold label: {json.dumps(gold)}", "Give the index of the right choice.")
    if not all(isinstance(text, str) for text in texts):
        raise DataError(f"{where} has a context, a continuation or a choice that is not text", "Correct its requests.")
    return ChoiceItem(str(row["id"]), tuple(row["contexts"]), tuple(row["continuations"]), tuple(choices), gold)
