"""`palmette train STAGE`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from palmette.cli.options import PATH, expanded_path

RecipeArgument = Annotated[
    Path | None, typer.Argument(help="The recipe, a YAML file.", **{**PATH, "metavar": "RECIPE"})
]
ResumeOption = Annotated[
    Path | None, typer.Option(help="Continue this run folder, which was stopped, instead.", **PATH)
]


def train_sft(recipe: RecipeArgument = None, resume: ResumeOption = None) -> None:
    """Fine-tune a model on questions about documents, or on conversations."""
    _check_either(recipe, resume)
    from palmette.config import Recipe
    from palmette.train.sft import resume_sft, train_sft

    folder = _train(Recipe, train_sft, resume_sft, recipe, resume)
    _say_next(f'ask --model {folder} --document FILE "QUESTION"')


def train_reward(recipe: RecipeArgument = None, resume: ResumeOption = None) -> None:
    """Train a reward model on comparisons. It gives each completion of a prompt a number, higher for better ones."""
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
    """Train a model on completions that people judged good or bad, by KTO."""
    _check_either(recipe, resume)
    from palmette.train.kto import resume_kto, train_kto
    from palmette.train.recipes.preferences import KtoRecipe

    folder = _train(KtoRecipe, train_kto, resume_kto, recipe, resume)
    _say_next(f'ask --model {folder} --document FILE "QUESTION"')


def train_grpo(recipe: RecipeArgument = None, resume: ResumeOption = None) -> None:
    """Train a model on its own completions, by GRPO or RLOO. It learns those that earn more than the others to their question."""
    _check_either(recipe, resume)
    from palmette.train.grpo import resume_grpo, train_grpo
    from palmette.train.recipes.rollouts import GrpoRecipe

    folder = _train(GrpoRecipe, train_grpo, resume_grpo, recipe, resume)
    _say_next(f'ask --model {folder} --document FILE "QUESTION"')


def train_ppo(recipe: RecipeArgument = None, resume: ResumeOption = None) -> None:
    """Train a model on its own completions, by PPO. A value function says what each token was expected to earn."""
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
            folder = resume
            go_on(folder, news.print)
        else:
            assert recipe is not None
            loaded = read_recipe(kind, recipe)
            folder = expanded_path(loaded.output)
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
