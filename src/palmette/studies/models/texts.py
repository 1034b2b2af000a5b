"""The texts and prompts on which models are compared. They were written for this project and are under its licence."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from palmette.errors import DataError, reason_of

_KEYS = {"id", "kind", "raw", "chat"}


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
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read the prompts {path}: {reason_of(error)}", "Check the path.") from error
    prompts = [_prompt(f"{path}, line {number}", line, number) for number, line in enumerate(lines, 1) if line.strip()]
    if not prompts:
        raise DataError(f"{path} holds no prompt", 'Write a line such as {"raw": "The capital of Norway is"}.')
    return tuple(prompts)


def _prompt(where: str, line: str, number: int) -> Prompt:
    way_out = 'Write a line such as {"raw": "The capital of Norway is", "chat": "What is the capital of Norway?"}.'
    try:
        row = json.loads(line)
    except ValueError as error:
        raise DataError(f"{where} is no JSON", way_out) from error
    given: Mapping[str, Any] = row if isinstance(row, dict) else {}
    texts: Sequence[Any] = [given.get("raw"), given.get("chat")]
    if not isinstance(row, dict) or not any(isinstance(text, str) and text.strip() for text in texts):
        raise DataError(f"{where} holds no text to go on with", way_out)
    wrong = next((key for key, value in given.items() if key not in _KEYS or not isinstance(value, str | None)), None)
    if wrong is not None:
        raise DataError(f"{where} has {wrong!r}, which is no text of a prompt", way_out)
    return Prompt(given.get("id") or f"prompt {number}", given.get("kind") or "", *texts)


def _packaged() -> dict[str, Any]:
    data: dict[str, Any] = json.loads(
        resources.files("palmette.studies.models").joinpath("data", "texts.json").read_text(encoding="utf-8")
    )
    return data
