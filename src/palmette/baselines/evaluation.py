"""Evaluation of an encoder with a span head, as of every other answerer."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from palmette import run
from palmette.baselines.encoder import EncoderDecoder, load_encoder
from palmette.baselines.encoder_training import (
    SETTINGS,
    EncoderSettings,
    trained_encoder,
)
from palmette.baselines.threshold import NullThreshold, fit_null_threshold
from palmette.data.records import DataSet
from palmette.data.source import read_source
from palmette.errors import DataError
from palmette.evaluate.record import MADE_BY
from palmette.evaluate.squad import Evaluation, evaluate_squad
from palmette.files import expand
from palmette.pages.evaluation.folder import REPORT, facts_of, loss_of, write_evaluation
from palmette.progress import Say

KIND = "encoder with a span head"


def check_apart(source: DataSet, held_out: DataSet, train: str | None, folder: Path | None) -> None:
    """Check, before anything is trained, that the threshold's data are neither trained nor evaluated on."""
    learned = {read_source(train, limit_documents=1).sha256} if train else set()
    if folder is not None and (folder / run.MANIFEST).is_file():
        manifest = json.loads((folder / run.MANIFEST).read_text(encoding="utf-8"))
        learned |= {part["sha256"] for part in manifest.get("data", [])}
    for use, hashes in (("evaluated", {source.sha256}), ("trained", learned)):
        if held_out.sha256 in hashes:
            raise DataError(f"--threshold {held_out.source} is also {use} on", "Fit the threshold on other data.")


def evaluate_encoder(
    model: str,
    source: DataSet,
    held_out: DataSet | None,
    into: Path,
    out: Path,
    reading: dict[str, int],
    batch_size: int,
    say: Say,
) -> Evaluation:
    """Evaluate a run, or any model with a span head, and write the files of an evaluation.

    Args:
        model: a run, or any model with a span head.
        source: the data.
        held_out: data to fit the threshold on. The run's own threshold, or 0, if None.
        into: the folder to write into.
        out: the final name of this folder, for messages.
        reading: max_tokens, stride and max_answer_tokens, where they differ from training.
        batch_size: windows read at the same time.
        say: called with lines about the results.
    """
    decoder, fitted = _decoder(model, reading, batch_size, source.source)
    if held_out is not None:
        fitted = fit_null_threshold(decoder, held_out)
        fitted.write(into)
    if fitted is not None:
        fitted.check_unseen(source)
        decoder = replace(decoder, threshold=fitted.value)
    result = evaluate_squad(decoder, source.documents)
    name = Path(model).name
    title = f"{name} on {Path(source.source).name}"
    write_evaluation(result, into, title, facts_of(model, source.source, KIND), loss_of(expand(model)))
    run.write_json(into / MADE_BY, _made_by(decoder, fitted, source, model))
    say(f"{len(result.scored)} questions in {result.seconds:.0f} s. Files in {out}. Open {out / REPORT}.")
    say(f"threshold {fitted.value:.3f}, fitted on {fitted.source}" if fitted else "threshold 0, not fitted")
    return result


def _decoder(
    model: str, reading: dict[str, int], batch_size: int, source: str
) -> tuple[EncoderDecoder, NullThreshold | None]:
    """The decoder, and its fitted threshold if there is one.

    A run reads as in training, unless `reading` differs.
    """
    folder = expand(model)
    is_run = (folder / SETTINGS).is_file()
    settings = EncoderSettings.read(folder) if is_run else EncoderSettings(model, "")
    settings = replace(settings, **reading)  # type: ignore[arg-type]  # integers, by the names of integers
    encoder = load_encoder(str(trained_encoder(folder)) if is_run else model, settings.windowing)
    decoder = EncoderDecoder(
        encoder,
        settings.windowing,
        max_answer_tokens=settings.max_answer_tokens,
        batch_size=batch_size,
        source=source,
    )
    return decoder, NullThreshold.read(folder) if is_run else None


def _made_by(decoder: EncoderDecoder, fitted: NullThreshold | None, source: DataSet, model: str) -> dict[str, Any]:
    """The record of what the figures depend on."""
    return {
        **run.environment(),
        "model": model,
        "decoder": KIND,
        "max_tokens": decoder.windowing.max_tokens,
        "stride": decoder.windowing.stride,
        "max_answer_tokens": decoder.max_answer_tokens,
        "threshold": decoder.threshold,
        "threshold_fitted_on": fitted.source if fitted else None,
        "data": source.describe(),
    }
