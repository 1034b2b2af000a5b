"""Measures finished runs. The answers of each decoder get a folder of their own."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast

from palmette import run
from palmette.data.records import DataSet, Document
from palmette.data.source import read_source
from palmette.decode.reachability import count_unreachable
from palmette.errors import DataError, ModelError, PalmetteError
from palmette.evaluate.record import HELD_OUT_SPLIT, MADE_BY, made_by
from palmette.evaluate.retention.measure import Settings
from palmette.evaluate.retention.run import RESULT as RETENTION
from palmette.evaluate.retention.run import retention_of_run
from palmette.evaluate.squad import evaluate_squad
from palmette.inference.answerer import DecoderName, load_answerer
from palmette.model.tokenizer import first_line
from palmette.pages.evaluation.folder import facts_of, loss_of, write_evaluation
from palmette.progress import Say
from palmette.studies.evaluation import EvaluateSection

DIVERGENCE, ERROR = "divergence.json", "error.json"


def failure(error: Exception) -> str:
    """Why something failed, in one line."""
    return str(error) if isinstance(error, PalmetteError) else f"{type(error).__name__}: {first_line(error)}"


def first_questions(source: DataSet, limit: int | None) -> DataSet:
    """The first `limit` questions of a data set, with their documents."""
    if limit is None:
        return source
    documents: list[Document] = []
    for document in source.documents:
        questions = document.questions[:limit]
        limit -= len(questions)
        if questions:
            documents.append(replace(document, questions=questions))
    return replace(source, documents=tuple(documents))


def read_questions(section: EvaluateSection) -> tuple[DataSet, dict[str, Any]]:
    """Read the questions that runs are measured on, and describe them for a study's record.

    Raises:
        DataError: the source cannot be read, as for `read_source`.
    """
    documents = read_source(section.data, default_split=HELD_OUT_SPLIT, limit_documents=section.limit_documents)
    source = first_questions(documents, section.limit_questions)
    return source, {"data": source.source, "sha256": source.sha256, "questions": source.num_questions}


def refusal(decoder: str) -> str:
    """The name of the file that says why a decoder refused a model."""
    return f"{decoder}-error.json"


def unmeasured(place: Path, decoders: Sequence[str]) -> list[str]:
    """The decoders that have neither answered nor refused yet."""
    return [name for name in decoders if not (place / name).is_dir() and not (place / refusal(name)).is_file()]


def measure(place: Path, model: str, decoder: str, source: DataSet, batch_size: int, say: Say) -> None:
    """Load a run from its files and answer questions with it.

    Some decoders cannot work with some ways of training. The message of such a decoder is recorded, and the other
    decoders are still tried.

    Args:
        place: the folder in which a folder for the decoder is made.
        model: the run.
        decoder: "span", "greedy", "beam", or with "-free-N" after the name.
        source: the questions.
        batch_size: how many prompts beam search works on at once.
        say: called with the result as one line.
    """
    answerer = load_answerer(model, calibrated=False)
    plain, _, tokens = decoder.partition("-free-")
    limit = int(tokens) if tokens else None
    kind = cast("DecoderName", plain)  # the recipe's section has checked it
    try:
        with run.whole_folder(place / decoder) as staging:
            answers = answerer.decoder(kind, batch_size=batch_size, reasoning_limit=limit)
            result = evaluate_squad(answers, source.documents, what=f"answering, {decoder}")
            write_evaluation(result, staging, place.name, facts_of(model, source.source, decoder), loss_of(Path(model)))
            about = made_by(answerer, source, model, kind, answerer.effort(), limit)
            run.write_json(staging / MADE_BY, {**about, "unreachable": count_unreachable(source.documents).describe()})
    except (DataError, ModelError) as error:
        run.write_json(place / refusal(decoder), {"error": str(error)})
        say(f"{decoder}: refused: {error}")
        return
    asked = "span decoder" if decoder == "span" else decoder
    say(f"{asked}: exact match {result.metrics['exact']:.1f} %, F1 {result.metrics['f1']:.1f} %")


def retention_settings(section: EvaluateSection) -> Settings:
    """How retention is measured."""
    return Settings(
        max_new_tokens=section.retention_tokens,
        num_passages=section.retention_passages,
        num_prompts=section.retention_prompts,
    )


def unmeasured_retention(place: Path, section: EvaluateSection) -> Settings | None:
    """How to measure retention. None if it is not wanted, or was already measured with the same settings."""
    record, settings = place / RETENTION, retention_settings(section)
    if not section.retention:
        return None
    if record.is_file():
        before = json.loads(record.read_text(encoding="utf-8"))["made_by"]["settings"]
        if {**asdict(Settings()), **before} == asdict(settings):
            return None
    return settings


def measure_retention(place: Path, model: Path, settings: Settings, say: Say) -> None:
    """Measure how much training changed a run on general text and chats, and write the result into a folder."""
    result = retention_of_run(model, settings)
    run.write_json(place / RETENTION, result)
    say(f"retention: perplexity x {result['perplexity_ratio']:.3f}, KL {result['kl']:.3f}")
