"""The general texts and chat prompts that measure forgetting.

They were written for this project and are under its licence.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any, TypeVar

Item = TypeVar("Item")
PASSAGES, PROMPTS = "passages.json", "prompts.json"
GENERAL = "builtin:general"  # the passages as a source of texts


@dataclass(frozen=True, slots=True)
class Passage:
    """A short text of one register ("narrative", "recipe", "code with comments", ...)."""

    id: str
    register: str
    text: str


@dataclass(frozen=True, slots=True)
class ChatPrompt:
    """What a user says in a single turn, and its kind ("explain", "translate", "code", ...)."""

    id: str
    kind: str
    text: str


@functools.cache
def passages() -> tuple[Passage, ...]:
    """The general texts: twelve registers, 150 to 250 words each."""
    return tuple(Passage(**row) for row in json.loads(_read(PASSAGES))["passages"])


@functools.cache
def chat_prompts() -> tuple[ChatPrompt, ...]:
    """The chat prompts: short requests of many kinds, none of them about a given document."""
    return tuple(ChatPrompt(**row) for row in json.loads(_read(PROMPTS))["prompts"])


def spread(items: Sequence[Item], count: int | None) -> tuple[Item, ...]:
    """Choose `count` items at even distances, or all of them if it is None.

    If items of a kind stand together, each kind gets its share.

    >>> spread("aabbcc", 3), spread("ab", 5)
    (('a', 'b', 'c'), ('a', 'b'))
    """
    if count is None or count >= len(items):
        return tuple(items)
    return tuple(items[index * len(items) // count] for index in range(count))


def hashes() -> dict[str, str]:
    """The SHA-256 of each file, by name. Figures can be compared only if these are the same."""
    return {name: hashlib.sha256(_read(name)).hexdigest() for name in (PASSAGES, PROMPTS)}


def _read(name: str) -> Any:
    return resources.files("palmette.data").joinpath("general_texts", name).read_bytes()
