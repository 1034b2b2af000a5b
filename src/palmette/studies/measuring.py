"""Measuring finished runs: the questions they are asked, and what each decoder makes of them, kept in a folder of its own."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast

from palmette import run
from palmette.data.records import DataSet, Document
from palmette.data.source import read_source
from palmette.errors import DataError, ModelError, PalmetteError
from palmette.evaluate.record import HELD_OUT_SPLIT, MADE_BY, made_by
from palmette.evaluate.retention.measure import Settings
from palmette.evaluate.retention.run import RESULT as RETENTION
from palmette.evaluate.retention.run import retention_of_run
from palmette.evaluate.squad import evaluate_squad
from palmette.inference.answerer import DecoderName, load_answerer
from palmette.model.loading import first_line
from palmette.pages.evaluation.folder import loss_of, subtitle, write_evaluation
from palmette.progress import Say
from palmette.studies.evaluation import EvaluateSection

DIVERGENCE, ERROR = "divergence.json", "error.json"


def failure(error: Exception) -> str:
    """What went wrong, in one line."""
    return str(error) if isinstance(error, PalmetteError) else f"{type(error).__name__}: {first_line(error)}"


def first_questions(source: DataSet, limit: int | None) -> DataSet:
    """The first so many questions of a data set, with their documents."""
    if limit is None:
        return source
    kept: list[Document] = []
    for document in source.documents:
        questions = document.questions[:limit]
        limit -= len(questions)
        if questions:
            kept.append(replace(document, questions=questions))
    return replace(source, documents=tuple(kept))


def read_questions(section: EvaluateSection) -> tuple[DataSet, dict[str, Any]]:
    """The questions that runs are measured on, and how the record of a study names them.

    Raises:
        DataError: see `read_source`.
    """
    source = first_questions(read_source(section.data, default_split=HELD_OUT_SPLIT), section.limit)
    return source, {"data": source.source, "sha256": source.sha256, "questions": source.num_questions}


def refusal(decoder: str) -> str:
    """The file that says why a decoder refused a model."""
    return f"{decoder}-error.json"


def unmeasured(place: Path, decoders: Sequence[str]) -> list[str]:
    """The decoders that have neither answered nor refused yet."""
    return [name for name in decoders if not (place / name).is_dir() and not (place / refusal(name)).is_file()]


def measure(place: Path, model: str, decoder: str, source: DataSet, batch_size: int, say: Say) -> None:
    """Answer questions with a run, from its files, so that one that was stopped is measured as any other.

    A decoder that cannot do with how the model was trained is written down with what it says; other decoders may.

    Args:
        place: the folder that gets a folder for the decoder.
        model: the run.
        decoder: "span", "greedy", "beam", or with "-free-N" after the name.
        source: the questions.
        batch_size: prompts that beam search takes side by side.
        say: called with the result in a line.
    """
    opened = load_answerer(model, calibrated=False)
    plain, _, tokens = decoder.partition("-free-")
    limit = int(tokens) if tokens else None
    kind = cast("DecoderName", plain)  # as the recipe's section has checked
    try:
        with run.whole_folder(place / decoder) as staging:
            answers = opened.decoder(kind, batch_size=batch_size, reasoning_limit=limit)
            result = evaluate_squad(answers, source.documents, what=f"answering, {decoder}")
            write_evaluation(result, staging, place.name, subtitle(model, source.source, decoder), loss_of(Path(model)))
            run.write_json(staging / MADE_BY, made_by(opened, source, model, kind, opened.effort(), limit))
    except (DataError, ModelError) as error:
        run.write_json(place / refusal(decoder), {"error": str(error)})
        say(f"{decoder}: refused: {error}")
        return
    say(f"{decoder}: EM {result.metrics['exact']:.1f}, F1 {result.metrics['f1']:.1f}")


def retention_settings(section: EvaluateSection) -> Settings:
    """How retention is measured."""
    return Settings(
        max_new_tokens=section.retention_tokens,
        num_passages=section.retention_passages,
        num_prompts=section.retention_prompts,
    )


def unmeasured_retention(place: Path, section: EvaluateSection) -> Settings | None:
    """How to measure retention, unless nobody asks for it or it was measured in this way before."""
    kept, settings = place / RETENTION, retention_settings(section)
    if not section.retention:
        return None
    if kept.is_file():
        before = json.loads(kept.read_text(encoding="utf-8"))["made_by"]["settings"]
        if {**asdict(Settings()), **before} == asdict(settings):
            return None
    return settings


def measure_retention(place: Path, model: Path, settings: Settings, say: Say) -> None:
    """What training cost a run elsewhere, written into a folder."""
    found = retention_of_run(model, settings)
    run.write_json(place / RETENTION, found)
    say(f"retention: perplexity x {found['perplexity_ratio']:.3f}, KL {found['kl']:.3f}")
