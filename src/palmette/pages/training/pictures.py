"""The pictures and the page that a training run leaves."""

from __future__ import annotations

from pathlib import Path

from palmette import run
from palmette.pages.plots import plot_loss, plot_rollouts
from palmette.pages.training.report import TRAINING, write_training_report
from palmette.progress import Say
from palmette.train.stages import STAGES

LOSS_PLOT, ROLLOUTS_PLOT = "loss.png", "rollouts.png"


def draw_run(folder: Path, say: Say, name: str | None = None) -> None:
    """Draw the loss of a finished run, and the rewards of its rollouts if it has any, and write its page.

    Args:
        folder: the run folder.
        say: called with a line about the page.
        name: what the pictures call it; the folder's name if None.
    """
    stage = STAGES.get(run.stage_of(folder))
    log = folder / run.METRICS_LOG
    unit = f"loss ({stage.loss_unit})" if stage and stage.loss_unit else "loss"
    plot_loss(log, folder / LOSS_PLOT, title=f"Training loss, {name or folder.name}", unit=unit)
    if stage and stage.samples:
        plot_rollouts(log, folder / ROLLOUTS_PLOT, title=f"Rollouts, {name or folder.name}")
    leave_page(folder, say)


def leave_page(folder: Path, say: Say) -> None:
    """Write the page of a run, finished or not, and say where it is and what it warns of.

    Raises:
        RunError: see `write_training_report`.
    """
    for finding in write_training_report(folder):
        if finding.raised:
            say(f"warning: {finding.rule} Here: {finding.found}. {finding.advice}")
    say(f"look at {folder / TRAINING} for the course of the training")
