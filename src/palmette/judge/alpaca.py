"""Win rates of a model against a reference on instructions, by a judge that sees each pair in both orders.

The outputs, the verdicts and the preferences are kept in one folder, in which a job that was stopped goes on.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from palmette.errors import DataError
from palmette.judge.answers import answers_of
from palmette.judge.folder import begin, finish
from palmette.judge.judging import Pair, PairJudged, judge_pairs, signature
from palmette.judge.preferences import Preference
from palmette.judge.repliers import Asked
from palmette.judge.rows import read_rows
from palmette.judge.spec import JudgeSpec, open_judge
from palmette.judge.trust import check_trusted
from palmette.judge.win_rates import WinRates, win_rates
from palmette.judge.wording import Case
from palmette.run import environment, write_json_lines

RATES = "win_rates.json"
_COLUMNS = "Each row needs 'instruction'."


@dataclass(frozen=True)
class AlpacaResult:
    """A model compared with a reference.

    Attributes:
        rates: the win rate.
        judged: what the judge said of each instruction.
        trust: a sentence on how far the judge is trusted.
        notes: see `Judge`.
    """

    rates: WinRates
    judged: Sequence[PairJudged]
    trust: str
    notes: tuple[str, ...] = ()


def read_instructions(source: str | None) -> list[Asked]:
    """Instructions of a file, or the hundred that come with the package.

    Args:
        source: a .json or .jsonl file or a table with a column `instruction`, or None.

    Raises:
        DataError: there is no such file, a row has no instruction, or one stands twice.
    """
    if source is None:
        lines = resources.files("palmette.judge").joinpath("instructions.txt").read_text(encoding="utf-8").splitlines()
        return [Asked(line, (line,)) for line in lines]
    found: dict[str, Asked] = {}
    for number, row in enumerate(read_rows(source, _COLUMNS), start=1):
        text = row.get("instruction")
        if not isinstance(text, str) or not text.strip():
            raise DataError(f"{source}, row {number} has no instruction", _COLUMNS)
        if text in found:
            raise DataError(f"{source}, row {number} has the instruction of an earlier row", "Remove one of them.")
        found[text] = Asked(text, (text,), str(row.get("dataset", "")))
    if not found:
        raise DataError(f"{source} holds no instructions", _COLUMNS)
    return list(found.values())


def compare(
    model: str,
    reference: str,
    spec: JudgeSpec,
    out: Path,
    *,
    instructions: str | None = None,
    limit: int | None = None,
    max_new_tokens: int = 256,
    validation: Path | None = None,
    force: bool = False,
    num_samples: int = 200,
    seed: int = 0,
) -> AlpacaResult:
    """Compare a model with a reference.

    Args:
        model: the name of a model, or a file of its outputs.
        reference: the same for the reference.
        spec: the judge.
        out: the folder. What it holds of the same job is used.
        instructions: see `read_instructions`.
        limit: use only so many, from the start.
        max_new_tokens: the longest output, in tokens.
        validation: see `check_trusted`.
        force: see `check_trusted`.
        num_samples: see `win_rates`.
        seed: seed of the intervals.

    Raises:
        DataError: the judge is not trusted, or a file lacks what is needed.
        RunError: the folder holds another job, or a finished one, or some verdicts got no answer.
        PalmetteError: a model or an endpoint cannot be used.
    """
    asked = read_instructions(instructions)[:limit]
    judge = open_judge(spec)
    trust = check_trusted(signature(judge), validation, force=force)
    settings = {
        "model": model,
        "reference": reference,
        "instructions": hashlib.sha256(json.dumps([one.id for one in asked]).encode()).hexdigest(),
        "max_new_tokens": max_new_tokens,
    }
    begin(out, settings, RATES)
    mine = answers_of(model, asked, out / "model.jsonl", max_new_tokens=max_new_tokens)
    theirs = answers_of(reference, asked, out / "reference.jsonl", max_new_tokens=max_new_tokens)
    names = (mine.model, theirs.model if theirs.model != mine.model else f"{theirs.model} (reference)")
    pairs = [Pair(one.id, names, Case(one.turns, (mine.replies[one.id], theirs.replies[one.id]))) for one in asked]
    judged = judge_pairs(judge, pairs, out / "verdicts.store")
    rows = [_row(one, signature(judge)) for one in judged]
    write_json_lines(out / "preferences.jsonl", rows)
    rates = win_rates([_preference(one) for one in judged], num_samples=num_samples, seed=seed)
    about = {"settings": settings, "judge": signature(judge), "trust": trust, "notes": list(judge.notes)}
    finish(out, RATES, {**environment(), **about, **rates.record()})
    return AlpacaResult(rates, judged, trust, tuple(judge.notes))


def _preference(one: PairJudged) -> Preference:
    model, reference = one.pair.models
    mine, theirs = one.pair.case.answers
    return Preference(model, reference, one.pair.question, one.share, (len(theirs[-1]), len(mine[-1])))


def _row(one: PairJudged, judge: str) -> dict[str, Any]:
    """A preference with AlpacaEval's columns."""
    model, reference = one.pair.models
    mine, theirs = one.pair.case.answers
    return {
        "instruction": one.pair.question,
        "generator_1": reference,
        "output_1": theirs[-1],
        "generator_2": model,
        "output_2": mine[-1],
        "annotator": judge,
        "preference": None if one.share is None else 1.0 + one.share,
        "odds": list(one.odds),
    }
