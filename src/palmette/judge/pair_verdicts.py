"""Verdicts on pairs of answers, of judges and of people, read from files.

A row is one verdict. Its columns have FastChat's names:

- `question_id` (or `question`, `prompt`): what was asked. `turn`: which turn of it was judged, 1 if it is missing.
- `model_a` and `model_b` (or `model_1` and `model_2`): the two models. The first one was shown first.
- `winner`: as in a file of votes, or `tie (inconsistent)` where two orders of the answers led to different verdicts,
  or `unread` (FastChat: `error`).
- `g1_winner` and `g2_winner` instead of `winner`: the verdicts in both orders, each by the model's column. `share_a`
  beside them: how far the first model is preferred by the odds of both orders, 0 to 1. Its side is then the verdict.
- `judge`: who judged. `answer_a` and `answer_b`, or `conversation_a` and `conversation_b`: for figures about length.

Other columns are ignored. A null means the same as a missing key.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from palmette.arena.style import Style
from palmette.arena.votes import read_styles
from palmette.data.source import raw_rows
from palmette.data.text import short
from palmette.data.values import as_id, without_nulls
from palmette.data.votes import read_model, read_outcome
from palmette.errors import DataError
from palmette.judge.orders import BothOrders, Swap, side_of
from palmette.judge.text import Choice

_COLUMNS = "Each row needs 'question_id', 'model_a', 'model_b', and 'winner' or both 'g1_winner' and 'g2_winner'."
_QUESTION = ("question_id", "question", "prompt")
_SIDES = (("model_a", "model_b"), ("model_1", "model_2"))
_ORDERS = ("g1_winner", "g2_winner")
_INCONSISTENT = ("tie (inconsistent)", "inconsistent")
_UNREAD = ("unread", "error")
_CHOICES: dict[str, Choice] = {"left": "A", "right": "B", "tie": "tie", "both bad": "tie"}


@dataclass(frozen=True, slots=True, order=True)
class ComparedTurn:
    """What a verdict is about.

    Attributes:
        question: the id of the question.
        turn: which turn of it.
        models: both models, in the order of their names.
    """

    question: str
    turn: str
    models: tuple[str, str]


@dataclass(frozen=True, slots=True)
class PairVerdict:
    """One verdict. "A" stands for the first of both models by name, whatever the order in which they were shown.

    Attributes:
        compared: what it is about.
        choice: the verdict. None if it was unread.
        judge: who judged. "" if that is not known.
        orders: the verdicts in both orders, "A" being the model that the row names first. None if they are not known.
        inconsistent: whether both orders led to different verdicts. None if that is not known.
        lengths: the characters of both answers, in the order of the names. None if they are not known.
    """

    compared: ComparedTurn
    choice: Choice | None
    judge: str = ""
    orders: BothOrders | None = None
    inconsistent: bool | None = None
    lengths: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class PairVerdicts:
    """The verdicts of one source, with the hash of its bytes."""

    source: str
    sha256: str
    verdicts: tuple[PairVerdict, ...]


def read_pair_verdicts(source: str, swap: Swap = "mean") -> PairVerdicts:
    """Read verdicts on pairs.

    Args:
        source: a .jsonl file, a table (.csv, .tsv, .xlsx, .parquet), or a hub data set.
        swap: how verdicts in both orders become one.

    Raises:
        DataError: there is no such source, or a row is no verdict. It names the row and the value.
    """
    digest, rows = raw_rows(source, default_split="train", columns=_COLUMNS, example="lmsys/mt_bench_human_judgments")
    found = []
    for number, row in enumerate(rows, start=1):
        if isinstance(row, DataError):
            raise row
        found.append(_verdict(without_nulls(row), f"{source}, row {number}", swap))
    if not found:
        raise DataError(f"{source} holds no verdicts", _COLUMNS)
    return PairVerdicts(source, digest, tuple(found))


def _verdict(row: Mapping[str, Any], where: str, swap: Swap) -> PairVerdict:
    sides = next((pair for pair in _SIDES if all(key in row for key in pair)), None)
    question = next((row[key] for key in _QUESTION if key in row), None)
    if sides is None or question is None:
        raise DataError(f"{where} has no {'two models' if sides is None else 'question'}", _COLUMNS)
    one, other = (read_model(row[key], f"{where}: {key!r}") for key in sides)
    if one == other:
        raise DataError(f"{where} compares {one!r} with itself", "A verdict is about two models. Remove the row.")
    exchanged = one > other
    choice, orders, inconsistent = _winner(row, sides, (one, other), where, swap)
    styles = read_styles(row, where)
    return PairVerdict(
        ComparedTurn(as_id(question), as_id(row.get("turn", 1)), (other, one) if exchanged else (one, other)),
        _exchange(choice) if exchanged else choice,
        str(row.get("judge", "")),
        orders,
        inconsistent,
        _lengths(styles, exchanged=exchanged),
    )


def _winner(
    row: Mapping[str, Any], sides: tuple[str, str], models: tuple[str, str], where: str, swap: Swap
) -> tuple[Choice | None, BothOrders | None, bool | None]:
    """The verdict on a row's models in their order, the verdicts in both orders, and whether these differ."""
    if all(key in row for key in _ORDERS):
        first, second = (_choice(row[key], sides, models, f"{where}: {key!r}") for key in _ORDERS)
        both = BothOrders(first, second)
        known = first is not None and second is not None
        choice = both.choice(swap)
        if swap == "mean" and "share_a" in row:
            choice = side_of(_share(row["share_a"], where))
        return choice, both, both.inconsistent if known else None
    if "winner" not in row:
        raise DataError(f"{where} has no 'winner'", _COLUMNS)
    if str(row["winner"]).strip().lower() in _INCONSISTENT:
        return "tie", None, True
    return _choice(row["winner"], sides, models, where), None, None


def _share(value: Any, where: str) -> float:
    try:
        share = float(value)
    except (TypeError, ValueError, OverflowError):
        share = -1.0
    if not 0.0 <= share <= 1.0:
        raise DataError(f"{where}: 'share_a' is {short(value)}, not a number from 0 to 1", "Correct it, or remove it.")
    return share


def _choice(value: Any, sides: tuple[str, str], models: tuple[str, str], where: str) -> Choice | None:
    text = str(value).strip().lower()
    if text in _UNREAD:
        return None
    if text in sides:
        return "A" if text == sides[0] else "B"
    try:
        return _CHOICES[read_outcome(value, *models, where)]
    except DataError as error:
        raise DataError(
            f"{where}: the winner is {short(value)}",
            "It is model_a, model_b, the name of one of both models, tie, tie (inconsistent), or unread.",
        ) from error


def _exchange(choice: Choice | None) -> Choice | None:
    return BothOrders.as_shown(None, choice).second


def _lengths(styles: tuple[Style, Style] | None, *, exchanged: bool) -> tuple[int, int] | None:
    if styles is None:
        return None
    one, other = (style.length for style in styles)
    return (other, one) if exchanged else (one, other)
