"""Recipes of chains, in which training stages build on one another. `palmette chain` runs them.

A stage refers to another one as `stage:NAME`. Where a key takes a run (start, model, rollouts.reward_model,
dpo.reference), this means the run of that stage. Where a key takes data, it means the preferences that the stage makes.
The whole chain is checked before the first stage begins.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from palmette import run
from palmette.config.recipes import Recipe, load_run_recipe, read_file, read_section
from palmette.config.sections import Positive, Section
from palmette.errors import RecipeError
from palmette.files import expand
from palmette.studies.evaluation import EvaluateSection
from palmette.studies.sweep.recipe import RUN, Cell
from palmette.synth.preference_settings import PreferenceSettings
from palmette.train.stages import STAGES, recipe_from, refuse_other_recipe

CHAIN, STAGE_PREFIX, PREFERENCES = "chain.yaml", "stage:", "preferences.jsonl"


class FinishedRun(Section):
    """A run that is already finished. It is measured, and other stages can build on it.

    Attributes:
        run: the run folder.
    """

    run: str


# The kinds that are not training stages. All other kinds are rows of the table of stages.
_OTHER_KINDS: dict[str, type[Section]] = {"run": FinishedRun, "preferences": PreferenceSettings}
_NAME = re.compile(r"[A-Za-z0-9][\w.+-]{0,60}")
# The keys that take preferences from a stage, and those that take a reward model. All other keys take a policy.
_DATA, _JUDGES = {"data.train"}, {"rollouts.reward_model", "reward_model"}


class ChainEvaluation(EvaluateSection):
    """What the policies of a chain are measured on.

    Attributes:
        samples: completions to sample for each question, at temperature 1. They measure a policy's rewards and its KL
            divergence from the chain's reference, as `palmette eval divergence` does. With null, nothing is sampled.
        max_new_tokens: longest of these completions, in tokens.
        tokens_per_batch: most tokens in memory while the completions are sampled and scored.
        comparisons: the comparisons that reward models are measured on, as `palmette eval reward` does. This is a
            source, or a stage that makes preferences. With null, reward models are not measured.
    """

    samples: Positive | None = 2
    max_new_tokens: Positive = 64
    tokens_per_batch: Annotated[int, Field(ge=64)] = 4096
    comparisons: str | None = None


class Chain(Section):
    """A chain of training stages that build on one another.

    Attributes:
        output: the folder for all runs and results. A chain that was stopped continues in it.
        stages: the stages by name, in the order in which they run. Each has a `kind`, and the keys of a recipe of that
            kind except `output` and `train.seed`.
        seeds: random seeds. All stages run under each of them.
        reference: the stage whose policy the others are compared with. By default the first that makes a policy.
        evaluate: what the policies are measured on.
    """

    output: str
    stages: Annotated[dict[str, dict[str, Any]], Field(min_length=1)]
    seeds: Annotated[list[Annotated[int, Field(ge=0, lt=2**32)]], Field(min_length=1)] = Field(
        default_factory=lambda: [0]
    )
    reference: str | None = None
    evaluate: ChainEvaluation = ChainEvaluation()


@dataclass(frozen=True)
class ChainStage:
    """A stage under one seed.

    Attributes:
        name: the stage's name, which is the same under all seeds.
        kind: what the stage does: "run", "preferences", or the name of a training stage.
        seed: the seed of everything that it draws.
        place: the folder for its result, and for what is measured on it.
        settings: its recipe, in which folders and files replace the names of other stages.
        needs: the names of the stages that it builds on.
    """

    name: str
    kind: str
    seed: int
    place: Path
    settings: Section
    needs: tuple[str, ...]

    @property
    def result(self) -> Path:
        """The result of the stage: a run folder, or a file of preferences."""
        if isinstance(self.settings, FinishedRun):
            return expand(self.settings.run)
        return self.place / (PREFERENCES if self.kind == "preferences" else RUN)

    @property
    def makes_reward_model(self) -> bool:
        """Whether its result is a reward model. A run that does not exist counts as a policy."""
        return self._makes == "reward model"

    @property
    def makes_policy(self) -> bool:
        """Whether its result is a policy, which can answer questions."""
        return self.kind != "preferences" and self._makes == "policy"

    @property
    def _makes(self) -> str:
        trained = run.stage_of(self.result) if self.kind == "run" else self.kind
        return STAGES[trained].makes if trained in STAGES else "policy"

    def cell(self, evaluation: EvaluateSection) -> ChainCell:
        """The stage as a cell of a table. It must make a policy or a reward model."""
        own = self.settings if isinstance(self.settings, Recipe) else load_run_recipe(self.result / run.RECIPE)
        train = own.train.model_copy(update={"seed": self.seed})
        recipe = own.model_copy(update={"output": str(self.result), "train": train})
        return ChainCell(self.name, {}, recipe, evaluation.decoders_for(recipe), self.place)


@dataclass(frozen=True)
class ChainCell(Cell):
    """A stage as a cell of a table. Its run may be in another folder.

    Attributes:
        place: the folder that holds the measurements.
    """

    place: Path

    @property
    def folder(self) -> Path:
        """The folder that holds the measurements."""
        return self.place


def load_chain(path: Path) -> tuple[Chain, list[ChainStage]]:
    """Read a chain and the recipes of all its stages. All of them are checked before the first one runs.

    Returns:
        The chain with its reference filled in, and its stages, ordered by seed.

    Raises:
        RecipeError: the file is missing or not YAML, a key is unknown (the message names the nearest), a value is out
            of bounds, or a stage builds on one that does not exist, that comes later, or that makes something else.
    """
    source = str(path)
    values = read_file(path)
    refuse_other_recipe(values, source, "chain")
    chain = read_section(Chain, values, source)
    if len(set(chain.seeds)) < len(chain.seeds):
        raise RecipeError(f"{source}: seeds = {chain.seeds!r} has a seed twice", "Take one out.")
    stages = [stage for seed in chain.seeds for stage in _stages(chain, seed, source)]
    policies = list(dict.fromkeys(stage.name for stage in stages if stage.makes_policy))
    if chain.reference is None:
        chain = chain.model_copy(update={"reference": policies[0] if policies else None})
    elif chain.reference not in policies:
        raise RecipeError(
            f"{source}: reference = {chain.reference!r} is no stage that makes a policy",
            f"Those are: {', '.join(policies) or 'none'}.",
        )
    _check_comparisons(chain, source)
    return chain, stages


def _stages(chain: Chain, seed: int, source: str) -> list[ChainStage]:
    found: dict[str, ChainStage] = {}
    for name, values in chain.stages.items():
        where = f"{source}, stage {name}"
        if not _NAME.fullmatch(name):
            raise RecipeError(f"{where}: the name is no name of a folder", "Use letters, digits, - and _ only.")
        kind, given = _kind(values, where)
        place = expand(chain.output) / f"seed={seed}" / name
        needs: list[str] = []
        resolved = _resolve(given, found, needs, where)
        _check_reads_preferences(kind, given, where)
        settings = _settings(kind, _with_own(resolved, kind, seed, place, where), where)
        found[name] = ChainStage(name, kind, seed, place, settings, tuple(dict.fromkeys(needs)))
    return list(found.values())


def _kind(values: Mapping[str, Any], where: str) -> tuple[str, dict[str, Any]]:
    """The kind of a stage, and its other settings."""
    kind, known = values.get("kind"), (*_OTHER_KINDS, *STAGES)
    if not isinstance(kind, str) or kind not in known:
        raise RecipeError(f"{where}: kind = {kind!r}", f"Give one of: {', '.join(known)}.")
    return kind, {key: value for key, value in values.items() if key != "kind"}


def _settings(kind: str, values: dict[str, Any], where: str) -> Section:
    """Read the settings of a stage of the given kind."""
    if kind in STAGES:
        return recipe_from(values, where, kind)
    return read_section(_OTHER_KINDS[kind], values, where)


def _with_own(values: dict[str, Any], kind: str, seed: int, place: Path, where: str) -> dict[str, Any]:
    """Add the settings that the chain makes for each stage: its output and its seed."""
    if "output" in values:
        raise RecipeError(f"{where}: output is not a setting of a stage", "Set `output` of the chain.")
    train = values.get("train", {})
    if "seed" in values or (isinstance(train, Mapping) and "seed" in train):
        raise RecipeError(f"{where}: the seed is not a setting of a stage", "Use `seeds` of the chain.")
    if kind == "run":
        return values
    if kind == "preferences":
        return values if "verdicts" in values else {**values, "seed": seed}  # with verdicts, nothing is drawn at random
    # If `train` is not a map, the recipe refuses it.
    return {
        **values,
        "output": str(place / RUN),
        "train": {**train, "seed": seed} if isinstance(train, Mapping) else train,
    }


def _resolve(values: Any, known: Mapping[str, ChainStage], needs: list[str], where: str, key: str = "") -> Any:
    """Replace the names of other stages in settings by their results. The names are added to `needs`."""
    if isinstance(values, Mapping):
        return {
            name: _resolve(value, known, needs, where, f"{key}.{name}" if key else str(name))
            for name, value in values.items()
        }
    if isinstance(values, list):
        return [_resolve(value, known, needs, where, key) for value in values]
    if not isinstance(values, str) or not values.startswith(STAGE_PREFIX):
        return values
    name = values.removeprefix(STAGE_PREFIX)
    if name not in known:
        raise RecipeError(
            f"{where}: {key} = {values!r} names no stage before it",
            f"Stages before it: {', '.join(known) or 'none'}.",
        )
    stage = known[name]
    if key in _DATA:
        wanted, fits = "preferences", stage.kind == "preferences"
    elif key in _JUDGES:
        wanted, fits = "a reward model", stage.makes_reward_model or _is_missing(stage)
    else:
        wanted, fits = "a policy", stage.makes_policy
    if not fits:
        raise RecipeError(
            f"{where}: {key} = {values!r} asks for {wanted}, and that stage is of kind {stage.kind}",
            "Name another stage.",
        )
    needs.append(name)
    return str(stage.result)


def _is_missing(stage: ChainStage) -> bool:
    """Whether a stage names a finished run that does not exist. That gets an error message of its own."""
    return stage.kind == "run" and not run.is_run(stage.result)


def _check_reads_preferences(kind: str, values: Mapping[str, Any], where: str) -> None:
    """Refuse comparisons made by another stage if this kind of stage does not learn from comparisons."""
    data = values.get("data", {})
    sources = data.get("train", []) if isinstance(data, Mapping) else []
    named = [source for source in sources if isinstance(source, str) and source.startswith(STAGE_PREFIX)]
    stage = STAGES.get(kind)
    if not named or (stage and stage.learns == "comparisons"):
        return
    pairs = stage.pairs if stage else ""
    section, _, name = pairs.partition(".")
    own = values.get(section, {})
    if not (pairs and isinstance(own, Mapping) and own.get(name) is True):
        way_out = f"Set {pairs}: true." if pairs else "Give data of another form."
        raise RecipeError(f"{where}: data.train = {named[0]!r} holds comparisons, which {kind} does not read", way_out)


def _check_comparisons(chain: Chain, source: str) -> None:
    """Check that evaluate.comparisons names a stage that makes preferences, if it names a stage."""
    named = chain.evaluate.comparisons
    if named is None or not named.startswith(STAGE_PREFIX):
        return
    makers = [name for name, values in chain.stages.items() if values.get("kind") == "preferences"]
    if named.removeprefix(STAGE_PREFIX) not in makers:
        raise RecipeError(
            f"{source}: evaluate.comparisons = {named!r} names no stage that makes preferences",
            f"Those are: {', '.join(makers) or 'none'}.",
        )
