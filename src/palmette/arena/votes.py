"""Votes on pairs of answers, read from the files that people have.

A row is one vote. Its columns have FastChat's names, or those of crowd-sourcing files:

- `model_a` and `model_b`, or `left` and `right`: the two models. The first one stood on the left.
- `winner`: `model_a`, `model_b`, `left`, `right`, or the name of one of the two; `tie`; or `tie (bothbad)`, `bothbad`
  or `both_bad`.
- `judge`, `voter` or `worker`: who voted. Without it every vote counts as that of somebody else.
- `prompt`, `question_id` or `question`: what was asked. `language`, `category`: for tables of their own.
- `tstamp` or `time`: when, in seconds. `anony` false: the names were shown before the vote, so it is left out.
- `weight`: how much the vote counts. `probability`: that with which its pair was drawn, whose inverse is the weight.
- `conversation_a` and `conversation_b` (lists of messages), or `answer_a` and `answer_b`: for style control.

Other columns are ignored. A null means the same as a missing key.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from palmette.arena.source import open_votes
from palmette.arena.style import Style, style_of
from palmette.data.kinds import of_kind
from palmette.data.source import raw_rows
from palmette.data.text import short
from palmette.data.values import is_number, without_nulls
from palmette.data.votes import VOTE_COLUMNS, VOTER, Outcome, names_were_shown, read_models, read_outcome
from palmette.errors import DataError

_PROMPT = ("prompt", "question_id", "question")


@dataclass(frozen=True, slots=True)
class Vote:
    """One person's vote on two answers to one prompt.

    Attributes:
        id: its id, or "row-N".
        left, right: the models, as the answers stood before the voter.
        outcome: which answer is better, if one is.
        voter: who voted. "" if that is not known.
        prompt: what was asked, or its id. "" if that is not known.
        language, category: "" if they are not known.
        weight: how much the vote counts, above 0.
        time: when it was given, in seconds. None if that is not known.
        styles: the styles of both answers. None if they are not known, or were not asked for.
    """

    id: str
    left: str
    right: str
    outcome: Outcome
    voter: str = ""
    prompt: str = ""
    language: str = ""
    category: str = ""
    weight: float = 1.0
    time: float | None = None
    styles: tuple[Style, Style] | None = None


@dataclass(frozen=True, slots=True)
class VoteSet:
    """The votes of one source.

    Attributes:
        source: its name.
        sha256: the hash of its bytes.
        votes: the votes, in the order of the source.
        num_named: votes that were left out because the models' names were shown first.
    """

    source: str
    sha256: str
    votes: tuple[Vote, ...]
    num_named: int = 0


def read_votes(source: str, *, style: bool = False, store: str | None = None) -> VoteSet:
    """Read votes.

    Args:
        source: the folder of an arena, a .jsonl file, a table (.csv, .tsv, .xlsx, .parquet), or a hub data set.
        style: whether to read the answers for their style. Else they are not looked at.
        store: where the votes of an arena are kept, if that is not in its folder.

    Raises:
        DataError: there is no such source, a store is given for a file, or a row is no vote. It names the row and the
            value.
    """
    digest, rows = _source_rows(source, store)
    votes, num_named = [], 0
    for number, row in enumerate(rows, start=1):
        if isinstance(row, DataError):
            raise row
        row = without_nulls(row)
        if names_were_shown(row):
            num_named += 1
        else:
            votes.append(_vote(row, f"row-{number}", source, style=style))
    if not votes:
        left_out = f", and {num_named} whose names were shown first" if num_named else ""
        raise DataError(f"{source} holds no votes{left_out}", VOTE_COLUMNS)
    return VoteSet(source, digest, tuple(_scaled(votes)), num_named)


def _source_rows(source: str, store: str | None) -> tuple[str, Iterable[dict[str, Any] | DataError]]:
    """The hash and the rows of a source."""
    opened = open_votes(source, store)
    if opened is not None:
        return opened
    if store is not None:
        raise DataError(f"{source} is not the folder of an arena, and a store is given", "Leave out --store.")
    example = "lmsys/chatbot_arena_conversations"
    digest, rows = raw_rows(source, default_split="train", columns=VOTE_COLUMNS, example=example)
    return digest, of_kind(rows, source, "votes")


def _vote(row: Mapping[str, Any], name: str, source: str, *, style: bool) -> Vote:
    where = f"{source}, {name}"
    left, right = read_models(row, where)
    return Vote(
        str(row.get("id", name)),
        left,
        right,
        read_outcome(row["winner"], left, right, where),
        voter=_first(row, VOTER),
        prompt=_first(row, _PROMPT),
        language=_first(row, ("language",)),
        category=_first(row, ("category", "category_tag")),
        weight=_weight(row, where),
        time=_time(row, where),
        styles=read_styles(row, where) if style else None,
    )


def _first(row: Mapping[str, Any], keys: Iterable[str]) -> str:
    """The first of some columns that a row has, as text."""
    value = next((row[key] for key in keys if key in row), "")
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _weight(row: Mapping[str, Any], where: str) -> float:
    for key, invert in (("weight", False), ("probability", True)):
        if key in row:
            value = row[key]
            number = _number(value)
            if number is None or number <= 0.0 or (invert and number > 1.0):
                kind = "a probability above 0" if invert else "a number above 0"
                raise DataError(f"{where}: {key!r} is {short(value)}, not {kind}", "Correct it, or remove it.")
            return 1.0 / number if invert else number
    return 1.0


def _time(row: Mapping[str, Any], where: str) -> float | None:
    for key in ("tstamp", "time"):
        if key in row:
            number = _number(row[key])
            if number is None:
                raise DataError(
                    f"{where}: {key!r} is {short(row[key])}, not a number of seconds", "Correct it, or remove it."
                )
            return number
    return None


def _number(value: Any) -> float | None:
    """A finite number, also one that a table holds as text. None for anything else."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    return float(value) if is_number(value) else None


def read_styles(row: Mapping[str, Any], where: str) -> tuple[Style, Style] | None:
    """The styles of both answers of a row. None where the row does not hold them."""
    texts = []
    for side in ("a", "b"):
        if f"answer_{side}" in row:
            texts.append(str(row[f"answer_{side}"]))
        elif f"conversation_{side}" in row:
            texts.append(_replies(row[f"conversation_{side}"], f"{where}: 'conversation_{side}'"))
    return (style_of(texts[0]), style_of(texts[1])) if len(texts) == 2 else None


def _replies(messages: Any, where: str) -> str:
    """The assistant's turns of a conversation, one after the other."""
    if not isinstance(messages, list) or not all(isinstance(one, dict) for one in messages):
        raise DataError(f"{where} is {short(messages)}, not a list of messages", "Correct it, or remove it.")
    return "\n\n".join(str(one.get("content", "")) for one in messages if one.get("role") == "assistant")


def _scaled(votes: Sequence[Vote]) -> Sequence[Vote]:
    """The votes with weights of mean 1, so that intervals mean what they do without weights."""
    mean = sum(vote.weight for vote in votes) / len(votes)
    if mean == 1.0:
        return votes
    return [replace(vote, weight=vote.weight / mean) for vote in votes]
