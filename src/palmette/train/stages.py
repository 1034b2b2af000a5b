"""The table of training stages. Commands, chains, pages and the Python API read it, so a new stage is one module and one row.

The parts of a stage are named as "module:name" and imported on use. Importing this table needs neither torch nor transformers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

from palmette import run
from palmette.config import Recipe, read_file, read_section
from palmette.errors import RecipeError, RunError
from palmette.files import expand

Lessons = Literal["answers and conversations", "comparisons", "verdicts", "its own completions"]
NATS_PER_TOKEN = "nats per learned token"
_SFT = "sft"


@dataclass(frozen=True)
class Stage:
    """A training stage.

    Attributes:
        name: the word of the command, `palmette train NAME`, and of the recipe key `stage`.
        title: its name for people, on pages.
        help: the help text of its command.
        learns: what it learns from.
        recipe: target of its recipe class, a `Recipe` whose `stage` is `name` by default.
        prepare: target of a function (recipe, say) -> `Job`. It reads, loads and checks everything, and writes nothing.
        learn: target of a function (job, folder, checkpoint, say). It trains the job's model, from a checkpoint if one is given.
        figures: target of a function (`TrainingRun`) -> groups of figures for the stage's training page.
        makes: what a finished run holds.
        main: figures that stand at the top of the training page. The loss fills what is left of two places.
        loss_unit: the unit of the loss, where the loss has one.
        pairs: recipe key under which a stage that learns from verdicts takes comparisons instead, if there is one.
        next_step: what to try with a finished run: the words of a command, with {} for its folder.
    """

    name: str
    title: str
    help: str
    learns: Lessons
    recipe: str
    prepare: str
    learn: str
    figures: str
    makes: Literal["policy", "reward model"] = "policy"
    main: tuple[str, ...] = ()
    loss_unit: str = ""
    pairs: str = ""
    next_step: str = 'ask --model {} --document FILE "QUESTION"'

    @property
    def samples(self) -> bool:
        """Whether the model learns from its own completions. Rewards should rise then, and the loss says little."""
        return self.learns == "its own completions"


STAGES: dict[str, Stage] = {
    stage.name: stage
    for stage in (
        Stage(
            name=_SFT,
            title="Fine-tuning",
            help="Fine-tune a model on questions about documents, or on conversations.",
            learns="answers and conversations",
            recipe="palmette.config:Recipe",
            prepare="palmette.train.sft:prepare",
            learn="palmette.train.sft:learn",
            figures="palmette.pages.training.figures:sft_figures",
            loss_unit=NATS_PER_TOKEN,
        ),
        Stage(
            name="reward",
            title="Reward model",
            help="Train a reward model on comparisons. It gives each completion of a prompt a number, higher for better ones.",
            learns="comparisons",
            recipe="palmette.train.recipes.preferences:RewardRecipe",
            prepare="palmette.train.reward:prepare",
            learn="palmette.train.reward:learn",
            figures="palmette.pages.training.preferences:reward_figures",
            makes="reward model",
            main=("accuracy", "margin"),
            next_step="eval reward --model {} --data FILE",
        ),
        Stage(
            name="dpo",
            title="DPO",
            help="Train a model to prefer what people preferred, by DPO or IPO, on comparisons.",
            learns="comparisons",
            recipe="palmette.train.recipes.preferences:DpoRecipe",
            prepare="palmette.train.dpo:prepare",
            learn="palmette.train.dpo:learn",
            figures="palmette.pages.training.preferences:dpo_figures",
            main=("accuracy", "margin"),
        ),
        Stage(
            name="kto",
            title="KTO",
            help="Train a model on completions that people judged good or bad, by KTO.",
            learns="verdicts",
            recipe="palmette.train.recipes.preferences:KtoRecipe",
            prepare="palmette.train.kto:prepare",
            learn="palmette.train.kto:learn",
            figures="palmette.pages.training.preferences:kto_figures",
            main=("desirable_reward", "undesirable_reward"),
            pairs="kto.pairs",
        ),
        Stage(
            name="grpo",
            title="GRPO",
            help="Train a model on its own completions, by GRPO or RLOO. It learns those that earn more than the others to their question.",
            learns="its own completions",
            recipe="palmette.train.recipes.rollouts:GrpoRecipe",
            prepare="palmette.train.grpo:prepare",
            learn="palmette.train.policy:learn",
            figures="palmette.pages.training.rollouts:rollout_figures",
            main=("reward", "kl"),
        ),
        Stage(
            name="ppo",
            title="PPO",
            help="Train a model on its own completions, by PPO. A value function says what each token was expected to earn.",
            learns="its own completions",
            recipe="palmette.train.recipes.rollouts:PpoRecipe",
            prepare="palmette.train.ppo:prepare",
            learn="palmette.train.policy:learn",
            figures="palmette.pages.training.rollouts:rollout_figures",
            main=("reward", "kl"),
        ),
    )
}


def resolve(target: str) -> Any:
    """Import what a target names.

    >>> resolve("palmette.config:Recipe").__name__
    'Recipe'
    """
    module, _, name = target.partition(":")
    return getattr(import_module(module), name)


def stage_of_run(folder: Path) -> Stage:
    """The stage that made a run folder.

    Raises:
        RunError: the folder is not a run folder, or its stage is not in the table.
    """
    run.check_run(folder)
    name = run.stage_of(folder)
    if name not in STAGES:
        raise RunError(f"{folder} is a run of the stage {name!r}, which is not known here", _known())
    return STAGES[name]


def read_recipe(path: Path | str, stage: str | None = None) -> Recipe:
    """Read a recipe of any stage from a YAML file.

    Args:
        path: the file.
        stage: the stage, where something else than the recipe says it. The key `stage` is optional then.

    Returns:
        A recipe of the stage's own class.

    Raises:
        RecipeError: no such file, not YAML, or as for `recipe_from`.
    """
    path = expand(path)
    return recipe_from(read_file(path), str(path), stage)


def recipe_from(values: Mapping[Any, Any], source: str, stage: str | None = None) -> Recipe:
    """Settings as a recipe of their stage.

    Args:
        values: the settings.
        source: how messages name them.
        stage: as for `read_recipe`.

    Raises:
        RecipeError: an unknown key (naming the nearest), a value out of bounds, two that contradict each other, an unknown stage, or
            one that contradicts `stage`. Without any stage, settings that are no recipe of sft.
    """
    said = values.get("stage")
    if "stage" in values and (not isinstance(said, str) or said not in STAGES):
        raise RecipeError(f"{source}: stage = {said!r} is not a training stage", _known())
    if stage is not None and said is not None and said != stage:
        raise RecipeError(
            f"{source} says stage: {said}, but it is to be a recipe of the stage {stage}",
            f"Run `palmette train {said}` with it, or correct its stage.",
        )
    name = stage or said
    if name is not None:
        kind: type[Recipe] = resolve(STAGES[name].recipe)
        return read_section(kind, {**values, "stage": name}, source)
    try:
        return read_section(Recipe, dict(values), source)
    except RecipeError as error:
        likely = next((name for name in STAGES if name in values), "dpo")
        raise RecipeError(
            f"{source} names no stage, and it is no recipe of {_SFT}: {error.problem}",
            f"{error.way_out} Or name its stage, in a line such as `stage: {likely}`. {_known()}",
        ) from error


def _known() -> str:
    return f"The stages are {', '.join(STAGES)}."
