"""Prompts of an arena: those of a file, or our own sixty, half of them in English and half in Russian.

A row is one prompt. Its columns:

- `prompt` (or `question`, `instruction`): the user's message. Or `turns`: a list of messages, one after the other.
- `question_id` (or `id`): by default the number of the line or row.
- `language`, `category`: for rankings of their own.
- `context` (or `document`): the text in which the answer stands, word for word. There is one message then, a question.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from importlib import resources
from typing import Any

from palmette.data.records import check_unicode
from palmette.data.source import raw_rows
from palmette.data.text import short
from palmette.data.values import as_id, is_number, read_id, without_nulls
from palmette.errors import DataError

BUILTIN = "builtin"
_COLUMNS = "Each row needs 'prompt' (or 'question', 'instruction'), a text, or 'turns', a list of texts."
_TEXTS = ("prompt", "question", "instruction")
_IDS = ("question_id", "id")
_DOCUMENTS = ("context", "document")


@dataclass(frozen=True, slots=True)
class Prompt:
    """What models are asked.

    Attributes:
        id: its id.
        turns: the user's messages, one after the other.
        language, category: "" if they are not known.
        document: the text from which the answer is to be copied. "" if it is free.
    """

    id: str
    turns: tuple[str, ...]
    language: str = ""
    category: str = ""
    document: str = ""

    @property
    def messages(self) -> tuple[str, ...]:
        """The user's messages, with the document before the question."""
        return (f"{self.document}\n\n{self.turns[0]}",) if self.document else self.turns

    def record(self) -> dict[str, Any]:
        """Its row in a file of prompts."""
        row = {**asdict(self), "turns": list(self.turns)}
        return row if self.document else {key: value for key, value in row.items() if key != "document"}


def read_prompts(source: str) -> list[Prompt]:
    """Read prompts.

    Args:
        source: "builtin", a .jsonl or .json file, a table (.csv, .tsv, .xlsx, .parquet), or a hub data set.

    Raises:
        DataError: there is no such source, a row is no prompt, or two have one id. It names the row.
    """
    rows: Iterable[Any]
    if source == BUILTIN:
        text = resources.files("palmette.arena").joinpath("prompts.jsonl").read_text(encoding="utf-8")
        rows = [json.loads(line) for line in text.splitlines()]
    else:
        rows = raw_rows(source, default_split="train", columns=_COLUMNS, example="HuggingFaceH4/mt_bench_prompts")[1]
    found: dict[str, Prompt] = {}
    for number, row in enumerate(rows, start=1):
        if isinstance(row, DataError):
            raise row
        prompt = _prompt(without_nulls(row), number, f"{source}, row {number}")
        if prompt.id in found:
            raise DataError(f"{source} has two prompts with the id {short(prompt.id)}", "Give each an id of its own.")
        found[prompt.id] = prompt
    if not found:
        raise DataError(f"{source} holds no prompts", _COLUMNS)
    return list(found.values())


def _prompt(row: Mapping[str, Any], number: int, where: str) -> Prompt:
    key = next((one for one in ("turns", *_TEXTS) if one in row), None)
    value = row.get(key or "")
    turns = (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list) else ()
    if not turns or not all(isinstance(turn, str) and turn.strip() for turn in turns):
        raise DataError(f"{where}: {key or 'prompt'!r} is {short(value)}, not a text", _COLUMNS)
    for turn in turns:
        check_unicode(turn, f"{where}: {key!r}")
    name = next((row[one] for one in _IDS if one in row), number)
    language, category = (_label(row, key, where) for key in ("language", "category"))
    return Prompt(_id(name, where), turns, language, category, _document(row, turns, where))


def _id(value: Any, where: str) -> str:
    """An id. Tables hold whole numbers as fractions."""
    return as_id(value if isinstance(value, float) and is_number(value) else read_id(value, where))


def _label(row: Mapping[str, Any], key: str, where: str) -> str:
    value = row.get(key, "")
    if not isinstance(value, str) and not is_number(value):
        raise DataError(f"{where}: {key!r} is {short(value)}, not a text", "Correct it, or remove it.")
    check_unicode(str(value), f"{where}: {key!r}")
    return as_id(value)


def _document(row: Mapping[str, Any], turns: tuple[str, ...], where: str) -> str:
    key = next((one for one in _DOCUMENTS if one in row), None)
    if key is None:
        return ""
    value = row[key]
    if not isinstance(value, str) or not value.strip():
        raise DataError(f"{where}: {key!r} is {short(value)}, not a text", "Give the text of the document.")
    check_unicode(value, f"{where}: {key!r}")
    if len(turns) > 1:
        raise DataError(f"{where} has a document and {len(turns)} messages", "Ask one question in each row.")
    return value
