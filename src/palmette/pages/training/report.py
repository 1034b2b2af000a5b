"""training.html: one self-contained file that shows a training run of any stage, finished or not, from its folder."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from palmette.numbers import count, duration, readable
from palmette.pages.charts import StepLine, axis_ends, steps_chart, window_of
from palmette.pages.page import render_page, write_page
from palmette.pages.training.figures import (
    LEARNING,
    PER_SECOND,
    SECONDS,
    SPEED,
    Figure,
    Groups,
    figure_groups,
    not_drawable,
)
from palmette.pages.training.run import FIRST_LOG, Points, TrainingRun, is_number, read_training_run
from palmette.pages.training.samples import choose_evenly, group_by_step, repeated_questions, sample_rows, to_cards
from palmette.pages.training.warnings import Finding, find_warnings
from palmette.train.stages import STAGES

TRAINING = "training.html"
_MAIN_NAMES = {
    "desirable_reward": "Reward of good ones",
    "undesirable_reward": "Reward of bad ones",
    "kl": "KL divergence",
}
Fact = tuple[str, Any]  # a name, and its text or a list of facts
_MODELS = {"start": "starts from", "reference": "reference", "reward_model": "reward model"}


def write_training_report(folder: Path) -> list[Finding]:
    """Write a run's page into its folder, from the files there.

    Returns:
        The rules for warning signs with their results, those that warn first.

    Raises:
        RunError: the folder is no run folder, the run has taken no step yet, or a file cannot be read or written.
    """
    run = read_training_run(folder)
    findings = find_warnings(run)
    write_page(folder / TRAINING, render_training_report(run, findings))
    return findings


def render_training_report(run: TrainingRun, findings: list[Finding]) -> str:
    """The page of a run as HTML."""
    groups = figure_groups(run)
    cards = to_cards(run.samples)
    steps, repeated = group_by_step(cards), repeated_questions(cards)
    stage = STAGES.get(run.stage)
    return render_page(
        "training.html",
        styles=("page.css", "training.css"),
        scripts=("training.js",),
        title=f"{stage.title if stage else run.stage}, {run.name}",
        facts=list(_facts(run)),
        main_figures=list(_main_figures(run, groups)),
        last_values=list(_last_values(run, groups)),
        raised=[finding for finding in findings if finding.raised],
        findings=findings,
        groups=[*_chart_groups(run, groups), *_first_part(run)],
        unknown=not_drawable(run),
        sample_rows=sample_rows(steps, repeated),
        steps=choose_evenly(steps),
        num_steps_sampled=len(steps),
        repeated=repeated,
        rewards=sorted((card.sample.reward, card.reward) for card in cards),
        about=list(_about(run)),
    )


def _facts(run: TrainingRun) -> Iterator[Fact]:
    """The model, its start, the data, and the progress."""
    yield "Model", str(run.manifest.get("model", {}).get("name", "unknown"))
    start = run.manifest.get("start", {}).get("run")
    if start:
        yield "Begun from", str(start)
    yield "Data", ", ".join(str(source.get("source")) for source in run.manifest.get("data", ()))
    yield "Started", f"{str(run.manifest.get('created', ''))[:16].replace('T', ' ')} UTC"
    if run.finished:
        yield "State", "finished"
        return
    planned = f" of about {run.num_planned:,}" if run.num_planned is not None else ""
    written = f"{run.written:%Y-%m-%d %H:%M} UTC"
    yield "State", f"not finished: {run.num_steps:,}{planned} steps, the last one logged {written}"


def _main_figures(run: TrainingRun, groups: Groups) -> Iterator[dict[str, Any]]:
    planned = run.num_planned
    left = planned is not None and not run.finished and planned > run.num_steps
    yield _figure(
        "Steps",
        f"{run.num_steps:,}",
        f"of about {planned:,}" if left else "",
        f"Optimizer steps, or {readable(run.num_epochs)} pass{'' if run.num_epochs == 1 else 'es'} over the data.",
    )
    seconds = run.points(SECONDS)
    if seconds:
        value, unit = duration(seconds[-1][1]).split()
        yield _figure("Time", value, unit, "Training time, without interruptions.")
    yield from _rates(run, seconds)
    stage = STAGES.get(run.stage)
    held = [key for key in (*(stage.main if stage else ()), "loss") if run.points(key)]
    for key in held[:2]:
        yield _main_figure(run, groups, key)


def _main_figure(run: TrainingRun, groups: Groups, key: str) -> dict[str, Any]:
    """A figure at the end and at the start."""
    figure = next(figure for figures in groups.values() for figure in figures if key in figure.keys)
    first, last = (readable(figure.scale * value) for value in _ends(run.points(key)))
    unit = "%" if figure.label.startswith("%") else ""
    meaning = "At the end." if unit else f"At the end, in this unit: {figure.label}."
    return _figure(_MAIN_NAMES.get(key, figure.title), last, unit, meaning, f"{first} at first")


def _rates(run: TrainingRun, seconds: Points) -> Iterator[dict[str, Any]]:
    """Examples a second, and tokens a second where the tokens of an epoch are known."""
    rates = [key for key in run.keys if key.endswith(PER_SECOND) and run.points(key)]
    tokens = run.manifest.get("tokens")
    spent = seconds[-1][1] if seconds else 0.0
    also = (
        f" That is {readable(tokens * run.num_epochs / spent, 2)} tokens a second, where a shared token counts once."
        if is_number(tokens) and spent
        else ""
    )
    for key in rates:
        name = key.removesuffix(PER_SECOND).replace("_", " ").capitalize()
        yield _figure(name, readable(run.points(key)[-1][1], 2), "a second", f"On average.{also}")


def _last_values(run: TrainingRun, groups: Groups) -> Iterator[dict[str, Any]]:
    """The last and the first values of every figure, except those of speed."""
    for figure in (figure for name, figures in groups.items() if name != SPEED for figure in figures):
        for key, name in zip(figure.keys, figure.names, strict=True):
            first, last = (readable(figure.scale * value) for value in _ends(run.points(key)))
            title = f"{figure.title}, {name}" if name else figure.title
            yield _figure(title, last, "", figure.label, f"{first} at first")


def _figure(name: str, value: str, unit: str, meaning: str, aside: str = "") -> dict[str, Any]:
    return {"name": name, "value": value, "unit": unit, "meaning": meaning, "range": aside, "bar": ""}


def _ends(points: Points) -> tuple[float, float]:
    """The means over the first and the last twentieth of the steps."""
    window, values = window_of(len(points)), [value for _, value in points]
    return statistics.fmean(values[:window]), statistics.fmean(values[-window:])


def _chart_groups(run: TrainingRun, groups: Groups, name: str = "steps") -> list[dict[str, Any]]:
    """The charts by group. The names of their drawings begin with `name`."""
    numbers = {figure.keys: number for number, figure in enumerate(f for figures in groups.values() for f in figures)}
    return [
        {
            "name": group,
            "charts": [_chart(run, figure, f"{name}{numbers[figure.keys]}") for figure in figures],
        }
        for group, figures in groups.items()
    ]


def _first_part(run: TrainingRun) -> list[dict[str, Any]]:
    """The charts of the first part of a training, in which only pause tokens are learned. It has its own log."""
    if not run.first_lines:
        return []
    first = replace(run, lines=run.first_lines, stage="sft")
    learning = {LEARNING: figure_groups(first)[LEARNING]}
    (group,) = _chart_groups(first, learning, "first")
    return [{**group, "name": f"Before that, only pause tokens were learned ({FIRST_LOG})"}]


def _chart(run: TrainingRun, figure: Figure, name: str) -> dict[str, Any]:
    lines = [StepLine(_scaled(run, figure, key), called) for key, called in zip(figure.keys, figure.names, strict=True)]
    drawing = steps_chart(
        name,
        lines,
        title=figure.title,
        label=figure.label,
        guides=[guide.value for guide in figure.guides],
        least=figure.least,
    )
    notes = [figure.reading, *_guides(figure, lines), *_left_out(run, figure, lines)]
    return {"title": figure.title, "drawing": drawing, "note": " ".join(notes)}


def _scaled(run: TrainingRun, figure: Figure, key: str) -> Points:
    """A figure in the unit of its axis. The time since the start becomes the time of each step."""
    points = run.points(key)
    if key == SECONDS:
        before = [(0, 0.0), *points[:-1]]
        return [
            (step, (now - past) / max(1, step - last)) for (step, now), (last, past) in zip(points, before, strict=True)
        ]
    return [(step, figure.scale * value) for step, value in points]


def _guides(figure: Figure, lines: list[StepLine]) -> Iterator[str]:
    """The meaning of dashed lines, and of values outside the drawing."""
    bottom, top = axis_ends(lines, figure.least)
    for guide in figure.guides:
        words = guide.meaning if guide.meaning.startswith("ln 2") else f"{readable(guide.value)}, {guide.meaning}"
        yield f"{'Dashed' if bottom <= guide.value <= top else 'Beyond the drawing'}: {words}."


def _left_out(run: TrainingRun, figure: Figure, lines: list[StepLine]) -> Iterator[str]:
    """In how many steps a figure is not known, or outside the drawing."""
    for key, line in zip(figure.keys, lines, strict=True):
        name = f"{line.name}: " if line.name else ""
        if len(line.points) < len(run.lines):
            yield f"{name}Known in {len(line.points):,} of {len(run.lines):,} steps."
        broken = run.num_broken(key)
        if broken:
            yield f"{name}Infinite or not a number in {broken:,}."
        low = [value for _, value in line.points if figure.least is not None and value < figure.least]
        if low:
            lowest = readable(min(low))
            yield f"{name}{len(low):,} steps are lower and drawn at {figure.least:g} (the lowest: {lowest})."


def _about(run: TrainingRun) -> Iterator[Fact]:
    """The model, data and settings of the run."""
    manifest = run.manifest
    yield "model", _as_facts(manifest.get("model", {}))
    for key, words in _MODELS.items():
        if key in manifest:
            yield words, _as_facts(manifest[key])
    for source in manifest.get("data", ()):
        yield "data", _as_facts(source)
    dropped = manifest.get("dropped", ())
    yield "left out", count(len(dropped), "record") + (f", the first: {dropped[0]}" if dropped else "")
    for section in (run.stage, "rollouts", "train", "lora"):
        if isinstance(run.recipe.get(section), Mapping):
            yield section, _as_facts(run.recipe[section])
    for key in ("machine", "versions"):
        yield key, _as_facts(manifest.get(key, {}))
    yield "command", " ".join(str(word) for word in manifest.get("command", ()))


def _as_facts(values: Any) -> str | list[Fact]:
    """Settings by name. Unset ones are left out, and hashes are shortened."""
    if isinstance(values, Mapping):
        known = ((str(name), value) for name, value in values.items() if value is not None and value != {})
        return [(name, str(value)[:12] if name.endswith("sha256") else _as_facts(value)) for name, value in known]
    if isinstance(values, (list, tuple)):
        return ", ".join(map(str, values))
    if isinstance(values, bool):
        return "yes" if values else "no"
    return str(values)
