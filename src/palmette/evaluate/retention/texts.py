"""The general texts and chat prompts that measure forgetting. They were written for this project, under its licence."""

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


@dataclass(frozen=True, slots=True)
class Passage:
    """A short text of one register ("narrative", "recipe", "code with comments", ...)."""

    id: str
    register: str
    text: str


@dataclass(frozen=True, slots=True)
class ChatPrompt:
    """What a user says in a single turn, and of which kind it is ("explain", "translate", "code", ...)."""

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
    """So many of the items, at even distances, so that each kind has its share where kinds stand together; all if None.

    >>> spread("aabbcc", 3), spread("ab", 5)
    (('a', 'b', 'c'), ('a', 'b'))
    """
    if count is None or count >= len(items):
        return tuple(items)
    return tuple(items[index * len(items) // count] for index in range(count))


def hashes() -> dict[str, str]:
    """SHA-256 of each file, by name: figures can be compared only where these are the same."""
    return {name: hashlib.sha256(_read(name)).hexdigest() for name in (PASSAGES, PROMPTS)}


def _read(name: str) -> Any:
    return resources.files("palmette.evaluate.retention").joinpath("data", name).read_bytes()
