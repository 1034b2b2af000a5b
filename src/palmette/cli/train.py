"""`palmette train STAGE`, a command for each row of the table of stages, and `palmette eval reward`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Optional

import typer

from palmette.train.stages import STAGES, Stage, read_recipe

if TYPE_CHECKING:  # commands import what they need when they run
    from palmette.evaluate.reward_metrics import RewardMetrics
    from palmette.inference.reward_model import RewardModel

RecipeArgument = Annotated[Optional[Path], typer.Argument(help="The recipe, a YAML file.")]  # noqa: UP045
ResumeOption = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option(help="Go on with this run folder instead."),
]


def stage_command(name: str) -> Callable[..., None]:
    """The command `palmette train NAME`, made from its row of the table of stages."""
    stage = STAGES[name]

    def command(recipe: RecipeArgument = None, resume: ResumeOption = None) -> None:
        if (recipe is None) == (resume is None):
            raise typer.BadParameter("give either a recipe or --resume RUN")
        _run_stage(stage, recipe, resume)

    command.__name__, command.__doc__ = f"train_{name}", stage.help
    return command


def _run_stage(stage: Stage, recipe: Path | None, resumed: Path | None) -> None:
    """Run or resume a stage, draw its run, and say what to try next."""
    from palmette.cli.console import invoked_as, stderr
    from palmette.pages.training.pictures import draw_run
    from palmette.train.callbacks import TrainingInterrupted
    from palmette.train.run import resume, train

    news = stderr()
    try:
        if resumed is not None:
            finished = resume(resumed, news.print, stage=stage.name)
        else:
            assert recipe is not None
            finished = train(read_recipe(recipe, stage.name), news.print)
    except TrainingInterrupted as stop:
        news.print(str(stop))
        raise typer.Exit(130) from stop
    news.print(f"done: {finished.folder}")
    draw_run(finished.folder, news.print)
    news.print(f"try it: {invoked_as()} {stage.next_step.format(finished.folder)}")


def eval_reward(
    model: Annotated[Path, typer.Option(help="A finished run of `palmette train reward`.")],
    data: Annotated[str, typer.Option(help="Comparisons on which it was not trained: a .jsonl or a hub data set.")],
    out: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="Folder for metrics.json and rewards.jsonl, which must not exist."),
    ] = None,
    limit: Annotated[Optional[int], typer.Option(min=1, help="Use the first N records only.")] = None,  # noqa: UP045
    attention: Annotated[
        Optional[Literal["auto", "flex", "sdpa", "eager"]],  # noqa: UP045
        typer.Option(help="Attention backend; the run's own if left out."),
    ] = None,
) -> None:
    """Measure a reward model on comparisons: accuracy, and whether its probabilities can be believed."""
    from palmette import run
    from palmette.cli.console import stdout
    from palmette.evaluate.comparisons import score_comparisons, was_learned
    from palmette.evaluate.reward_metrics import reward_metrics

    if out is not None:
        run.check_absent(out.expanduser())
    opened, source, rewards = score_comparisons(model.expanduser(), data, limit, attention)
    found = reward_metrics(rewards)
    _show(found)
    if was_learned(model.expanduser(), source.sha256):
        stdout().print("the run was trained on these very comparisons: this says nothing about others")
    if out is not None:
        names = [comparison.id for comparison in source.records]
        _write(out.expanduser(), model, opened, source, found, dict(zip(names, rewards, strict=True)))


def _show(found: RewardMetrics) -> None:
    from rich.table import Table

    from palmette.cli.console import stdout

    table = Table(show_edge=False, pad_edge=False)
    for name in (f"{found.comparisons} comparisons", "value", "95 % interval"):
        table.add_column(name, justify="left" if name.endswith("comparisons") else "right")
    rows = {
        "accuracy, percent": ("accuracy", 100.0),
        "log loss, nats (0.693: says nothing)": ("log_loss", 1.0),
        "margin of rewards": ("margin", 1.0),
        "calibration error, percent": ("calibration_error", 100.0),
    }
    for label, (name, scale) in rows.items():
        ends = found.intervals.get(name)
        shown = f"{scale * ends[0]:.3g} to {scale * ends[1]:.3g}" if ends else ""
        table.add_row(label, f"{scale * getattr(found, name):.3g}", shown)
    stdout().print(table)
    reliability = Table(show_edge=False, pad_edge=False)
    for name in ("how sure, percent", "on average", "right", "pairs"):
        reliability.add_column(name, justify="right")
    for one in found.reliability:
        values = (f"{100 * value:.1f}" for value in (one.confidence, one.accuracy))
        reliability.add_row(f"{100 * one.low:.0f} to {100 * one.high:.0f}", *values, str(one.count))
    stdout().print()
    stdout().print(reliability)


def _write(
    out: Path, model: Path, opened: RewardModel, source: Any, found: RewardMetrics, rewards: dict[str, list[float]]
) -> None:
    import json

    from palmette import run
    from palmette.model.loading import weights_hash
    from palmette.run import trained_folder

    with run.whole_folder(out) as staging:
        about = {
            "model": str(model),
            "weights_sha256": weights_hash(str(trained_folder(model.expanduser()))),
            "base": opened.loaded.name,
            "data": source.describe(),
        }
        run.write_json(staging / "metrics.json", {**run.environment(), **about, **found.to_json()})
        lines = (json.dumps({"id": name, "rewards": given}) + "\n" for name, given in rewards.items())
        run.write_text(staging / "rewards.jsonl", "".join(lines))
