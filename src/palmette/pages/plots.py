"""Plots of a run, and of a sweep over learning rates."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from palmette.evaluate.retention.scores import Retention
from palmette.run import read_log, write_bytes

PALE, DARK, CLAY, BLUE, GREY = "#b9c9b0", "#3b6b2e", "#b4532a", "#31688e", "#808080"


@dataclass(frozen=True, slots=True)
class SweepPoint:
    """One fine-tuned model of a sweep.

    Attributes:
        learning_rate: peak learning rate; above 0.
        exact: exact match on the task, in percent.
        kl: KL divergence from the untouched model on chat completions, in nats per token.
        perplexity_ratio: perplexity on general text, divided by that of the untouched model; above 0.
    """

    learning_rate: float
    exact: float
    kl: float
    perplexity_ratio: float


def plot_loss(metrics_log: Path, out: Path, title: str, *, unit: str = "loss (nats per learned token)") -> None:
    """The loss of each optimizer step as a PNG: single steps pale, their running mean on top.

    Args:
        metrics_log: the run's metrics.jsonl.
        out: the PNG to write.
        title: the plot's title.
        unit: the unit of the loss.
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
    axes.plot(steps, losses, color=PALE, linewidth=1, label="step")
    axes.plot(steps, means, color=DARK, linewidth=2, label=f"mean of {window} steps")
    axes.set(xlabel="optimizer step", ylabel=unit, title=title)
    if min(losses) >= 0:  # a policy's loss may lie below
        axes.set_ylim(bottom=0)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    save(figure, out)


@dataclass(frozen=True)
class FrontierPoint:
    """A policy.

    Attributes:
        name: its name. Points of one name get one colour.
        kl: KL divergence from the reference, in nats per completion.
        exact: exact match of its sampled completions, in percent.
    """

    name: str
    kl: float
    exact: float


def plot_frontier(points: Sequence[FrontierPoint], out: Path, reference: str) -> None:
    """Draw exact match of sampled completions against the KL divergence from the reference, as a PNG.

    Args:
        points: the policies.
        out: the PNG to write.
        reference: the name of the reference.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    for name in dict.fromkeys(point.name for point in points):
        own = [point for point in points if point.name == name]
        axes.plot([point.kl for point in own], [point.exact for point in own], "o", label=name)
    axes.set(
        xlabel=f"KL divergence from {reference} (nats a completion)", ylabel="exact match of sampled completions (%)"
    )
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    save(figure, out)


def plot_rollouts(metrics_log: Path, out: Path, title: str) -> None:
    """Draw reward, KL divergence, entropy and length of completions over the optimizer steps, as a PNG.

    Args:
        metrics_log: metrics.jsonl of a run that learned from rollouts. A figure that is not in it stays empty.
        out: the PNG to write.
        title: the plot's title.
    """
    from matplotlib.figure import Figure

    lines = read_log(metrics_log)
    figure = Figure(figsize=(10, 6), layout="constrained")
    figure.suptitle(title)
    shown = {
        "reward": "reward a completion",
        "kl": "KL divergence to the reference (nats a completion)",
        "entropy": "entropy (nats a token)",
        "completion_tokens": "tokens a completion",
    }
    for axes, (name, label) in zip(figure.subplots(2, 2).flat, shown.items(), strict=True):
        counted = [(line["step"], line[name]) for line in lines if name in line]
        axes.plot([step for step, _ in counted], [value for _, value in counted], color=DARK, linewidth=1)
        axes.set(xlabel="optimizer step", ylabel=label)
        axes.spines[["top", "right"]].set_visible(False)
    save(figure, out)


def save(figure: Any, out: Path) -> None:
    """Write a matplotlib figure as a PNG, whole or not at all."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=150)
    write_bytes(out, stream.getvalue())


def plot_retention(result: Retention, out: Path, title: str) -> None:
    """A model's retention as a PNG: perplexity of each passage before and after, KL divergence of each prompt.

    Args:
        result: the measurements.
        out: the PNG to write.
        title: the plot's title.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 5.5), layout="constrained")
    figure.suptitle(title)
    texts, prompts = figure.subplots(1, 2)
    pairs = sorted(zip(result.before, result.after, strict=True), key=lambda pair: pair[0].perplexity)
    before, after = [b.perplexity for b, _ in pairs], [a.perplexity for _, a in pairs]
    rows = range(len(pairs))
    texts.hlines(rows, before, after, color=PALE, linewidth=2)
    texts.scatter(before, rows, color=GREY, label="untouched")
    texts.scatter(after, rows, color=DARK, label="tuned")
    texts.set_yticks(rows, [b.id for b, _ in pairs])
    texts.set(xlabel="perplexity", title="General text")
    texts.legend(frameon=False)
    completions = sorted(result.completions, key=lambda completion: completion.kl)
    colours = [PALE if completion.unchanged else CLAY for completion in completions]
    prompts.barh(range(len(completions)), [completion.kl for completion in completions], color=colours)
    prompts.set_yticks(range(len(completions)), [completion.id for completion in completions])
    prompts.set(
        xlabel="KL from untouched (nats per token)", title="Chat completions (pale: greedy completion unchanged)"
    )
    for axes in (texts, prompts):
        axes.spines[["top", "right"]].set_visible(False)
    save(figure, out)


def plot_forgetting(points: Sequence[SweepPoint], path: Path, *, untouched_exact: float | None = None) -> None:
    """Draw the gain of each learning rate on the task, and its cost on general text and chats, as a PNG.

    Args:
        points: the sweep's models. Where there are several of one learning rate (seeds), the line goes through their
            means.
        path: the PNG to write.
        untouched_exact: exact match of the untouched model, in percent, if it is known.

    Raises:
        ValueError: there are no points.
    """
    save(forgetting_figure(points, untouched_exact=untouched_exact), path)


def forgetting_figure(points: Sequence[SweepPoint], *, untouched_exact: float | None = None) -> Any:
    """The figure of `plot_forgetting`: exact match above, retention below, over the same learning rates.

    Both curves below are in nats per token, so they share one axis. One is the KL divergence. The other is the rise of
    the mean negative log-likelihood, which is the logarithm of the perplexity ratio. The axis on the right shows the
    ratio.
    """
    from matplotlib.figure import Figure

    if not points:
        raise ValueError("no points to plot")
    figure = Figure(figsize=(7, 6.5), layout="constrained")
    task, cost = figure.subplots(2, sharex=True)
    _curve(task, [(p.learning_rate, p.exact) for p in points], DARK, "o", "fine-tuned")
    if untouched_exact is not None:
        task.axhline(untouched_exact, color=GREY, linestyle="--", linewidth=1, label="untouched")
    task.set(xscale="log", ylabel="exact match (%)", title="Learned on the task")
    _curve(cost, [(p.learning_rate, p.kl) for p in points], CLAY, "s", "chat completions: KL from untouched")
    rises = [(p.learning_rate, math.log(p.perplexity_ratio)) for p in points]
    _curve(cost, rises, BLUE, "^", "general text: ln of the perplexity ratio")
    cost.axhline(0.0, color=GREY, linestyle="--", linewidth=1)
    cost.set(xlabel="learning rate", ylabel="nats per token", title="Lost on general text and chats")
    right = cost.secondary_yaxis("right")
    right.yaxis.set_major_formatter(lambda nats, _: f"{math.exp(nats):.3g}" if nats < 50 else "")
    right.set_ylabel("perplexity ratio")
    for axes in (task, cost):
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False)
    return figure


def _curve(axes: Any, points: Sequence[tuple[float, float]], color: str, marker: str, label: str) -> None:
    """Single points pale, a line through the mean of each x on top."""
    groups: dict[float, list[float]] = {}
    for x, y in sorted(points):
        groups.setdefault(x, []).append(y)
    axes.scatter(*zip(*points, strict=True), color=color, alpha=0.35, marker=marker, linewidths=0)
    means = [sum(values) / len(values) for values in groups.values()]
    axes.plot(list(groups), means, color=color, marker=marker, label=label)
