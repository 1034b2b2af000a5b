"""`palmette baseline encoder`: another way to answer, under the same metrics and report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from palmette.cli.options import MODEL, PATH, QUESTIONS, SOURCES, LimitOption, SeedOption

WindowOption = Annotated[
    int | None, typer.Option(min=8, help="Tokens of a window. By default 384, or as the run was trained.")
]
StrideOption = Annotated[
    int | None,
    typer.Option(min=0, help="Tokens that neighbouring windows share. By default 128, or as the run was trained."),
]
AnswerOption = Annotated[
    int | None, typer.Option(min=1, help="Longest answer, in tokens. By default 30, or as the run was trained.")
]


def baseline_encoder(
    data: Annotated[str, typer.Option(help=f"Questions to evaluate on: {SOURCES}.", **QUESTIONS)],
    train: Annotated[
        str | None, typer.Option(help="Questions to train on, such as builtin:train.", **QUESTIONS)
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the run and its results. It must not exist.", **PATH)
    ] = None,
    encoder: Annotated[
        str, typer.Option(help="Encoder to train: a folder, a hub id, or minilm (all-MiniLM-L6-v2).", **MODEL)
    ] = "minilm",
    model: Annotated[
        str | None,
        typer.Option(help="Train nothing, and evaluate this run, or any model with a span head.", **MODEL),
    ] = None,
    resume: Annotated[
        Path | None, typer.Option(help="Continue this run, which was stopped, and evaluate it.", **PATH)
    ] = None,
    threshold: Annotated[
        str | None,
        typer.Option(help="Held-out questions to fit the threshold of no answer on. By default it is 0.", **QUESTIONS),
    ] = None,
    epochs: Annotated[float, typer.Option(min=0.01, help="Passes over the training data.")] = 2.0,
    learning_rate: Annotated[float, typer.Option(min=0.0, help="Peak learning rate.")] = 5e-5,
    batch_size: Annotated[int, typer.Option(min=1, help="Windows of an optimizer step.")] = 16,
    seed: SeedOption = 0,
    window_tokens: WindowOption = None,
    stride: StrideOption = None,
    max_answer_tokens: AnswerOption = None,
    limit: LimitOption = None,
) -> None:
    """Train and evaluate an encoder with a span head.

    This is how BERT answers SQuAD v2. With --model nothing is trained.
    """
    if sum(choice is not None for choice in (train, model, resume)) != 1:
        raise typer.BadParameter("give one of --train DATA, --model FOLDER and --resume RUN")
    if (out is None) is (resume is None):
        raise typer.BadParameter("give --out FOLDER, unless --resume RUN takes the results")
    from palmette.baselines.encoder_training import SETTINGS, EncoderSettings
    from palmette.baselines.job import EncoderJob, run_encoder_job
    from palmette.cli.console import metrics_table, stderr, stdout
    from palmette.inference.nearby import check_there
    from palmette.train.steps.callbacks import TrainingInterrupted

    if resume is not None:
        check_there(resume, "Give a folder that `palmette baseline encoder` wrote.", file=SETTINGS)
    given = {"max_tokens": window_tokens, "stride": stride, "max_answer_tokens": max_answer_tokens}
    reading = {name: value for name, value in given.items() if value is not None}
    training = None
    if train is not None:
        how = {"epochs": epochs, "learning_rate": learning_rate, "batch_size": batch_size, "seed": seed, **reading}
        training = EncoderSettings(encoder, train, limit, **how)  # type: ignore[arg-type]  # names of numbers
    job = EncoderJob(data, training, model, resume, out, threshold, limit, reading, batch_size)
    try:
        name, result = run_encoder_job(job, stderr().print)
    except TrainingInterrupted as stop:
        stderr().print(str(stop))
        raise typer.Exit(stop.exit_code) from stop
    stdout().print(metrics_table({name: result.metrics}, result.intervals))
