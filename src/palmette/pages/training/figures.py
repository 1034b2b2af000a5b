"""What the figures of a training run are called, what they are counted in, and how to read them; by stage, in the order of the page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from palmette.pages.training.run import TrainingRun
from palmette.train.stages import STAGES, resolve

REWARDS = {
    "exact": "exact match",
    "f1": "F1",
    "valid_json": "valid JSON",
    "abstention": "right abstention",
    "model": "reward model",
}
SECONDS, PER_SECOND, MEMORY = "seconds", "_per_second", "resident_mib"
LEARNING, SPEED, OTHERS = "Learning", "Speed and memory", "Other figures"


@dataclass(frozen=True, slots=True)
class Guide:
    """A value to hold a figure against, marked by a dashed line.

    Attributes:
        value: in the unit of the axis.
        meaning: what it is.
    """

    value: float
    meaning: str


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure, or two that belong on one axis.

    Attributes:
        keys: what metrics.jsonl calls them.
        title: what they are, in plain words.
        label: the unit, for the axis.
        reading: what is good, and what is a warning sign.
        names: what sets each apart, where there are two.
        scale: what the logged values are multiplied by.
        guides: values to hold them against.
        least: what lies below is drawn there.
    """

    keys: tuple[str, ...]
    title: str
    label: str
    reading: str
    names: tuple[str, ...] = ("",)
    scale: float = 1.0
    guides: tuple[Guide, ...] = ()
    least: float | None = None


Groups = dict[str, list[Figure]]


def figure_groups(run: TrainingRun) -> Groups:
    """The figures that a run's log holds, by group, each in exactly one; what is not known here is among the others, as it is.

    A group is empty nowhere. Figures that are never a finite number are left out (`TrainingRun.num_broken` counts those).
    """
    drawable = [key for key in run.keys if run.points(key)]
    own = _of_stage(run)
    known: Groups = {**own, LEARNING: [*own[LEARNING], *_learning(run)], SPEED: _speed(drawable)}
    groups: Groups = {}
    for name, figures in known.items():
        here = [found for figure in figures if (found := _known_part(figure, drawable))]
        if here:
            groups[name] = here
    named = {key for figures in groups.values() for figure in figures for key in figure.keys}
    others = [_plain(key) for key in drawable if key not in named]
    return {**groups, **({OTHERS: others} if others else {})}


def _of_stage(run: TrainingRun) -> Groups:
    """The figures that a run's stage has of its own, its loss among them."""
    if run.stage in STAGES:
        own: Groups = resolve(STAGES[run.stage].figures)(run)
        return own
    return {LEARNING: [loss_figure("loss", "Should fall.")]}


def _known_part(figure: Figure, drawable: Sequence[str]) -> Figure | None:
    """A figure with those of its lines that the log holds; None if it holds none."""
    held = [(key, name) for key, name in zip(figure.keys, figure.names, strict=True) if key in drawable]
    return replace(figure, keys=tuple(k for k, _ in held), names=tuple(n for _, n in held)) if held else None


def not_drawable(run: TrainingRun) -> list[str]:
    """Names in the log that no chart can show, since their value is never a finite number."""
    return [key for key in run.keys if not run.points(key)]


def sft_figures(_: TrainingRun) -> Groups:
    """The figures of fine-tuning: the loss."""
    reading = "Falls fast, then slowly. Rising again: lower train.learning_rate. What it is worth on others, an evaluation says."
    return {LEARNING: [loss_figure("loss (nats per learned token)", reading)]}


def loss_figure(label: str, reading: str, guides: tuple[Guide, ...] = ()) -> Figure:
    """The loss of a stage."""
    return Figure(("loss",), "Loss", label, reading, guides=guides)


def share(key: str, title: str, reading: str, guide: float, meaning: str) -> Figure:
    """A share, in percent, with a guide at a share."""
    return Figure((key,), title, "%", reading, scale=100.0, guides=(Guide(100 * guide, meaning),))


def _learning(run: TrainingRun) -> list[Figure]:
    norm = run.setting("train", "max_grad_norm")
    clip = (Guide(norm, "train.max_grad_norm: longer gradients are scaled down to it"),) if norm else ()
    return [
        Figure(
            ("learning_rate",),
            "Learning rate",
            "a step",
            "As train.schedule plans it; look here when another figure turns.",
        ),
        Figure(
            ("grad_norm",),
            "Gradient norm",
            "before clipping",
            "Single peaks are harmless; a climb to many times the beginning is a warning sign.",
            guides=clip,
        ),
    ]


def _speed(keys: Iterable[str]) -> list[Figure]:
    rates = [key for key in keys if key.endswith(PER_SECOND)]
    return [
        *(
            Figure(
                (key,),
                f"{key.removesuffix(PER_SECOND).replace('_', ' ').capitalize()} a second",
                "a second, since the beginning",
                "A mean since the beginning, so it levels off. A slow fall: the machine does other things too.",
            )
            for key in rates
        ),
        Figure(
            (SECONDS,),
            "Time of a step",
            "seconds",
            "Differs with the length of documents and completions. The first step may take longer.",
        ),
        Figure(
            (MEMORY,),
            "Memory of the process",
            "MiB",
            "Should level off after the first steps; a climb without end is ended by the system.",
        ),
    ]


def _plain(key: str) -> Figure:
    return Figure(
        (key,), key.replace("_", " "), "as logged", "A figure that this page does not know, as it stands in the log."
    )
