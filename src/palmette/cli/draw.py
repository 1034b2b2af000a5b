"""The pictures of a finished run of any stage."""

from __future__ import annotations

import json
from pathlib import Path

from palmette import run
from palmette.evaluate.plots import plot_loss, plot_rollouts

LOSS_PLOT, ROLLOUTS_PLOT = "loss.png", "rollouts.png"
_ROLLOUT_STAGES = ("grpo", "ppo")


def draw_run(folder: Path) -> None:
    """Draw a run's training: its loss, and what its rollouts earned if it learned from them.

    Args:
        folder: the run folder.
    """
    stage = json.loads((folder / run.MANIFEST).read_text(encoding="utf-8")).get("stage", "sft")
    log = folder / run.METRICS_LOG
    unit = "loss (nats per learned token)" if stage == "sft" else "loss"
    plot_loss(log, folder / LOSS_PLOT, title=f"Training loss, {folder.name}", unit=unit)
    if stage in _ROLLOUT_STAGES:
        plot_rollouts(log, folder / ROLLOUTS_PLOT, title=f"Rollouts, {folder.name}")
