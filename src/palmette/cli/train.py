"""`palmette train reward`, `train dpo`, `train kto`, `train grpo`, `train ppo`, and `palmette eval reward`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Optional

import typer

if TYPE_CHECKING:  # commands import what they need when they run
    from palmette.evaluate.reward_metrics import RewardMetrics
    from palmette.inference.reward_model import RewardModel

RecipeArgument = Annotated[Optional[Path], typer.Argument(help="The recipe, a YAML file.")]  # noqa: UP045
ResumeOption = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option(help="Go on with this run folder instead."),
]


def train_reward(recipe: RecipeArgument = None, resume: ResumeOption = None) -> None:
    """Train a reward model on comparisons: a number for each completion of a prompt, greater for better ones."""
    _check_either(recipe, resume)
    from palmette.train.recipes.preferences import RewardRecipe
    from palmette.train.reward import resume_reward, train_reward

    folder = _train(RewardRecipe, train_reward, resume_reward, recipe, resume)
    _say_next(f"eval reward --model {folder} --data FILE")


def train_dpo(recipe: RecipeArgument = None, resume: ResumeOption = None) -> None:
    """Train a model to prefer what people preferred, by DPO or IPO, on comparisons."""
    _check_either(recipe, resume)
    from palmette.train.dpo import resume_dpo, train_dpo
    from palmette.train.recipes.preferences import DpoRecipe

    folder = _train(DpoRecipe, train_dpo, resume_dpo, recipe, resume)
    _say_next(f'ask --model {folder} --document FILE "QUESTION"')


def train_kto(recipe: RecipeArgument = None, resume: ResumeOption = None) -> None:
    """Train a model on completions that people found good or bad, by KTO."""
    _check_either(recipe, resume)
    from palmette.train.kto import resume_kto, train_kto
    from palmette.train.recipes.preferences import KtoRecipe

    folder = _train(KtoRecipe, train_kto, resume_kto, recipe, resume)
    _say_next(f'ask --model {folder} --document FILE "QUESTION"')


def train_grpo(recipe: RecipeArgument = None, resume: ResumeOption = None) -> None:
    """Train a model on its own completions, by GRPO or RLOO: what earns more than the other completions to its question is learned."""
    _check_either(recipe, resume)
    from palmette.train.grpo import resume_grpo, train_grpo
    from palmette.train.recipes.rollouts import GrpoRecipe

    folder = _train(GrpoRecipe, train_grpo, resume_grpo, recipe, resume)
    _say_next(f'ask --model {folder} --document FILE "QUESTION"')


def train_ppo(recipe: RecipeArgument = None, resume: ResumeOption = None) -> None:
    """Train a model on its own completions, by PPO: each token by how much better things went than a value function expected."""
    _check_either(recipe, resume)
    from palmette.train.ppo import resume_ppo, train_ppo
    from palmette.train.recipes.rollouts import PpoRecipe

    folder = _train(PpoRecipe, train_ppo, resume_ppo, recipe, resume)
    _say_next(f'ask --model {folder} --document FILE "QUESTION"')


def _check_either(recipe: Path | None, resume: Path | None) -> None:
    if (recipe is None) == (resume is None):
        raise typer.BadParameter("give either a recipe or --resume RUN")


def _train(
    kind: type[Any],
    train: Callable[..., Any],
    go_on: Callable[..., Any],
    recipe: Path | None,
    resume: Path | None,
) -> Path:
    """Run or resume a stage; its folder."""
    from palmette.cli.console import stderr
    from palmette.config import read_recipe
    from palmette.pages.training.pictures import draw_run
    from palmette.train.stage import Interrupted

    news = stderr()
    try:
        if resume is not None:
            folder = resume.expanduser()
            go_on(folder, news.print)
        else:
            assert recipe is not None
            loaded = read_recipe(kind, recipe)
            folder = Path(loaded.output).expanduser()
            train(loaded, news.print)
    except Interrupted as stop:
        news.print(str(stop))
        raise typer.Exit(130) from stop
    news.print(f"done: {folder}")
    draw_run(folder, news.print)
    return folder


def _say_next(words: str) -> None:
    from palmette.cli.console import invoked_as, stderr

    stderr().print(f"try it: {invoked_as()} {words}")


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
