"""The commands under `palmette baseline`: other ways to answer, under the same metrics and report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

baseline_app = typer.Typer(no_args_is_help=True)

NewFolder = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option("--out", help="Folder for the run and its results, which must not exist."),
]
ModelOption = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option("--model", help="Train nothing; evaluate this run, or any model with a span head."),
]
ResumeOption = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option("--resume", help="Go on with this run, which was stopped, then evaluate it."),
]
ThresholdOption = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option("--threshold", help="Held-out data to fit on how much better no answer has to score; without it 0."),
]
TokensOption = Annotated[
    Optional[int],  # noqa: UP045
    typer.Option("--max-tokens", min=8, help="Tokens of a window; 384, or the run's."),
]
StrideOption = Annotated[
    Optional[int],  # noqa: UP045
    typer.Option("--stride", min=0, help="Tokens that neighbouring windows share; 128, or the run's."),
]
AnswerOption = Annotated[
    Optional[int],  # noqa: UP045
    typer.Option("--max-answer-tokens", min=1, help="The longest answer; 30, or the run's."),
]
LimitOption = Annotated[
    Optional[int],  # noqa: UP045
    typer.Option("--limit", min=1, help="Use the first N documents of each data set only."),
]


@baseline_app.callback()
def baselines() -> None:
    """Other ways to answer, trained and measured under the same metrics and report."""


@baseline_app.command("encoder")
def baseline_encoder(
    data: Annotated[str, typer.Option(help="To evaluate on: builtin:test, a .json or .jsonl file, a hub data set.")],
    train: Annotated[Optional[str], typer.Option(help="To train on; builtin:train, say.")] = None,  # noqa: UP045
    out: NewFolder = None,
    encoder: Annotated[str, typer.Option(help="A folder, a hub id, or minilm (all-MiniLM-L6-v2).")] = "minilm",
    model: ModelOption = None,
    resume: ResumeOption = None,
    threshold: ThresholdOption = None,
    epochs: Annotated[float, typer.Option(min=0.01, help="How often each window is learned.")] = 2.0,
    learning_rate: Annotated[float, typer.Option(min=0.0, help="Its peak.")] = 5e-5,
    batch_size: Annotated[int, typer.Option(min=1, help="Windows side by side.")] = 16,
    seed: Annotated[int, typer.Option(min=0, help="Of the span head, the order of windows, and dropout.")] = 0,
    max_tokens: TokensOption = None,
    stride: StrideOption = None,
    max_answer_tokens: AnswerOption = None,
    limit: LimitOption = None,
) -> None:
    """Train an encoder with a span head (as BERT on SQuAD v2) and evaluate it; or evaluate one that is trained."""
    if sum(choice is not None for choice in (train, model, resume)) != 1:
        raise typer.BadParameter("give one of --train DATA, --model FOLDER and --resume RUN")
    if (out is None) is (resume is None):
        raise typer.BadParameter("give --out FOLDER, unless --resume RUN takes the results")
    from palmette.cli.encoder import run_baseline_encoder

    run_baseline_encoder(
        data,
        out,
        encoder=encoder,
        train=train,
        model=model,
        resume=resume,
        threshold=threshold,
        limit=limit,
        training={"epochs": epochs, "learning_rate": learning_rate, "batch_size": batch_size, "seed": seed},
        reading={"max_tokens": max_tokens, "stride": stride, "max_answer_tokens": max_answer_tokens},
    )
