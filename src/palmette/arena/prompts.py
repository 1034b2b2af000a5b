"""Prompts of an arena: those of a file, or our own sixty, half of them in English and half in Russian.

A row is one prompt. Its columns:

- `prompt` (or `question`, `instruction`): the user's message. Or `turns`: a list of messages, one after the other.
- `question_id` (or `id`): by default the number of the line or row.
- `language`, `category`: for rankings of their own.
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
from palmette.data.values import as_id, without_nulls
from palmette.errors import DataError

BUILTIN = "builtin"
_COLUMNS = "Each row needs 'prompt' (or 'question', 'instruction'), a text, or 'turns', a list of texts."
_TEXTS = ("prompt", "question", "instruction")
_IDS = ("question_id", "id")


@dataclass(frozen=True, slots=True)
class Prompt:
    """What models are asked.

    Attributes:
        id: its id.
        turns: the user's messages, one after the other.
        language, category: "" if they are not known.
    """

    id: str
    turns: tuple[str, ...]
    language: str = ""
    category: str = ""

    def record(self) -> dict[str, Any]:
        """Its row in a file of prompts."""
        return {**asdict(self), "turns": list(self.turns)}


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
    return Prompt(as_id(name), turns, str(row.get("language", "")), str(row.get("category", "")))
