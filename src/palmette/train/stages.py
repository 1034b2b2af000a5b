"""The table of training stages. A new stage is one module and one row here.

Commands, chains, pages and the Python API read the table. The parts of a stage are named as "module:name" and imported
on use. Importing this table needs neither torch nor transformers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

from palmette import run
from palmette.config.recipes import Recipe, read_file, read_section
from palmette.data.kinds import Kind
from palmette.errors import RecipeError, RunError, in_yaml
from palmette.files import expand

Lessons = Literal["texts", "answers and conversations", "comparisons", "verdicts", "its own completions"]
_KINDS: dict[Lessons, tuple[Kind, ...]] = {
    "texts": ("texts",),
    "answers and conversations": ("questions", "conversations"),
    "comparisons": ("preferences", "votes"),
    "verdicts": ("verdicts", "votes"),
    "its own completions": ("questions",),
}
NATS_PER_TOKEN = "nats per learned token"
_SFT = "sft"


@dataclass(frozen=True)
class Stage:
    """A training stage.

    Attributes:
        name: the name in the command, `palmette train NAME`, and in the recipe key `stage`.
        title: the name on pages.
        help: the help text of its command.
        learns: the kind of data that it learns from.
        recipe: target of its recipe class, a `Recipe` whose `stage` is `name` by default.
        prepare: target of a function (recipe, say) -> `Job`. It reads, loads and checks everything, and writes nothing.
        learn: target of a function (job, folder, checkpoint, say). It trains the job's model, from a checkpoint if one
            is given.
        figures: target of a function (`TrainingRun`) -> groups of figures for the stage's training page.
        makes: the kind of model in a finished run.
        main: figures at the top of the training page, two at most. If there are fewer, the loss is added.
        loss_unit: unit of the loss, if it has one.
        pairs: recipe key that lets a stage which learns from verdicts take comparisons instead, if there is one.
        next_step: a command to try with a finished run, without `palmette` and with {} for its folder.
    """

    name: str
    title: str
    help: str
    learns: Lessons
    recipe: str
    prepare: str
    learn: str
    figures: str
    makes: Literal["policy", "reward model", "masked language model"] = "policy"
    main: tuple[str, ...] = ()
    loss_unit: str = ""
    pairs: str = ""
    next_step: str = 'ask FILE "QUESTION" --model {}'

    @property
    def data_kinds(self) -> tuple[Kind, ...]:
        """The kinds of data that it learns from, the usual one first. Recipe keys may have to say which it is."""
        return (*_KINDS[self.learns], *(("preferences",) if self.pairs else ()))

    @property
    def samples(self) -> bool:
        """Whether the model learns from its own completions. Then rewards should rise, and the loss says little."""
        return self.learns == "its own completions"


STAGES: dict[str, Stage] = {
    stage.name: stage
    for stage in (
        Stage(
            name=_SFT,
            title="Fine-tuning",
            help="Fine-tune a model on questions about documents, or on conversations.",
            learns="answers and conversations",
            recipe="palmette.config.recipes:Recipe",
            prepare="palmette.train.sft:prepare",
            learn="palmette.train.sft:learn",
            figures="palmette.pages.training.figures:sft_figures",
            loss_unit=NATS_PER_TOKEN,
        ),
        Stage(
            name="reward",
            title="Reward model",
            help="Train a reward model on comparisons. It gives each completion a number, higher for better ones.",
            learns="comparisons",
            recipe="palmette.train.recipes.preferences:RewardRecipe",
            prepare="palmette.train.preferences.reward:prepare",
            learn="palmette.train.preferences.reward:learn",
            figures="palmette.pages.training.preferences:reward_figures",
            makes="reward model",
            main=("accuracy", "margin"),
            next_step="eval reward --model {} --data FILE",
        ),
        Stage(
            name="dpo",
            title="DPO",
            help="Train a model on comparisons, by DPO or IPO, to prefer what people preferred.",
            learns="comparisons",
            recipe="palmette.train.recipes.preferences:DpoRecipe",
            prepare="palmette.train.preferences.dpo:prepare",
            learn="palmette.train.preferences.dpo:learn",
            figures="palmette.pages.training.preferences:dpo_figures",
            main=("accuracy", "margin"),
        ),
        Stage(
            name="kto",
            title="KTO",
            help="Train a model on completions that people judged good or bad, by KTO.",
            learns="verdicts",
            recipe="palmette.train.recipes.preferences:KtoRecipe",
            prepare="palmette.train.preferences.kto:prepare",
            learn="palmette.train.preferences.kto:learn",
            figures="palmette.pages.training.preferences:kto_figures",
            main=("desirable_reward", "undesirable_reward"),
            pairs="kto.pairs",
        ),
        Stage(
            name="grpo",
            title="GRPO",
            help="Train a model on its own completions, by GRPO or RLOO. It learns those with a higher reward than the "
            "others to the same question.",
            learns="its own completions",
            recipe="palmette.train.recipes.rollouts:GrpoRecipe",
            prepare="palmette.train.policies.grpo:prepare",
            learn="palmette.train.policies.job:learn",
            figures="palmette.pages.training.rollouts:rollout_figures",
            main=("reward", "kl"),
        ),
        Stage(
            name="ppo",
            title="PPO",
            help="Train a model on its own completions, by PPO. A value function predicts the reward at each token.",
            learns="its own completions",
            recipe="palmette.train.recipes.rollouts:PpoRecipe",
            prepare="palmette.train.policies.ppo:prepare",
            learn="palmette.train.policies.job:learn",
            figures="palmette.pages.training.rollouts:rollout_figures",
            main=("reward", "kl"),
        ),
        Stage(
            name="pretrain",
            title="Continued pre-training",
            help="Train a model on texts, by predicting every next token. With model.init: random, from nothing.",
            learns="texts",
            recipe="palmette.train.recipes.texts:PretrainRecipe",
            prepare="palmette.train.texts.pretrain:prepare",
            learn="palmette.train.texts.pretrain:learn",
            figures="palmette.pages.training.texts:pretrain_figures",
            main=("held_out_loss",),
            loss_unit=NATS_PER_TOKEN,
            next_step="eval texts FILE --model {}",
        ),
        Stage(
            name="mlm",
            title="Masked language modelling",
            help="Train an encoder on texts, by restoring masked tokens. `palmette mcmc` writes with it.",
            learns="texts",
            recipe="palmette.train.recipes.masked:MlmRecipe",
            prepare="palmette.train.texts.mlm:prepare",
            learn="palmette.train.texts.mlm:learn",
            figures="palmette.pages.training.texts:mlm_figures",
            makes="masked language model",
            main=("held_out_loss",),
            loss_unit="nats per masked token",
            next_step='mcmc "The ____ is ____." --model {}',
        ),
    )
}


def resolve(target: str) -> Any:
    """Import the object of a target.

    >>> resolve("palmette.config.recipes:Recipe").__name__
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
        raise RunError(f"{folder} is a run of the stage {name!r}, which does not exist", _known())
    return STAGES[name]


def read_recipe(path: Path | str, stage: str | None = None) -> Recipe:
    """Read a recipe of any stage from a YAML file.

    Args:
        path: the file.
        stage: the stage, if it is known from elsewhere. Then the key `stage` is optional.

    Returns:
        A recipe of the stage's own class.

    Raises:
        RecipeError: there is no such file, it is not YAML, or as for `recipe_from`.
    """
    path = expand(path)
    values, source = read_file(path), str(path)
    if "stage" not in values:
        refuse_other_recipe(values, source, "train" if stage is None else f"train {stage}")
    try:
        return recipe_from(values, source, stage)
    except RecipeError as error:
        others = [name for name in STAGES if _reads(name, values)] if "stage" not in values else []
        if stage is None or not others:
            raise
        command = (
            f"`palmette train {others[0]}`"
            if len(others) == 1 or others[0] == _SFT
            else "the command of the stage that is meant"
        )
        problem = error.problem.removeprefix(f"{source}: ")
        raise RecipeError(
            f"{source} can be a recipe of {', '.join(others)}, and it is not one of {stage}: {problem}",
            f"Run {command} with it. For {stage}: {error.way_out}",
        ) from error


def check_output(recipe: Recipe) -> None:
    """Refuse a recipe whose output exists.

    Raises:
        RunError: it exists.
    """
    run.check_absent(expand(recipe.output))


def recipe_from(values: Mapping[Any, Any], source: str, stage: str | None = None) -> Recipe:
    """Make a recipe of settings, of the class of their stage.

    Args:
        values: the settings.
        source: name of the settings in messages.
        stage: as for `read_recipe`.

    Raises:
        RecipeError: a key is unknown (the message names the nearest one), a value is out of bounds, two values
            contradict each other, or the stage is unknown or contradicts `stage`. Or no stage is given, and the
            settings are not a recipe of sft.
    """
    own = values.get("stage")
    if "stage" in values and (not isinstance(own, str) or own not in STAGES):
        raise RecipeError(f"{source}: stage = {in_yaml(own)} is not a training stage", _known())
    if stage is not None and own is not None and own != stage:
        raise RecipeError(
            f"{source} says stage: {own}, but a recipe of the stage {stage} is needed",
            f"Run `palmette train {own}` with it, or correct its stage.",
        )
    name = stage or own
    if name is not None:
        kind: type[Recipe] = resolve(STAGES[name].recipe)
        return read_section(kind, {**values, "stage": name}, source)
    try:
        return read_section(Recipe, dict(values), source)
    except RecipeError as error:
        likely = next((name for name in STAGES if name in values), "dpo")
        raise RecipeError(
            f"{source} names no stage, and it is not a recipe of {_SFT}: {error.problem}",
            f"{error.way_out} Or name its stage, in a line such as `stage: {likely}`. {_known()}",
        ) from error


def refuse_other_recipe(values: Mapping[Any, Any], source: str, command: str) -> None:
    """Refuse settings whose keys show that another command reads them.

    Args:
        values: the settings.
        source: name of the settings in messages.
        command: the command that was given them, without `palmette`: "train dpo", "sweep" or "chain". "train" stands
            for every stage.

    Raises:
        RecipeError: they are of another command. The message names it.
    """
    meant = _command_of(values)
    if meant is None and not command.startswith("train") and values.keys() & (Recipe.model_fields.keys() - {"output"}):
        meant = f"train {_SFT}"  # the keys that recipes of all stages have
    if meant is not None and not meant.startswith(command):
        raise RecipeError(
            f"{source} is a recipe for palmette {meant}, and palmette {command} cannot read it",
            f"Run `palmette {meant}` with it. `palmette recipe` prints recipes of every kind.",
        )


def _command_of(values: Mapping[Any, Any]) -> str | None:
    """The command whose own keys are among the settings. None if there are none of one command alone."""
    if "stages" in values:
        return "chain"
    if values.keys() & {"vary", "cells", "base"}:
        return "sweep"
    own = values.get("stage")
    if isinstance(own, str) and own in STAGES:
        return f"train {own}"
    return next((f"train {name}" for name in STAGES if name in values), None)


def _reads(stage: str, values: Mapping[Any, Any]) -> bool:
    """Whether settings are a recipe of a stage."""
    try:
        read_section(resolve(STAGES[stage].recipe), {**values, "stage": stage}, "")
    except RecipeError:
        return False
    return True


def _known() -> str:
    return f"The stages are {', '.join(STAGES)}."
