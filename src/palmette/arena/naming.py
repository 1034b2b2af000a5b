"""Answers that say which model wrote them, so that a vote on them would not be blind.

An answer is flagged if it holds a name of its own model, or of a widely known model or maker: small models often claim
to be one of those. Words that stand in the prompt too are no sign.

Not covered: a style, a language or a habit by which somebody recognises a model.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

# Names that mean nothing else. Claude, Gemini or Falcon are also a person, a sign and a bird, so they are left out
# where nothing says that somebody speaks of itself.
_KNOWN = (
    "chatgpt",
    "gpt-?[2-5]",
    "openai",
    "anthropic",
    "hugging ?face",
    "deepseek",
    "smollm",
    "qwen",
    "alibaba cloud",
    "mistral ai",
    "mixtral",
    "vicuna-?\\d+b",
    "yandexgpt",
    "gigachat",
    "яндекс ?gpt",
    "гигачат",
    "openassistant",
)
_SPEAKERS = ("claude", "gemini", "falcon", "llama", "mistral", "gemma", "phi", "bard", "alpaca", "vicuna", "алиса")
_SPEAKING = r"(?:i am|i['\u2019]m|my name is|called|known as|я|меня зовут)\W{1,3}(?:\w+\W{1,3}){0,3}?"
_CLAIMS = re.compile(rf"\b(?:{'|'.join(_KNOWN)})|\b{_SPEAKING}(?:{'|'.join(_SPEAKERS)})\b", re.IGNORECASE | re.UNICODE)
# Parts of names that say nothing of a model.
_COMMON = frozenset(
    ("base", "chat", "instruct", "model", "final", "best", "last", "small", "large", "mini", "tiny", "test", "adapter")
)
_SHORTEST = 4  # letters of a part of a name that is looked for


def names_of(model: str, base: str = "") -> tuple[str, ...]:
    """What a model may call itself: the last part of its name, and of that of its base model, and their first words.

    >>> names_of("HuggingFaceTB/SmolLM2-135M-Instruct")
    ('smollm2-135m-instruct', 'smollm')
    >>> names_of("runs/a", "Qwen/Qwen2.5-0.5B")
    ('qwen2.5-0.5b', 'qwen')
    """
    return tuple(dict.fromkeys(name for one in (model, base) for name in _names(one)))


def _names(model: str) -> Iterator[str]:
    whole = re.split(r"[/\\]", model.rstrip("/\\"))[-1].lower()
    if len(whole) >= _SHORTEST and whole not in _COMMON:
        yield whole
    # "smollm" of "smollm2-135m-instruct", and "sundew" of "sundew-chat".
    first = re.match(r"([^\W\d_]+)(?:\d|$|[-_](?=(\w+)$))", whole)
    if first and (first[2] is None or first[2] in _COMMON) and len(first[1]) >= _SHORTEST and first[1] not in _COMMON:
        yield first[1]


def named(replies: Sequence[str], prompt: Sequence[str], names: Iterable[str]) -> str | None:
    """What an answer says that tells which model wrote it. None if nothing does.

    Args:
        replies: the answer, one reply to each message.
        prompt: the messages.
        names: what its model may call itself, as `names_of` gives it.

    >>> named(["I am SmolLM, made by friends."], ["Who are you?"], ["smollm"])
    'SmolLM'
    >>> named(["Ships fly flags."], ["Why?"], ["smollm"])
    """
    asked = " ".join(prompt).lower()
    own = [rf"(?<!\w){_loosely(name)}(?![^\W\d_])" for name in names]
    for pattern in (*(re.compile(one, re.IGNORECASE) for one in own), _CLAIMS):
        for reply in replies:
            for found in pattern.finditer(reply):
                if found[0].lower() not in asked:
                    return found[0]
    return None


def _loosely(name: str) -> str:
    """A pattern for a name in which blanks, hyphens and underscores are alike, or left out."""
    return r"[\s_-]*".join(re.escape(part) for part in re.split(r"[\s_-]+", name) if part)
