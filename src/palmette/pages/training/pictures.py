"""The pictures of a finished run."""

from __future__ import annotations

from pathlib import Path

from palmette.cli.report import leave_page

LOSS_PLOT, ROLLOUTS_PLOT = "loss.png", "rollouts.png"


_ROLLOUT_STAGES = ("grpo", "ppo")


def draw_run(folder: Path, name: str | None = None) -> None:
    """Draw a finished run's training: its loss, and what its rollouts earned if it learned from them; and write its page.

    Args:
        folder: the run folder.
        name: what the pictures call it; the folder's name if None.
    """
    from palmette import run
    from palmette.pages.plots import plot_loss, plot_rollouts

    stage = run.stage_of(folder)
    log = folder / run.METRICS_LOG
    unit = "loss (nats per learned token)" if stage == "sft" else "loss"
    plot_loss(log, folder / LOSS_PLOT, title=f"Training loss, {name or folder.name}", unit=unit)
    if stage in _ROLLOUT_STAGES:
        plot_rollouts(log, folder / ROLLOUTS_PLOT, title=f"Rollouts, {name or folder.name}")
    leave_page(folder)
