"""`palmette report`, and the pictures and the page that each training command leaves."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

LOSS_PLOT, ROLLOUTS_PLOT = "loss.png", "rollouts.png"
_ROLLOUT_STAGES = ("grpo", "ppo")


def report(run: Annotated[Path, typer.Argument(help="A run folder of `palmette train`, finished or not.")]) -> None:
    """Write a training run's page, training.html, anew: figures, warnings, curves, samples over time.

    Every training command writes it at its end; this shows a run that is still going on, or was stopped.
    """
    leave_page(run.expanduser())


def draw_run(folder: Path, name: str | None = None) -> None:
    """Draw a finished run's training: its loss, and what its rollouts earned if it learned from them; and write its page.

    Args:
        folder: the run folder.
        name: what the pictures call it; the folder's name if None.
    """
    from palmette import run
    from palmette.evaluate.plots import plot_loss, plot_rollouts

    stage = run.stage_of(folder)
    log = folder / run.METRICS_LOG
    unit = "loss (nats per learned token)" if stage == "sft" else "loss"
    plot_loss(log, folder / LOSS_PLOT, title=f"Training loss, {name or folder.name}", unit=unit)
    if stage in _ROLLOUT_STAGES:
        plot_rollouts(log, folder / ROLLOUTS_PLOT, title=f"Rollouts, {name or folder.name}")
    leave_page(folder)


def leave_page(folder: Path) -> None:
    """Write a run's page, and say where it is and what it warns of."""
    from palmette.cli.show import stderr
    from palmette.evaluate.training_report import TRAINING, write_training_report

    news = stderr()
    for finding in write_training_report(folder):
        if finding.raised:
            news.print(f"warning: {finding.rule} Here: {finding.found}. {finding.advice}")
    news.print(f"look at {folder / TRAINING}")
