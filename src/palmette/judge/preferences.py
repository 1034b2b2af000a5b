"""Preferences of a judge for a model's outputs over those of a reference, as AlpacaEval writes them.

A row is one instruction, one model and one preference. Its columns have AlpacaEval's names:

- `preference`: from 1 (the reference's output is better) to 2 (the model's is). NaN, null or a missing value is unread.
- `generator_2` (or `model`): the model. `generator_1` (or `reference`): the reference.
- `instruction` (or `index`): what was asked.
- `output_1` and `output_2`, or `len_output_1` and `len_output_2` in characters: for length control.

Other columns are ignored. A .json file holds a list of such rows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from palmette.data.text import short
from palmette.data.values import as_id, is_number
from palmette.errors import DataError
from palmette.judge.rows import read_rows

_COLUMNS = "Each row needs 'preference' (1 to 2), 'generator_2' or 'model', and 'instruction' or 'index'."
_MODEL, _REFERENCE, _ASKED = ("generator_2", "model"), ("generator_1", "reference"), ("instruction", "index")


@dataclass(frozen=True, slots=True)
class Preference:
    """One preference.

    Attributes:
        model: the model.
        reference: the model that it is compared with. "" if that is not known.
        item: what was asked.
        share: how far the model's output is preferred, 0 to 1. None if the verdict was unread.
        lengths: the characters of the reference's output and of the model's. None if they are not known.
    """

    model: str
    reference: str
    item: str
    share: float | None
    lengths: tuple[int, int] | None = None


def read_preferences(sources: Sequence[str]) -> list[Preference]:
    """Read preferences.

    Args:
        sources: files of AlpacaEval (annotations.json), .jsonl files, tables, or hub data sets.

    Raises:
        DataError: there is no such source, a row is no preference, or a model has two on one instruction.
    """
    found: list[Preference] = []
    seen: dict[tuple[str, str], str] = {}
    for source in sources:
        for number, row in enumerate(read_rows(source, _COLUMNS), start=1):
            where = f"{source}, row {number}"
            one = _preference(row, where)
            key = (one.model, one.item)
            if key in seen:
                raise DataError(
                    f"{where}: {one.model} has two preferences on {short(one.item)}, the other in {seen[key]}",
                    "Remove one of them.",
                )
            seen[key] = where
            found.append(one)
    if not found:
        raise DataError(f"{', '.join(sources)} holds no preferences", _COLUMNS)
    references = sorted({one.reference for one in found})
    if len(references) > 1:
        raise DataError(
            f"the preferences have several references: {', '.join(references)}",
            "Win rates against one can be compared.",
        )
    return found


def _preference(row: Mapping[str, Any], where: str) -> Preference:
    model, item = (next((row[key] for key in keys if row.get(key) is not None), None) for keys in (_MODEL, _ASKED))
    if not isinstance(model, str) or not model.strip() or item is None:
        raise DataError(f"{where} has no {'instruction' if item is None else 'model'}", _COLUMNS)
    reference = next((str(row[key]) for key in _REFERENCE if row.get(key) is not None), "")
    return Preference(model.strip(), reference, as_id(item), _share(row, where), _lengths(row, where))


def _share(row: Mapping[str, Any], where: str) -> float | None:
    value = row.get("preference")
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            raise _no_preference(value, where) from None
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    # AlpacaEval also writes 0, or 1.5, for a draw.
    if is_number(value) and value == 0:
        return 0.5
    if not is_number(value) or not 1.0 <= value <= 2.0:
        raise _no_preference(value, where)
    return float(value) - 1.0


def _no_preference(value: Any, where: str) -> DataError:
    return DataError(f"{where}: 'preference' is {short(value)}, not a number from 1 to 2", "Correct it, or remove it.")


def _lengths(row: Mapping[str, Any], where: str) -> tuple[int, int] | None:
    lengths = []
    for side in (1, 2):
        text, length = row.get(f"output_{side}"), row.get(f"len_output_{side}")
        if isinstance(text, str):
            lengths.append(len(text))
        elif length is not None:
            lengths.append(_characters(length, f"{where}: 'len_output_{side}'"))
    return (lengths[0], lengths[1]) if len(lengths) == 2 else None


def _characters(value: Any, where: str) -> int:
    try:
        number = int(value)
    except (TypeError, ValueError, OverflowError):
        number = -1
    if number < 0:
        raise DataError(f"{where} is {short(value)}, not a number of characters", "Correct it.")
    return number
