"""MT-Bench with a judge of one's own: two turns, categories, grades of single answers, and pairs.

The questions and the reference answers are files of FastChat, which are not bundled. Temperatures by category are those
of FastChat (llm_judge/common.py). The words that judges are asked with are ours, so figures are not those of the
published leaderboard. A turn is judged with the turns before it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from palmette.data.values import as_id
from palmette.errors import DataError
from palmette.judge.answers import Answers, answers_of, read_answers
from palmette.judge.folder import begin, finish
from palmette.judge.grades import Grade, Graded, summarise
from palmette.judge.judging import Judge, Pair, PairJudged, expected_grade, judge_cases, judge_pairs, signature
from palmette.judge.orders import adjusted_win_rate
from palmette.judge.repliers import Asked
from palmette.judge.rows import read_rows
from palmette.judge.spec import JudgeSpec, open_judge
from palmette.judge.trust import check_trusted
from palmette.judge.wording import Case
from palmette.run import environment, write_json_lines

FIGURES = "mt_bench.json"
_STORE = "verdicts.store"
_TEMPERATURES = {"writing": 0.7, "roleplay": 0.7, "stem": 0.1, "humanities": 0.1}
_COLUMNS = "Each row needs 'question_id' and 'turns', a list of messages."


@dataclass(frozen=True)
class PairFigures:
    """A model against another one, by turn ("all", "1", "2").

    Attributes:
        win_rate: the mean preference by the odds of both orders, 0 to 1. None if nothing was read.
        adjusted: MT-Bench's adjusted win rate, by its rule of both orders.
        inconsistent: how often both orders led to different verdicts, of `number`.
        number: pairs.
        unread: verdicts that were unread, of two a pair.
    """

    win_rate: float | None
    adjusted: float | None
    inconsistent: int
    number: int
    unread: int


@dataclass(frozen=True)
class MtBench:
    """The figures of a model.

    Attributes:
        graded: its grades. None where pairs were judged.
        pairs: against another model. Empty where single answers were graded.
        against: that model. "" without one.
        trust: a sentence on how far the judge is trusted.
        notes: see `Judge`.
    """

    graded: Graded | None
    pairs: dict[str, PairFigures]
    against: str
    trust: str
    notes: tuple[str, ...] = ()


def read_questions(source: str) -> list[Asked]:
    """Read the questions.

    Raises:
        DataError: there is no such file, or a row is no question. It names the row.
    """
    found: dict[str, Asked] = {}
    for number, row in enumerate(read_rows(source, _COLUMNS), start=1):
        turns, name = row.get("turns"), as_id("" if row.get("question_id") is None else row["question_id"])
        if not name or not isinstance(turns, list) or not turns or not all(isinstance(one, str) for one in turns):
            raise DataError(f"{source}, row {number} is no question", _COLUMNS)
        if name in found:
            raise DataError(f"{source}, row {number} has the id {name} of an earlier row", "Remove one of them.")
        category = str(row.get("category", ""))
        found[name] = Asked(name, tuple(turns), category, _TEMPERATURES.get(category, 0.0))
    if not found:
        raise DataError(f"{source} holds no questions", _COLUMNS)
    return list(found.values())


def evaluate(
    model: str,
    spec: JudgeSpec,
    questions: str,
    out: Path,
    *,
    references: str | None = None,
    against: str | None = None,
    limit: int | None = None,
    max_new_tokens: int = 1024,
    validation: Path | None = None,
    force: bool = False,
    seed: int = 0,
) -> MtBench:
    """Answer the questions, and judge the answers.

    Args:
        model: the name of a model, or a file of its answers.
        spec: the judge.
        questions: the file of questions.
        out: the folder. What it holds of the same job is used.
        references: a file of right answers. Questions that it lacks are judged without.
        against: another model or file of answers: pairs are judged. Single answers are graded if None.
        limit: use only so many questions, from the start.
        max_new_tokens: the longest reply, in tokens.
        validation: see `check_trusted`.
        force: see `check_trusted`.
        seed: seed of replies that are drawn.

    Raises:
        DataError: the judge is not trusted or cannot grade, or a file lacks what is needed.
        RunError: the folder holds another job, or a finished one, or some verdicts got no answer.
        PalmetteError: a model or an endpoint cannot be used.
    """
    asked = read_questions(questions)[:limit]
    right = read_answers(references).replies if references else {}
    judge = open_judge(spec)
    trust = check_trusted(signature(judge), validation, force=force)
    settings = {
        "model": model,
        "against": against,
        "questions": hashlib.sha256(json.dumps([asdict(one) for one in asked]).encode()).hexdigest(),
        "max_new_tokens": max_new_tokens,
        "seed": seed,
    }
    begin(out, settings, FIGURES)
    mine = answers_of(model, asked, out / "model.jsonl", max_new_tokens=max_new_tokens, seed=seed)
    if against is None:
        rows, found = _graded(judge, _Job(asked, right, mine, out, trust), seed)
    else:
        theirs = answers_of(against, asked, out / "against.jsonl", max_new_tokens=max_new_tokens, seed=seed)
        rows, found = _paired(judge, _Job(asked, right, mine, out, trust), theirs)
    write_json_lines(out / "verdicts.jsonl", rows)
    finish(out, FIGURES, {**environment(), "settings": settings, "judge": signature(judge), **asdict(found)})
    return found


@dataclass(frozen=True, slots=True)
class _Job:
    """The questions, right answers, the model's answers, the folder, and how far the judge is trusted."""

    asked: Sequence[Asked]
    right: Mapping[str, Sequence[str]]
    mine: Answers
    out: Path
    trust: str


def _graded(judge: Judge, job: _Job, seed: int) -> tuple[list[dict[str, Any]], MtBench]:
    """The lines and the figures of single answers."""
    cases = [(one, turn) for one in job.asked for turn in range(1, len(one.turns) + 1)]
    shown = [_case(one, turn, job.right, job.mine) for one, turn in cases]
    odds = judge_cases(judge, shown, job.out / _STORE)
    grades = [
        Grade(job.mine.model, one.id, turn, expected_grade(said), one.category)
        for (one, turn), said in zip(cases, odds, strict=True)
    ]
    rows = [_line(grade, signature(judge)) for grade in grades]
    return rows, MtBench(summarise(grades, seed=seed)[0], {}, "", job.trust, tuple(judge.notes))


def _line(grade: Grade, judge: str) -> dict[str, Any]:
    """A grade with FastChat's columns."""
    return {
        "question_id": grade.question,
        "model": grade.model,
        "turn": grade.turn,
        "score": -1 if grade.value is None else grade.value,
        "category": grade.category,
        "judge": judge,
    }


def _paired(judge: Judge, job: _Job, theirs: Answers) -> tuple[list[dict[str, Any]], MtBench]:
    """The lines and the figures of pairs.

    Raises:
        DataError: both answers are those of one model.
    """
    if theirs.model == job.mine.model:
        raise DataError(f"both answers are those of {theirs.model}", "Give another model, or name one in its file.")
    judged = judge_pairs(judge, _pairs(job.asked, job.right, job.mine, theirs), job.out / _STORE)
    found = MtBench(None, _figures(judged), theirs.model, job.trust, tuple(judge.notes))
    return [one.row(signature(judge)) for one in judged], found


def _case(one: Asked, turn: int, right: Mapping[str, Sequence[str]], *answers: Answers) -> Case:
    """A question up to a turn, with the replies of one or two models."""
    replies = tuple(tuple(given.replies[one.id][:turn]) for given in answers)
    return Case(one.turns[:turn], replies, tuple(right.get(one.id, ())[:turn]))


def _pairs(asked: Sequence[Asked], right: Mapping[str, Sequence[str]], mine: Answers, theirs: Answers) -> list[Pair]:
    return [
        Pair(one.id, (mine.model, theirs.model), _case(one, turn, right, mine, theirs))
        for one in asked
        for turn in range(1, len(one.turns) + 1)
    ]


def _figures(judged: Sequence[PairJudged]) -> dict[str, PairFigures]:
    turns = {str(len(one.pair.case.turns)) for one in judged}
    parts = {turn: [one for one in judged if str(len(one.pair.case.turns)) == turn] for turn in sorted(turns)}
    return {name: _of_pairs(some) for name, some in {"all": list(judged), **parts}.items()}


def _of_pairs(some: Sequence[PairJudged]) -> PairFigures:
    shares = [share for one in some if (share := one.share) is not None]
    return PairFigures(
        sum(shares) / len(shares) if shares else None,
        adjusted_win_rate(one.orders.choice("mt-bench") for one in some),
        sum(one.orders.inconsistent for one in some),
        len(some),
        sum(odds is None for one in some for odds in one.odds),
    )
