"""Plots of a run."""

from __future__ import annotations

import io
from pathlib import Path

from palmette.run import read_log, write_bytes


def plot_loss(metrics_log: Path, out: Path, title: str) -> None:
    """The loss of each optimizer step as a PNG: single steps pale, their running mean on top.

    Args:
        metrics_log: the run's metrics.jsonl.
        out: where the PNG goes.
        title: the plot's title.
    """
    from matplotlib.figure import Figure

    lines = read_log(metrics_log)
    steps, losses = [line["step"] for line in lines], [line["loss"] for line in lines]
    window = max(1, len(losses) // 10)
    means = [
        sum(losses[max(0, i - window + 1) : i + 1]) / len(losses[max(0, i - window + 1) : i + 1])
        for i in range(len(losses))
    ]
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot(steps, losses, color="#b9c9b0", linewidth=1, label="step")
    axes.plot(steps, means, color="#3b6b2e", linewidth=2, label=f"mean of {window} steps")
    axes.set(xlabel="optimizer step", ylabel="loss (nats per learned token)", title=title)
    axes.set_ylim(bottom=0)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=150)
    write_bytes(out, stream.getvalue())
