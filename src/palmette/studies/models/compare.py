"""A comparison of models: everything about each, and about each beside the first one.

Models are loaded one after the other. Of the first one the weights are kept in a file, and how it reads the shared
texts in memory, until the last model has been compared with it.

Parts that take long can be left out (`PARTS`). If a model cannot reply, read or answer, its record says why under
`why_not`, and the comparison goes on.
"""

from __future__ import annotations

import gc
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from palmette import run
from palmette.choice.job import TaskItems
from palmette.choice.results import Result
from palmette.data.records import DataSet
from palmette.data.source import read_source
from palmette.decode.reachability import report_unreachable
from palmette.decode.reasoning import sequence_ends
from palmette.errors import DataError, ModelError, PalmetteError
from palmette.evaluate.bootstrap import paired_difference
from palmette.evaluate.record import HELD_OUT_SPLIT
from palmette.evaluate.squad import Evaluation
from palmette.inference.names import ModelSource
from palmette.model.loading import DType
from palmette.pages.model_comparison import write_comparison
from palmette.progress import Say
from palmette.studies.models.benchmarks import (
    Benchmark,
    benchmark_differences,
    benchmark_record,
    measure_benchmark,
)
from palmette.studies.models.chat_format import template_facts
from palmette.studies.models.facts import Bounds, configuration, tokenizer_facts
from palmette.studies.models.opening import OpenedModel, check_models, open_model
from palmette.studies.models.reading import TextReading, divergences, read_texts
from palmette.studies.models.replies import replies_of
from palmette.studies.models.texts import Prompt, SharedText, default_prompts, shared_texts
from palmette.studies.models.weights import keep_weights, weight_distances

# The parts that can be left out, and what each is.
PARTS: Mapping[str, str] = {
    "weights": "how far the weights are apart",
    "replies": "what the models say",
    "reading": "how they read the same texts",
    "task": "exact answers from documents",
}
_NAMES: Mapping[str, str] = {**PARTS, "choice": "multiple-choice benchmarks"}
PAGE = "comparison.html"
_SAME_TOKENS = "The models have other tokens, so their distributions cannot be compared token by token."
_NOT_READ = "One of the models could not read the texts."


@dataclass(frozen=True)
class CompareSettings:
    """How models are compared.

    Attributes:
        skip: parts that are left out, of `PARTS`.
        data: questions with known answers.
        limit_documents: use only the first N documents.
        max_new_tokens: longest reply, in tokens.
        prompts: what the models are asked.
        texts: what they read.
        dtype: the dtype of all models. That of each run, or "auto", if None.
        benchmarks: multiple-choice benchmarks that they are compared on.

    Raises:
        DataError: a part that there is not.
    """

    skip: Collection[str] = ()
    data: str = "builtin:test"
    limit_documents: int | None = None
    max_new_tokens: int = 40
    prompts: Sequence[Prompt] = field(default_factory=default_prompts)
    texts: Sequence[SharedText] = field(default_factory=shared_texts)
    dtype: DType | None = None
    benchmarks: Sequence[Benchmark] = ()

    def __post_init__(self) -> None:
        for part in self.skip:
            if part not in PARTS:
                raise DataError(f"a comparison has no part {part!r}", f"The parts are {', '.join(PARTS)}.")


@dataclass
class _First:
    """What is kept of the first model while the others are loaded."""

    weights: Path
    vocabulary: Mapping[str, int]
    readings: Sequence[TextReading]
    evaluation: Evaluation | None
    chosen: Mapping[str, Result]


@dataclass(frozen=True)
class _Material:
    """What is read once, and asked of all models: questions about documents, and the items of benchmarks."""

    data: DataSet | None
    benchmarks: Mapping[str, TaskItems]


def compare_models(names: Sequence[str], settings: CompareSettings, say: Say) -> dict[str, Any]:
    """Compare models with the first of them.

    Args:
        names: run folders, model folders, GGUF files, or hub ids.
        settings: how.
        say: called with a line for each model, and if some answers cannot be given by the span decoder.

    Returns:
        The record: `models`, `pairs` (each later model beside the first), `notes`, and what they depend on.

    Raises:
        DataError: fewer than two models, a model twice, an unknown benchmark, or data that cannot be read.
        ModelError, RunError: a model is missing or cannot be loaded.
    """
    sources = check_models(names, settings.dtype)
    data = None
    if "task" not in settings.skip:
        data = read_source(settings.data, default_split=HELD_OUT_SPLIT, limit_documents=settings.limit_documents)
        report_unreachable(data.documents, say)
    given = {benchmark.task: benchmark.read() for benchmark in settings.benchmarks}
    models, pairs, first = [], [], None
    with tempfile.TemporaryDirectory() as folder:
        for source in sources:
            say(f"{source.name}: loading")
            record, pair, first = _one(source, settings, _Material(data, given), first, Path(folder))
            models.append(record)
            pairs += [pair] if pair is not None else []
            gc.collect()  # the model is gone before the next one comes
    return {
        **run.environment(),
        "models": models,
        "pairs": pairs,
        "notes": notes(models),
        "settings": {
            "skip": sorted(settings.skip),
            "max_new_tokens": settings.max_new_tokens,
            "data": data.describe() if data is not None else None,
        },
    }


def write_compared(out: Path, names: Sequence[str], settings: CompareSettings, say: Say) -> dict[str, Any]:
    """Compare models, and write what was found to a folder: comparison.html and comparison.json.

    Args:
        out: the folder. It must not exist.
        names: as in `compare_models`.
        settings: how.
        say: as in `compare_models`.

    Returns:
        The record.

    Raises:
        RunError: the folder exists, or cannot be written.
        DataError, ModelError: as for `compare_models`.
    """
    run.check_absent(out)
    record = compare_models(names, settings, say)
    with run.whole_folder(out) as staging:
        run.write_json(staging / "comparison.json", record)
        write_comparison(staging / PAGE, record)
    return record


def _one(
    source: ModelSource, settings: CompareSettings, material: _Material, first: _First | None, folder: Path
) -> tuple[dict[str, Any], dict[str, Any] | None, _First]:
    """The record of a model, that of it beside the first, and what is kept of the first model."""
    opened = open_model(source)
    model, tokenizer = opened.loaded.model, opened.loaded.tokenizer
    vocabulary = None if first is None else first.vocabulary
    record: dict[str, Any] = {
        "name": source.name,
        **opened.facts(),
        "configuration": configuration(opened.outline),
        "tokenizer": tokenizer_facts(tokenizer, _bounds(model), settings.texts, vocabulary),
        "template": template_facts(tokenizer),
        "problem": opened.problem,
        "peak_bytes": None,
        "speed": {},
        "why_not": {},
    }
    with _part(record, "replies"):
        _replies(record, opened, settings)
    evaluation = None
    with _part(record, "task"):
        evaluation = _task(record, opened, material.data)
    readings: list[TextReading] = []
    with _part(record, "reading"):  # after the task, whose memory is measured: what was read is kept
        readings = _readings(record, opened, settings)
    chosen: dict[str, Result] = {}
    with _part(record, "choice"):
        for task, items in material.benchmarks.items():
            chosen[task] = measure_benchmark(items, opened)
    record["choice"] = [benchmark_record(task, result) for task, result in chosen.items()]
    if first is None:
        weights = folder / "weights.safetensors"
        if "weights" not in settings.skip:
            keep_weights(model, weights)
        return record, None, _First(weights, tokenizer.get_vocab(), readings, evaluation, chosen)
    pair: dict[str, Any] = {"name": source.name}
    if "weights" not in settings.skip:
        pair["weights"] = weight_distances(first.weights, model)
    if "reading" not in settings.skip:
        pair |= _divergence(first, readings, record, tokenizer)
    if evaluation is not None and first.evaluation is not None:
        pair["task"] = _difference(first.evaluation, evaluation)
    pair["choice"] = benchmark_differences(first.chosen, chosen)
    return record, pair, first


def _bounds(model: Any) -> Bounds:
    """The tokens that begin and end a text by the generation configuration of a model."""
    return Bounds(model.generation_config.bos_token_id, sequence_ends(model))


@contextmanager
def _part(record: dict[str, Any], part: str) -> Iterator[None]:
    """Within the block a model does a part. If it cannot, its record says why."""
    try:
        yield
    except PalmetteError as error:
        record["why_not"][part] = error.problem


def _replies(record: dict[str, Any], opened: OpenedModel, settings: CompareSettings) -> None:
    """Put what a model says into its record."""
    if "replies" in settings.skip:
        return
    record["replies"], record["speed"]["written"] = replies_of(
        opened.loaded.model,
        opened.loaded.tokenizer,
        settings.prompts,
        chats=opened.answerer is not None,
        max_new_tokens=settings.max_new_tokens,
    )


def _readings(record: dict[str, Any], opened: OpenedModel, settings: CompareSettings) -> list[TextReading]:
    """Put how a model reads into its record."""
    if "reading" in settings.skip:
        return []
    readings, record["speed"]["read"] = read_texts(opened.loaded.model, opened.loaded.tokenizer, settings.texts)
    record["texts"] = [
        {"id": one.id, "tokens": len(one.tokens), "bits_per_byte": one.score.bits_per_byte} for one in readings
    ]
    return readings


def _task(record: dict[str, Any], opened: OpenedModel, data: DataSet | None) -> Evaluation | None:
    """Put the exact answers of a model into its record."""
    if data is None or opened.answerer is None:
        return None
    evaluation, record["peak_bytes"] = opened.evaluate(data, opened.source.name)
    metrics = evaluation.metrics
    record["task"] = {key: metrics.get(key) for key in ("exact", "f1", "HasAns_exact", "correct_no_answer", "total")}
    record["task"]["intervals"] = evaluation.intervals
    record["speed"]["questions"] = metrics["questions_per_second"]
    return evaluation


def _divergence(
    first: _First, readings: Sequence[TextReading], record: Mapping[str, Any], tokenizer: Any
) -> dict[str, Any]:
    if not first.readings or not readings:
        return {"reading": None, "why_not": _NOT_READ}
    same = record["tokenizer"]["same_tokens"] and [one.tokens for one in first.readings] == [
        one.tokens for one in readings
    ]
    if not same:
        return {"reading": None, "why_not": _SAME_TOKENS}
    try:
        return {"reading": divergences(first.readings, readings, tokenizer)}
    except ModelError as error:
        return {"reading": None, "why_not": error.problem}


def _difference(a: Evaluation, b: Evaluation) -> dict[str, Any] | None:
    """Exact match of b less that of a, with its interval over documents. None for fewer than two documents."""
    if len({answer.document.id for answer in a.scored}) < 2:
        return None
    found = paired_difference(b.scored, a.scored, None)["exact"]
    return {"exact": found.value, "low": found.low, "high": found.high, "p": found.p}


def notes(models: Sequence[Mapping[str, Any]]) -> list[str]:
    """What a reader has to know before the figures are believed.

    Args:
        models: the records of the models.
    """
    found = []
    for what, key in (("stored", "stored_dtype"), ("computed", "computed_dtype")):
        kinds = {record["name"]: record[key] or "unknown" for record in models}
        if len(set(kinds.values())) > 1:
            stated = ", ".join(f"{name} as {kind}" for name, kind in kinds.items())
            found.append(
                f"Weights are not {what} in equal precision: {stated}. Part of every difference may be rounding."
            )
    for record in models:
        if not record["template"]["present"]:
            found.append(f"{record['name']} has no chat template. It is only asked raw, and answers no questions.")
        elif record["problem"]:
            found.append(f"{record['name']} is only asked raw: {record['problem']}.")
        found += [f"{record['name']}, {_NAMES[part]}: {problem}." for part, problem in record["why_not"].items()]
        found += [f"{record['name']}: {warning}" for warning in record["tokenizer"]["warnings"]]
    return found
