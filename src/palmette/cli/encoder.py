"""The body of `baseline encoder`: train an encoder with a span head, evaluate it like everything else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from palmette import run
from palmette.baselines.encoder_training import EncoderSettings, resume_encoder, train_encoder
from palmette.baselines.evaluation import check_apart, evaluate_encoder
from palmette.cli.console import metrics_table, stderr, stdout
from palmette.data.source import read_source
from palmette.evaluate.record import HELD_OUT_SPLIT
from palmette.pages.plots import plot_loss
from palmette.pages.training.pictures import LOSS_PLOT
from palmette.train.callbacks import TrainingInterrupted


def run_baseline_encoder(
    data: str,
    out: Path | None,
    *,
    encoder: str,
    train: str | None,
    model: str | None,
    resume: Path | None,
    threshold: str | None,
    limit: int | None,
    training: dict[str, Any],
    reading: dict[str, int | None],
) -> None:
    """`palmette baseline encoder`.

    Args:
        data: what to evaluate on.
        out: the new folder; None to resume.
        encoder: what to train.
        train: what to train it on, if anything is trained anew.
        model: what to evaluate without training.
        resume: the run to go on with.
        threshold: what to fit the threshold on.
        limit: use the first so many documents of each.
        training: epochs, learning_rate, batch_size, seed.
        reading: max_tokens, stride, max_answer_tokens; None for the run's own, or the default.
    """
    source = read_source(data, default_split=HELD_OUT_SPLIT, limit_documents=limit)
    held_out = read_source(threshold, default_split=HELD_OUT_SPLIT, limit_documents=limit) if threshold else None
    if held_out is not None:
        check_apart(source, held_out, train, resume or (Path(model).expanduser() if model else None))
    given = {name: value for name, value in reading.items() if value is not None}
    if model is not None:
        assert out is not None
        with run.whole_folder(out) as staging:
            result = evaluate_encoder(
                model, source, held_out, staging, out, given, training["batch_size"], stderr().print
            )
        stdout().print(metrics_table({Path(model).name: result.metrics}, result.intervals))
        return
    folder = _train(out, resume, EncoderSettings(encoder, train, limit, **training, **given) if train else None)
    result = evaluate_encoder(str(folder), source, held_out, folder, folder, {}, training["batch_size"], stderr().print)
    stdout().print(metrics_table({folder.name: result.metrics}, result.intervals))


def _train(out: Path | None, resume: Path | None, settings: EncoderSettings | None) -> Path:
    """Train, or go on training; the run folder."""
    news = stderr()
    folder = (resume or out or Path()).expanduser()
    try:
        if settings is None:
            resume_encoder(folder, news.print)
        else:
            train_encoder(settings, folder, news.print)
    except TrainingInterrupted as stop:
        news.print(str(stop))
        raise typer.Exit(130) from stop
    plot_loss(folder / run.METRICS_LOG, folder / LOSS_PLOT, title=f"Training loss, {folder.name}")
    return folder
