"""Values of JSON rows and of Arrow tables: reading JSON, absent values, numbers and ids."""

from __future__ import annotations

import json
import math
import re
from typing import Any, TypeGuard

from palmette.data.records import check_unicode
from palmette.data.text import short
from palmette.errors import DataError

_TURN = re.compile(r"[1-9][0-9]{0,5}")


class DuplicateKeyError(ValueError):
    """An object of a JSON text has the same key twice.

    Args:
        key: the key.
    """

    def __init__(self, key: str) -> None:
        super().__init__(f"the key {key!r} stands twice in one object")
        self.key = key


def parse_json(text: str) -> Any:
    """The value that a JSON text holds.

    Plain `json.loads` keeps the last of several values under one key and silently drops the others.

    Raises:
        DuplicateKeyError: an object has the same key twice.
        ValueError, RecursionError: it is not JSON. `json_problem` puts the reason in a few words.
    """
    return json.loads(text, object_pairs_hook=_unique)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        keys = [key for key, _ in pairs]
        raise DuplicateKeyError(next(key for index, key in enumerate(keys) if key in keys[:index]))
    return values


def json_problem(error: Exception) -> str:
    """What the JSON parser objects to, in a few words."""
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} at line {error.lineno}, column {error.colno}"
    return "nested too deeply" if isinstance(error, RecursionError) else str(error).partition(";")[0]


def without_nulls(value: Any) -> Any:
    """A value in which no object has a null, at any depth. An item of a list may be null.

    A table has all of its columns in every row, and null where a row has no value. So a null and a missing key mean
    the same: the row does not say.

    >>> without_nulls({"id": None, "answers": [{"text": "1931", "learn": None}, None]})
    {'answers': [{'text': '1931'}, None]}
    """
    if isinstance(value, dict):
        return {key: without_nulls(item) for key, item in value.items() if item is not None}
    return [without_nulls(item) for item in value] if isinstance(value, list) else value


def is_number(value: object) -> TypeGuard[int | float]:
    """Whether a value is a finite number that a float can hold. JSON allows integers that are larger.

    >>> [is_number(value) for value in (3, 0.5, True, float("nan"), 10**400)]
    [True, True, False, False, False]
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def read_id(value: object, where: str) -> str | int:
    """The id of a row, if it is text or a whole number.

    An id of another type is refused rather than replaced, since predictions under another id would match nothing.

    Args:
        value: what the row has under "id".
        where: how messages name the row.

    Raises:
        DataError: it is anything else, or text that cannot be encoded.
    """
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise DataError(
            f"{where} has the id {short(value)}, which is neither text nor a whole number",
            "Make it text or a whole number.",
        )
    if isinstance(value, str):
        check_unicode(value, f"{where}, in its id,")
    return value


def as_id(value: Any) -> str:
    """The id of a question, or a turn, as text. A column of whole numbers with an empty cell holds fractions.

    >>> as_id(81), as_id(81.0), as_id("81"), as_id(8.5)
    ('81', '81', '81', '8.5')
    """
    return str(int(value) if isinstance(value, float) and value.is_integer() else value)


def read_turn(value: object, where: str) -> int:
    """The number of a turn, counted from 1, also one that a table holds as text or as a fraction.

    Args:
        value: what the row has under "turn".
        where: how messages name the row.

    Raises:
        DataError: it is anything else.
    """
    text = as_id(value)
    if not _TURN.fullmatch(text):
        raise DataError(f"{where}: 'turn' is {short(value)}, not a number from 1", "Correct it.")
    return int(text)
