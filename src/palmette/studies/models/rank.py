"""Models ranked on one's own data: how good, how fast, how large, and which differences are more than noise."""

from __future__ import annotations

import gc
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from palmette import run
from palmette.config.recipes import Recipe
from palmette.data.records import DataSet
from palmette.data.source import read_source
from palmette.decode.reachability import report_unreachable
from palmette.errors import DataError, TemplateError
from palmette.evaluate.bootstrap import paired_difference
from palmette.evaluate.holm import holm
from palmette.evaluate.record import HELD_OUT_SPLIT
from palmette.evaluate.squad import Evaluation
from palmette.inference.base import source_tokenizer
from palmette.inference.names import ModelSource
from palmette.inference.task import recipe_task
from palmette.model.loading import DType
from palmette.pages.model_ranking import write_ranking
from palmette.progress import Say
from palmette.studies.measuring import first_questions
from palmette.studies.models.opening import check_models, open_model

PAGE = "ranking.html"
LEVEL = 0.05  # of all comparisons together
_FIGURES = ("exact", "f1", "HasAns_exact", "NoAns_exact", "total", "questions_per_second")
# What a model may be better in, and whether more is better. None of two is better if each has its own.
_GOALS: Mapping[str, bool] = {"exact": True, "questions_per_second": True, "planned_bytes": False}


@dataclass(frozen=True)
class RankSettings:
    """How models are ranked.

    Attributes:
        limit_documents: use only the first N documents.
        limit_questions: use only the first N questions, of those documents.
        dtype: the dtype of all models. That of each run, or "auto", if None.
        num_samples: samples of the bootstrap. A p-value is no smaller than 2 / (samples + 1).
    """

    limit_documents: int | None = None
    limit_questions: int | None = None
    dtype: DType | None = None
    num_samples: int = 4000


def rank_models(names: Sequence[str], data: str, settings: RankSettings, say: Say) -> dict[str, Any]:
    """Answer the same questions with several models, one after the other, and rank them by exact match.

    Every model is asked with the span decoder and without calibration, a finished run with its own prompt.

    Args:
        names: run folders, model folders, GGUF files, or hub ids.
        data: questions with known answers.
        settings: how.
        say: called with a line for each model, and if some answers cannot be given by the span decoder.

    Returns:
        The record: `models` from the best to the worst, `pairs` with each difference, and what they depend on.

    Raises:
        DataError: fewer than two models, a model twice, data that cannot be read, or that hold one document only.
        TemplateError: a model has no chat template that can be used, so it cannot be asked.
        ModelError, RunError: a model is missing or cannot be loaded.
    """
    sources = check_models(names, settings.dtype)
    source = first_questions(
        read_source(data, default_split=HELD_OUT_SPLIT, limit_documents=settings.limit_documents),
        settings.limit_questions,
    )
    if len(source.documents) < 2:
        raise DataError(f"{data} has {len(source.documents)} document, so nothing is known of others", "Give more.")
    for one in sources:
        _check_asked(one, source)
    report_unreachable(source.documents, say)
    rows, evaluations = [], {}
    for one in sources:
        say(f"{one.name}: loading")
        row, evaluations[one.name] = _measured(one, source)
        rows.append(row)
        gc.collect()  # the model is gone before the next one comes
    rows.sort(key=lambda row: -row["exact"])
    mark_front(rows)
    pairs = compare_pairs({row["name"]: evaluations[row["name"]] for row in rows}, settings.num_samples)
    return {**run.environment(), "models": rows, "pairs": pairs, "level": LEVEL, "data": source.describe()}


def write_ranked(out: Path, names: Sequence[str], data: str, settings: RankSettings, say: Say) -> dict[str, Any]:
    """Rank models, and write what was found to a folder: ranking.html and ranking.json.

    Args:
        out: the folder. It must not exist.
        names: as in `rank_models`.
        data: questions with known answers.
        settings: how.
        say: as in `rank_models`.

    Returns:
        The record.

    Raises:
        RunError: the folder exists, or cannot be written.
        DataError, ModelError, TemplateError: as for `rank_models`.
    """
    run.check_absent(out)
    record = rank_models(names, data, settings, say)
    with run.whole_folder(out) as staging:
        run.write_json(staging / "ranking.json", record)
        write_ranking(staging / PAGE, record)
    return record


def _check_asked(source: ModelSource, data: DataSet) -> None:
    """Check that a model's chat template takes the first question, before any model is loaded."""
    tokenizer = source_tokenizer(source)
    if not tokenizer.chat_template:
        raise TemplateError(f"{source.name!r} has no chat template, so it cannot be asked", "Leave this model out.")
    try:
        task = recipe_task(source.recipe or Recipe(output=""), tokenizer)
        for document in data.documents[:1]:
            for question in document.questions[:1]:
                task.prompt_tokens(document, question)
    except TemplateError as error:
        raise TemplateError(f"{source.name!r} cannot be asked: {error.problem}", "Leave this model out.") from error


def _measured(source: ModelSource, data: DataSet) -> tuple[dict[str, Any], Evaluation]:
    opened = open_model(source)
    evaluation, peak = opened.evaluate(data, source.name)
    figures = {key: evaluation.metrics.get(key) for key in _FIGURES}
    intervals = {key: ends for key, ends in evaluation.intervals.items() if key in _FIGURES}
    parameters = opened.outline.num_parameters
    return {
        "name": source.name,
        **figures,
        "intervals": intervals,
        "num_parameters": parameters,
        "peak_bytes": peak,
        **opened.facts(),
    }, evaluation


def mark_front(rows: Sequence[dict[str, Any]]) -> None:
    """Mark the rows on the Pareto front: no other model is at least as good, as fast and as small, and better in one.

    Args:
        rows: the models. Each gets `front`, and `beaten_by`, the name of a model that is better or None.
    """
    for row in rows:
        better = next((other["name"] for other in rows if _dominates(other, row)), None)
        row |= {"front": better is None, "beaten_by": better}


def _dominates(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    gains = [(one[key] - other[key]) * (1 if more else -1) for key, more in _GOALS.items()]
    return bool(min(gains) >= 0 and max(gains) > 0)


def compare_pairs(evaluations: Mapping[str, Evaluation], num_samples: int) -> list[dict[str, Any]]:
    """The difference of exact match of every two models, documents being drawn once for both.

    Args:
        evaluations: by model, from the best to the worst, on the same questions.
        num_samples: samples of the bootstrap.

    Returns:
        For each pair `better` and `worse` by their figures, `difference`, `low` and `high` (95 %), `p`, `p_holm`
        corrected for all pairs, and whether it is `noise` at the level of all pairs together.
    """
    named = list(itertools.combinations(evaluations, 2))
    differences = [
        paired_difference(evaluations[a].scored, evaluations[b].scored, None, num_samples=num_samples)["exact"]
        for a, b in named
    ]
    corrected = holm([difference.p for difference in differences])
    return [
        {
            "better": a,
            "worse": b,
            "difference": difference.value,
            "low": difference.low,
            "high": difference.high,
            "p": difference.p,
            "p_holm": p_holm,
            "noise": p_holm > LEVEL,
        }
        for (a, b), difference, p_holm in zip(named, differences, corrected, strict=True)
    ]
