"""The languages of pages: the texts of each, and which one a browser gets.

Texts lie in `texts/LANGUAGE/ROOM.json`, and those of all rooms in `common.json` beside them. A text that depends on a
number is an object with a form for each plural category of Unicode's CLDR: "one" and "other" in English, "one", "few",
"many" and "other" in Russian. The page chooses among them with `Intl.PluralRules`, which follows the same rules.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from importlib import resources
from typing import Literal, TypeAlias

Texts: TypeAlias = Mapping[str, str | Mapping[str, str]]
Room = Literal["arena", "review"]

# What each language is called in itself. The first is that of browsers that ask for none of them.
LANGUAGES = {"en": "English", "ru": "Русский"}
COOKIE = "palmette-language"


@functools.cache
def texts_of(room: Room, language: str) -> Texts:
    """The texts of a room in a language, by their keys."""
    folder = resources.files("palmette.web").joinpath("texts", language)
    found: dict[str, str | Mapping[str, str]] = {}
    for name in ("common", room):
        found |= json.loads(folder.joinpath(f"{name}.json").read_text(encoding="utf-8"))
    return found


def choose_language(asked: str | None, kept: str | None, accepted: str | None) -> str:
    """The language of a page.

    Args:
        asked: what the address of the page names, if it does.
        kept: what the browser keeps from the last time that somebody chose.
        accepted: the header Accept-Language (RFC 9110, 12.5.4).

    >>> choose_language(None, None, "de, ru-RU;q=0.8, en;q=0.5")
    'ru'
    >>> choose_language(None, "en", "ru"), choose_language("ru", "en", None), choose_language("xx", None, "ru;q=0, *")
    ('en', 'ru', 'en')
    """
    for name in (asked, kept):
        if name in LANGUAGES:
            return name
    weights: dict[str, float] = {}
    for part in (accepted or "").split(","):
        tag, _, weight = part.partition(";")
        name = tag.strip().lower().partition("-")[0]
        if name in LANGUAGES:
            weights[name] = max(weights.get(name, 0.0), _weight(weight))
    best = max(weights.values(), default=0.0)
    return next((name for name in weights if weights[name] == best > 0.0), next(iter(LANGUAGES)))


def _weight(text: str) -> float:
    """The weight of a language in the header, such as "q=0.8". 1 where there is none, and 0 where it is no number."""
    name, _, value = text.partition("=")
    if name.strip().lower() != "q":
        return 1.0
    try:
        return float(value)
    except ValueError:
        return 0.0
