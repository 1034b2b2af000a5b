"""Pairs of answers to be judged, read from a file.

A row is one pair. Its columns:

- `question_id`: the id of the question. By default the number of the row.
- `question` (or `prompt`): the user's message, or a list of messages.
- `answer_a` and `answer_b`: both answers, or lists of replies, one to each message.
- `model_a` and `model_b`: the two models. By default "a" and "b".
- `reference`: a right answer, or a list of right replies, if there is one.

Or the rows are votes of people, with `conversation_a` and `conversation_b` in FastChat's form (`palmette.data.votes`).
All votes on the same two answers are one pair. Who won is not read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from palmette.data.text import short
from palmette.data.values import as_id, without_nulls
from palmette.data.votes import read_answer, read_models
from palmette.errors import DataError
from palmette.judge.judging import Pair
from palmette.judge.rows import read_rows
from palmette.judge.wording import Case

_COLUMNS = "Each row needs 'question', 'answer_a' and 'answer_b': texts, or lists of as many texts."
_CONVERSATIONS = "In both, the user says the same, each message has one reply, and there is no system message."
_ROLES = ("user", "assistant")


def read_pairs(source: str) -> list[Pair]:
    """Read pairs of answers.

    Args:
        source: a .jsonl file, a table (.csv, .tsv, .xlsx, .parquet), or a hub data set.

    Raises:
        DataError: there is no such source, or a row is no pair. It names the row and the value.
    """
    found: dict[Any, Pair] = {}
    for number, given in enumerate(read_rows(source, _COLUMNS), start=1):
        row, where = without_nulls(given), f"{source}, row {number}"
        if "conversation_a" in row:
            pair = _voted(row, number, where)
            answers = frozenset(zip(pair.models, pair.case.answers, strict=True))  # whichever stood on the left
            found.setdefault((pair.question, pair.case.turns, answers), pair)
        else:
            found[number] = _pair(row, number, where)
    if not found:
        raise DataError(f"{source} holds no pairs", _COLUMNS)
    return list(found.values())


def _voted(row: Mapping[str, Any], number: int, where: str) -> Pair:
    """The two conversations that a vote is on, up to the reply that it is about."""
    models = read_models(row, where)
    said = [read_answer(row, side, where) for side in ("a", "b")]
    turns = tuple(text for _, text in said[0].prompt[::2])
    for one in said:
        in_turn = all(role == _ROLES[index % 2] for index, (role, _) in enumerate(one.prompt))
        if not in_turn or len(one.prompt) % 2 == 0 or tuple(text for _, text in one.prompt[::2]) != turns:
            raise DataError(f"{where} has two conversations of different messages", _CONVERSATIONS)
    answers = tuple((*(text for _, text in one.prompt[1::2]), one.reply) for one in said)
    return Pair(as_id(row.get("question_id", number)), models, Case(turns, answers))


def _pair(row: Mapping[str, Any], number: int, where: str) -> Pair:
    question = row.get("question", row.get("prompt"))
    turns = _texts(question, f"{where}: 'question'")
    answers = tuple(_texts(row.get(key), f"{where}: {key!r}") for key in ("answer_a", "answer_b"))
    references = _texts(row["reference"], f"{where}: 'reference'") if "reference" in row else ()
    for replies in (*answers, references or turns):
        if len(replies) != len(turns):
            raise DataError(f"{where} has {len(turns)} messages and {len(replies)} replies", _COLUMNS)
    models = (str(row.get("model_a", "a")), str(row.get("model_b", "b")))
    if models[0] == models[1]:
        raise DataError(f"{where} compares {models[0]!r} with itself", "A pair is of two models. Remove the row.")
    return Pair(as_id(row.get("question_id", number)), models, Case(turns, answers, references))


def _texts(value: Any, where: str) -> tuple[str, ...]:
    texts = (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list) else ()
    if not texts or not all(isinstance(text, str) for text in texts):
        raise DataError(f"{where} is {short(value)}, not a text", _COLUMNS)
    return texts
