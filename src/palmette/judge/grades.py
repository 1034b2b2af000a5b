"""Grades of single answers: read from files of judgments, and their means by model, turn and category.

A row has FastChat's columns: `question_id`, `model`, `turn`, and `judgment` (what the judge wrote) or `score`.
An unread grade has no number. It is left out of the mean and counted beside it. FastChat writes -1 for it and drops it
from its table. Some published means hold the -1, so that mean is given too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from palmette.data.text import short
from palmette.data.values import as_id, is_number, read_turn, without_nulls
from palmette.errors import DataError
from palmette.evaluate.bootstrap import weighted_intervals
from palmette.judge.rows import read_rows
from palmette.judge.text import Rule, read_grade

_COLUMNS = "Each row needs 'question_id', 'model', and 'judgment' or 'score'."


@dataclass(frozen=True, slots=True)
class Grade:
    """One grade.

    Attributes:
        model: whose answer it is.
        question: the id of the question.
        turn: which turn, from 1.
        value: the grade. None if it was unread.
        category: the category of the question, or "".
    """

    model: str
    question: str
    turn: int
    value: float | None
    category: str = ""


@dataclass(frozen=True, slots=True)
class Mean:
    """A mean of grades.

    Attributes:
        value: the mean of what was read. None if nothing was.
        interval: its 95 % interval over questions. None with fewer than two questions.
        number: grades that were read.
        unread: grades that were not.
        with_unread: the mean if an unread grade counts as -1.
    """

    value: float | None
    interval: tuple[float, float] | None
    number: int
    unread: int
    with_unread: float


@dataclass(frozen=True, slots=True)
class Graded:
    """The grades of one model, in all, by turn and by category."""

    model: str
    whole: Mean
    turns: dict[int, Mean]
    categories: dict[str, Mean]


def read_grades(source: str, rule: Rule = "line") -> list[Grade]:
    """Read grades.

    Args:
        source: a .jsonl file, a .json list, a table, or a hub data set.
        rule: how grades are read out of a judge's text. A score beside a text is not used.

    Raises:
        DataError: there is no such source, a row is no grade, or an answer has two. It names the row and the value.
    """
    found: dict[tuple[str, str, int], Grade] = {}
    for number, row in enumerate(read_rows(source, _COLUMNS), start=1):
        where = f"{source}, row {number}"
        one = _grade(without_nulls(row), rule, where)
        key = (one.model, one.question, one.turn)
        if key in found:
            raise DataError(
                f"{where}: {one.model} has another grade on question {one.question}, turn {one.turn}",
                "Keep one of them, and give the grades of one judge.",
            )
        found[key] = one
    if not found:
        raise DataError(f"{source} holds no grades", _COLUMNS)
    return list(found.values())


def _grade(row: dict[str, Any], rule: Rule, where: str) -> Grade:
    if "question_id" not in row or not isinstance(row.get("model"), str):
        raise DataError(f"{where} has no question or no model", _COLUMNS)
    turn = read_turn(row.get("turn", 1), where)
    value = _value(row, rule, where)
    return Grade(row["model"], as_id(row["question_id"]), turn, value, str(row.get("category", "")))


def _value(row: dict[str, Any], rule: Rule, where: str) -> float | None:
    text, score = row.get("judgment"), row.get("score")
    if isinstance(text, str):
        return read_grade(text, rule)
    if isinstance(score, str):
        try:
            score = float(score)
        except ValueError:
            score = row["score"]
    if not is_number(score):
        raise DataError(f"{where}: 'score' is {short(score)}, not a number", _COLUMNS)
    return None if score == -1 else float(score)


def summarise(grades: Sequence[Grade], *, num_samples: int = 1000, seed: int = 0) -> list[Graded]:
    """The means of each model, best first.

    Args:
        grades: of one or several models.
        num_samples: samples of the bootstrap over questions.
        seed: its seed.
    """

    def mean_of(some: Sequence[Grade]) -> Mean:
        return _mean(some, num_samples, seed)

    found = []
    for model in dict.fromkeys(grade.model for grade in grades):
        own = [grade for grade in grades if grade.model == model]
        turns = _by(own, lambda grade: grade.turn)
        categories = {name: some for name, some in _by(own, lambda grade: grade.category).items() if name}
        found.append(
            Graded(
                model,
                mean_of(own),
                {turn: mean_of(turns[turn]) for turn in sorted(turns)},
                {name: mean_of(some) for name, some in categories.items()},
            )
        )
    return sorted(found, key=lambda one: -(one.whole.value or 0.0))


def _by(grades: Sequence[Grade], key: Callable[[Grade], Any]) -> dict[Any, list[Grade]]:
    parts: dict[Any, list[Grade]] = {}
    for grade in grades:
        parts.setdefault(key(grade), []).append(grade)
    return parts


def _mean(some: Sequence[Grade], num_samples: int, seed: int) -> Mean:
    read = [grade for grade in some if grade.value is not None]
    value_N = np.array([grade.value for grade in read], dtype=np.float64)
    unread = len(some) - len(read)

    def mean(count_N: npt.NDArray[np.int64]) -> dict[str, float | None]:
        return {"mean": float(count_N @ value_N) / float(count_N.sum()) if count_N.sum() else None}

    ends = weighted_intervals([grade.question for grade in read], mean, num_samples=num_samples, seed=seed)
    return Mean(
        float(value_N.mean()) if read else None,
        ends.get("mean"),
        len(read),
        unread,
        float(value_N.sum() - unread) / len(some),
    )
