"""Names, units and explanations of the figures of a training run, by stage, in the order of the page."""

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
    """A value to compare a figure with, marked by a dashed line.

    Attributes:
        value: the value, in the unit of the axis.
        meaning: what the value stands for.
    """

    value: float
    meaning: str


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure, or two that belong on one axis.

    Attributes:
        keys: their names in metrics.jsonl.
        title: their name in plain words.
        label: the unit, for the axis.
        reading: an explanation: the meaning, what is good, and what to do otherwise.
        names: a name for each line, where there are two.
        scale: factor by which the logged values are multiplied.
        guides: values to compare with.
        least: smaller values are drawn at this value.
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
    """The figures in a run's log, by group. Each is in exactly one group, and figures without an explanation are last.

    No group is empty. Figures that are never a finite number are left out, and `TrainingRun.num_broken` counts them.
    """
    drawable = [key for key in run.keys if run.points(key)]
    own = _of_stage(run)
    known: Groups = {**own, LEARNING: [*own[LEARNING], *_learning(run)], SPEED: _speed(drawable)}
    groups: Groups = {}
    for name, figures in known.items():
        present = [part for figure in figures if (part := _known_part(figure, drawable))]
        if present:
            groups[name] = present
    named = {key for figures in groups.values() for figure in figures for key in figure.keys}
    others = [_plain(key) for key in drawable if key not in named]
    return {**groups, **({OTHERS: others} if others else {})}


def _of_stage(run: TrainingRun) -> Groups:
    """The figures that only a run's own stage has, and its loss."""
    if run.stage in STAGES:
        own: Groups = resolve(STAGES[run.stage].figures)(run)
        return own
    return {LEARNING: [loss_figure("loss", "What training minimises. It should fall.")]}


def _known_part(figure: Figure, drawable: Sequence[str]) -> Figure | None:
    """A figure with the lines that the log holds. None if it holds none of them."""
    held = [(key, name) for key, name in zip(figure.keys, figure.names, strict=True) if key in drawable]
    return replace(figure, keys=tuple(k for k, _ in held), names=tuple(n for _, n in held)) if held else None


def not_drawable(run: TrainingRun) -> list[str]:
    """Names in the log that no chart can show, because their value is never a finite number."""
    return [key for key in run.keys if not run.points(key)]


def sft_figures(_: TrainingRun) -> Groups:
    """The figures of fine-tuning: the loss."""
    reading = (
        "How improbable the model finds the right answers of the training data. It should fall fast, then slowly. If "
        "it rises again, lower train.learning_rate. A low loss here says nothing about other documents: evaluate on "
        "those."
    )
    return {LEARNING: [loss_figure("loss (nats per learned token)", reading)]}


def loss_figure(label: str, reading: str, guides: tuple[Guide, ...] = ()) -> Figure:
    """The loss of a stage."""
    return Figure(("loss",), "Loss", label, reading, guides=guides)


def share(key: str, title: str, reading: str, guide: float, meaning: str) -> Figure:
    """A share, in percent, with a guide."""
    return Figure((key,), title, "%", reading, scale=100.0, guides=(Guide(100 * guide, meaning),))


def _learning(run: TrainingRun) -> list[Figure]:
    norm = run.setting("train", "max_grad_norm")
    clip = (Guide(norm, "train.max_grad_norm, to which longer gradients are scaled down"),) if norm else ()
    return [
        Figure(
            ("learning_rate",),
            "Learning rate",
            "a step",
            "How far a step moves the weights, as train.schedule plans it. Look here when another figure changes its "
            "course.",
        ),
        Figure(
            ("grad_norm",),
            "Gradient norm",
            "before clipping",
            "The length of the gradient. Single peaks are harmless. If it climbs to many times its first values, "
            "training is unstable: lower train.learning_rate.",
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
                "a second, since the start",
                "The mean speed since the start, so it levels off. If it falls slowly, other programs use this "
                "machine too.",
            )
            for key in rates
        ),
        Figure(
            (SECONDS,),
            "Time of a step",
            "seconds",
            "It varies with the length of documents and completions. The first step may take longer.",
        ),
        Figure(
            (MEMORY,),
            "Memory of the process",
            "MiB",
            "It should level off after the first steps. If it keeps climbing, the system will end the process: use "
            "smaller steps (train.trees_per_step).",
        ),
    ]


def _plain(key: str) -> Figure:
    return Figure(
        (key,),
        key.replace("_", " "),
        "as logged",
        "This page has no explanation for this figure. It is shown as it is in the log.",
    )
