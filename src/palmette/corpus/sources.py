"""Sources of texts by name: files, folders, data sets of the Hugging Face hub, and the built-in corpus.

A file of text, Markdown, HTML, PDF or Word is one text. A file of rows (JSON Lines, a JSON list, CSV, Parquet, Arrow)
holds a text in each row, in the column `text` unless `data.columns` names another. Text and JSON may be compressed
(.gz, .zst). Rows are read one after the other, so a file of rows may be larger than memory, but for a JSON list.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from palmette.corpus.rows import ROWS, rows_of_file, text_of_row, weight_of_row
from palmette.corpus.texts import Text, TextSource
from palmette.data.compressed import COMPRESSED, inner_name, open_bytes
from palmette.data.forms import check_columns
from palmette.data.general import GENERAL, PASSAGES, hashes, passages
from palmette.data.source import hub_stream, read_source
from palmette.documents import read_document
from palmette.documents.charset import NotTextError, decode
from palmette.documents.reading import MAX_BYTES
from palmette.errors import DataError
from palmette.files import expand

_PLAIN = frozenset((".txt", ".text", ".md", ".markdown"))
_DOCUMENTS = _PLAIN | {".html", ".htm", ".xhtml", ".pdf", ".docx"}
COLUMNS = ("text", "weight")
_HUB_ID = re.compile(r"(?P<name>[\w.-]+/[\w.-]+)(?:/(?P<part>[\w.-]+))?(?::(?P<split>\w+))?")
_WAYS = (
    "Give a file of text (.txt, .md, .html, .pdf, .docx), of rows (.jsonl, .json, .csv, .parquet, .arrow), a folder of "
    "such files, or a data set of the hub such as allenai/c4/en:train."
)


def open_source(
    name: str, *, columns: Mapping[str, str] | None = None, limit: int | None = None, drop_bad: bool = False
) -> TextSource:
    """A source of texts. No file is read yet.

    Args:
        name: a file, a folder, "builtin:train", "builtin:general" (the texts that measure forgetting), or a data set of
            the hub as USER/NAME[/CONFIGURATION][:SPLIT].
        columns: {"text": NAME}, if the texts of rows stand in another column than `text`, and {"weight": NAME}, if they
            have weights.
        limit: give only the first so many texts.
        drop_bad: give texts that cannot be read as their errors, instead of stopping at the first.

    Raises:
        DataError: there is no such source, a folder holds no text, or `columns` names other columns.
    """
    check_columns(columns or {}, COLUMNS)
    source = _named(name, {"text": "text", **(columns or {})})

    def texts() -> Iterator[Text | DataError]:
        for one in islice(source.open(), limit):
            if isinstance(one, DataError) and not drop_bad:
                raise one
            yield one

    return TextSource(name, source.kind, texts, source.identify)


def check_once(sources: Sequence[TextSource]) -> None:
    """Refuse a source that is named twice.

    Raises:
        DataError: one is.
    """
    names = [source.name for source in sources]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise DataError(f"the source {twice!r} is named twice", "Name each source once, to learn, replay or measure.")


def _named(name: str, columns: Mapping[str, str]) -> TextSource:
    if name == GENERAL:
        general = tuple(Text(f"{name} {one.id}", one.text, name) for one in passages())
        return TextSource(name, "builtin", lambda: iter(general), lambda: {"sha256": hashes()[PASSAGES]})
    if name.startswith("builtin:"):
        return _builtin(name)
    path = expand(name)
    if path.exists():
        files = _files_in(path) if path.is_dir() else [path]
        if not files:
            raise DataError(f"the folder {name!r} holds no text", _WAYS)
        return TextSource(name, "files", lambda: _texts_of_files(files, name, columns), lambda: _identity(files))
    found = _HUB_ID.fullmatch(name)
    if found is None or path.suffix.lower() in ROWS | _DOCUMENTS | set(COMPRESSED):
        raise DataError(f"there is no file or folder {name!r}", f"Check the path. {_WAYS}")
    revision, rows = hub_stream(found["name"], found["part"], found["split"] or "train", name, _WAYS)
    return TextSource(name, "hub", lambda: _texts_of_rows(enumerate(rows(), 1), name, name, columns), lambda: revision)


def _builtin(name: str) -> TextSource:
    """The documents of the built-in corpus, each once."""
    data = read_source(name)
    texts = tuple(dict.fromkeys(document.text for document in data.documents))

    def open_texts() -> Iterator[Text | DataError]:
        return (Text(f"{name} {number}", text, name) for number, text in enumerate(texts, 1))

    return TextSource(name, "builtin", open_texts, lambda: {"sha256": data.sha256})


def _files_in(folder: Path) -> list[Path]:
    """The files in a folder and in those in it that may hold texts, by name. Hidden ones are left out."""
    found = []
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(one for one in folders if not one.startswith("."))
        for file in sorted(files):
            path = Path(parent, file)
            named = not file.startswith((".", "~$")) and inner_name(path).suffix.lower() in _DOCUMENTS | ROWS
            if named and path.is_file():  # and no link that leads nowhere
                found.append(path)
    return found


def _identity(files: Sequence[Path]) -> dict[str, Any]:
    """One hash over the bytes of all files, in order."""
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return {"sha256": digest.hexdigest(), "files": len(files)}


def _texts_of_files(files: Sequence[Path], source: str, columns: Mapping[str, str]) -> Iterator[Text | DataError]:
    for path in files:
        if inner_name(path).suffix.lower() in ROWS:
            yield from _texts_of_rows(rows_of_file(path), str(path), source, columns)
            continue
        try:
            yield Text(str(path), _document(path), source)
        except DataError as error:
            yield error


def _texts_of_rows(
    rows: Iterator[tuple[int, Mapping[str, Any] | DataError]], where: str, source: str, columns: Mapping[str, str]
) -> Iterator[Text | DataError]:
    for number, row in rows:
        if isinstance(row, DataError):
            yield row
            continue
        try:
            text = Text(f"{where}, row {number}", text_of_row(row, columns["text"], f"{where}: row {number}"), source)
            if "weight" in columns:
                text = replace(text, weight=weight_of_row(row, columns["weight"], f"{where}: row {number}"))
            yield text
        except DataError as error:
            yield error


def _document(path: Path) -> str:
    """The text of a document, which may be compressed if it is plain text.

    Raises:
        DataError: see `read_document`. Or it is compressed and not plain text.
    """
    if path.suffix.lower() not in COMPRESSED:
        return read_document(path).text
    if inner_name(path).suffix.lower() not in _PLAIN:
        raise DataError(f"{path} is compressed, and only text and JSON may be", "Decompress it first.")
    with open_bytes(path) as stream:
        raw = stream.read(MAX_BYTES + 1)
    if len(raw) > MAX_BYTES:
        raise DataError(f"{path} holds more than {MAX_BYTES >> 20} MiB", "Split it.")
    try:
        text, _ = decode(raw)
    except NotTextError as error:
        raise DataError(f"{path} holds no text: {error}", "Take it out.") from error
    return text.replace("\r\n", "\n").replace("\r", "\n")
