"""Answers of models to messages: read from files of MT-Bench and AlpacaEval, or generated one by one and kept.

A file of answers is JSON Lines, or a JSON list. A row has FastChat's columns (`question_id`, `model_id`, `choices` with
`turns`) or those of AlpacaEval (`instruction`, `output`, `generator`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from palmette.data.records import check_unicode
from palmette.data.text import short
from palmette.data.values import as_id
from palmette.errors import DataError, RunError
from palmette.judge.repliers import Asked, Replier, local_replier
from palmette.judge.rows import read_rows
from palmette.progress import progress
from palmette.run import append_line, read_log, write_json_lines

_COLUMNS = "Each row needs 'question_id' and 'choices', or 'instruction' and 'output'."
_ONE_MODEL = "Give the answers of each model in a file of its own."
SUFFIXES = (".json", ".jsonl")


@dataclass(frozen=True, slots=True)
class Answers:
    """A model's answers.

    Attributes:
        model: its name.
        replies: {id of what was asked: a reply to each message}.
    """

    model: str
    replies: Mapping[str, tuple[str, ...]]


def read_answers(source: str) -> Answers:
    """Read a model's answers.

    Args:
        source: the file.

    Raises:
        DataError: there is no such file, a row is no answer or cannot be encoded, rows are those of two models, or
            something is answered twice. It names the row.
    """
    model = ""
    replies: dict[str, tuple[str, ...]] = {}
    for number, row in enumerate(read_rows(source, _COLUMNS), start=1):
        where = f"{source}, row {number}"
        if "choices" in row:
            name, asked, given = row.get("model_id"), row.get("question_id"), _turns(row["choices"])
        else:
            name, asked, given = row.get("generator"), row.get("instruction"), row.get("output")
            given = [given] if isinstance(given, str) else None
        if asked is None or given is None:
            raise DataError(f"{where} is {short(row)}, and no answer", _COLUMNS)
        if name and model and str(name) != model:
            raise DataError(f"{where} is an answer of {name}, and an earlier row one of {model}", _ONE_MODEL)
        model = model or str(name or "")
        if as_id(asked) in replies:
            raise DataError(f"{where} answers {short(asked)} again", "Remove one of both answers.")
        for text in given:
            check_unicode(text, where)
        replies[as_id(asked)] = tuple(given)
    if not replies:
        raise DataError(f"{source} holds no answers", _COLUMNS)
    return Answers(model or Path(source).stem, replies)


def _turns(choices: Any) -> list[str] | None:
    try:
        turns = choices[0]["turns"]
    except (KeyError, IndexError, TypeError):
        return None
    return turns if isinstance(turns, list) and all(isinstance(turn, str) for turn in turns) else None


def answers_of(model: str, asked: Sequence[Asked], store: Path, *, max_new_tokens: int, seed: int = 0) -> Answers:
    """A model's answers: those of a file, or generated and kept.

    Args:
        model: a file of answers, or the name of a model.
        asked: what it is asked. A file must answer all of it.
        store: the file that keeps generated answers. A job that was stopped goes on there.
        max_new_tokens: the longest reply, in tokens.
        seed: seed of replies that are drawn.

    Raises:
        DataError: a file lacks an answer.
        ModelError, RunError: the model cannot be used, or the store is damaged or cannot be written.
    """
    if model.endswith(SUFFIXES):
        return _complete(read_answers(model), asked, model)
    return written_answers(model, asked, store, lambda: local_replier(model, max_new_tokens, seed))


def written_answers(model: str, asked: Sequence[Asked], store: Path, open_replier: Callable[[], Replier]) -> Answers:
    """A model's answers, written one by one and kept.

    Args:
        model: its name.
        asked: what it is asked.
        store: the file that keeps the answers. A job that was stopped goes on there.
        open_replier: loads what gives them. It is called if an answer is missing.

    Raises:
        RunError: the store cannot be written.
    """
    known = _kept(store)
    missing = [one for one in asked if one.id not in known]
    if missing:
        known |= _generate(model, missing, store, open_replier(), len(known))
    return Answers(model, {one.id: known[one.id] for one in asked})


def _complete(answers: Answers, asked: Sequence[Asked], source: str) -> Answers:
    for one in asked:
        given = answers.replies.get(one.id)
        if given is None or len(given) < len(one.turns):
            raise DataError(
                f"{source} has {'no answer' if given is None else f'{len(given)} replies'} to {short(one.id)}, "
                f"which needs {len(one.turns)}",
                "Give answers to all of it, or the name of a model.",
            )
    return answers


def _kept(store: Path) -> dict[str, tuple[str, ...]]:
    if not store.exists():
        return {}
    lines = read_log(store)
    try:
        known = {str(line["question_id"]): tuple(line["choices"][0]["turns"]) for line in lines}
    except (KeyError, IndexError, TypeError) as error:
        raise RunError(f"{store} holds no answers", "Remove it, or give another folder.") from error
    write_json_lines(store, lines)
    return known


def _generate(
    model: str, missing: Sequence[Asked], store: Path, write: Replier, done: int
) -> dict[str, tuple[str, ...]]:
    found = {}
    bar = progress(len(missing) + done, "answering", "questions", done=done)
    try:
        for one in missing:
            replies = write(one)
            line = {"question_id": one.id, "model_id": model, "choices": [{"index": 0, "turns": replies}]}
            append_line(store, json.dumps(line, ensure_ascii=False))
            found[one.id] = tuple(replies)
            bar.update(1)
    finally:
        bar.close()
    return found
