"""The texts and prompts on which models are compared. They were written for this project and are under its licence."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from palmette.data.rows import parse_json_lines
from palmette.documents import read_document
from palmette.errors import DataError, reason_of

_KEYS = {"id", "kind", "raw", "chat"}
MOST_CHARACTERS = 2000  # of an own text: the probabilities of every token at each place are kept
_WAY_OUT = 'Write a line such as {"raw": "The capital of Norway is", "chat": "What is the capital of Norway?"}.'


@dataclass(frozen=True, slots=True)
class SharedText:
    """A text that every model reads."""

    id: str
    text: str


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt that every model goes on with.

    Attributes:
        id: its name.
        kind: what it is, in words.
        raw: the text that is continued as it stands. None if it is only put as a chat.
        chat: what a user says, which is put through the chat template. None if it is only continued.
    """

    id: str
    kind: str
    raw: str | None
    chat: str | None


@functools.cache
def shared_texts() -> tuple[SharedText, ...]:
    """English, German and Russian prose with one content, code, and numbers."""
    return tuple(SharedText(**row) for row in _packaged()["texts"])


def own_texts(paths: Sequence[Path]) -> tuple[SharedText, ...]:
    """The first 2,000 characters of files that people have, under the names of the files.

    Raises:
        DataError: a file cannot be read, or two have one name.
    """
    found: dict[str, SharedText] = {}
    for path in paths:
        if path.name in found or path.name in (text.id for text in shared_texts()):
            raise DataError(f"two texts have the name {path.name!r}", "Give each file a name of its own.")
        found[path.name] = SharedText(path.name, read_document(path).text[:MOST_CHARACTERS])
    return tuple(found.values())


@functools.cache
def default_prompts() -> tuple[Prompt, ...]:
    """An equation in three forms, and a few others."""
    return tuple(Prompt(**row) for row in _packaged()["prompts"])


def read_prompts(path: Path) -> tuple[Prompt, ...]:
    """Prompts from a file of JSON Lines: `raw`, `chat` or both, and `id` and `kind` if they are to be named.

    Raises:
        DataError: the file cannot be read, or a line is no prompt. The message names the line.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read the prompts {path}: {reason_of(error)}", "Check the path.") from error
    prompts: dict[str, Prompt] = {}
    for row in parse_json_lines(text, str(path), _WAY_OUT):
        if isinstance(row, DataError):
            raise row
        prompt = _prompt(f"{path}: {row['id']}", row)
        if prompt.id in prompts:
            raise DataError(f"{path}: two prompts have the id {prompt.id!r}", "Give each an id of its own.")
        prompts[prompt.id] = prompt
    if not prompts:
        raise DataError(f"{path} holds no prompt", _WAY_OUT)
    return tuple(prompts.values())


def _prompt(where: str, row: Mapping[str, Any]) -> Prompt:
    wrong = next((key for key, value in row.items() if key not in _KEYS or not isinstance(value, str)), None)
    if wrong is not None:
        raise DataError(f"{where} has {wrong!r}, which is no text of a prompt", _WAY_OUT)
    texts = [row.get("raw"), row.get("chat")]
    if not any(texts) or any(text is not None and not text.strip() for text in texts):
        raise DataError(f"{where} holds no text to go on with", _WAY_OUT)
    return Prompt(row["id"], row.get("kind", ""), *texts)


def _packaged() -> dict[str, Any]:
    data: dict[str, Any] = json.loads(
        resources.files("palmette.studies.models").joinpath("data", "texts.json").read_text(encoding="utf-8")
    )
    return data
