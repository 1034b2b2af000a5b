"""Starting points of stages: a model with a new adapter, or a finished run, whose adapter is trained further."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from transformers import set_seed

from palmette.config.recipes import Recipe
from palmette.config.sections import Section
from palmette.errors import RecipeError
from palmette.inference.base import load_base
from palmette.inference.names import ModelSource, resolve_run
from palmette.model.loading import LoadedModel, add_lora, weights_hash
from palmette.model.memory import keep_freed_memory
from palmette.model.pause import pause_of

AnyRecipe = TypeVar("AnyRecipe", bound=Recipe)
# Settings that say how a model is computed, not which model it is.
_COMPUTING = ("attention", "dtype", "fused", "trust_remote_code")


@dataclass(frozen=True)
class StartingPoint(Generic[AnyRecipe]):
    """A model about to be trained.

    Attributes:
        recipe: the recipe. If the stage starts from a run, it has the model, adapter settings and prompt of that run.
        loaded: the model with its trainable parameters marked. As it is now, it is the reference of a KL penalty or of
            DPO.
        fingerprint: the run that the stage starts from, with the hash of its weights. Empty without one.
    """

    recipe: AnyRecipe
    loaded: LoadedModel
    fingerprint: dict[str, Any]


def load_start(recipe: AnyRecipe) -> StartingPoint[AnyRecipe]:
    """Load the starting point of a stage.

    The adapter of a run is trained further and not merged. So the result is one adapter on the same base, however many
    stages there were, and every command that takes a run takes it. Pause tokens of the run stay as they are.

    Args:
        recipe: the stage's recipe. `recipe.start` names a finished run. None starts from `recipe.model` with a new
            adapter, or with all its weights.

    Raises:
        RunError: `recipe.start` is not a finished run.
        RecipeError: the recipe contradicts the run.
        ModelError: the model cannot be loaded.
    """
    keep_freed_memory()
    start = recipe.start
    if start is None:
        set_seed(recipe.train.seed)  # weights may be drawn
        return StartingPoint(recipe, _fresh(recipe, load_base(recipe)), {})
    source = resolve_run(start)
    recipe = _taken_over(recipe, source)
    fingerprint = {"start": {"run": start, "sha256": weights_hash(str(source.trained))}}
    if source.is_full:
        return StartingPoint(recipe, _fresh(recipe, load_base(recipe)), fingerprint)
    loaded = load_base(recipe, source.adapter)
    set_seed(recipe.train.seed)
    loaded.model.set_adapter(loaded.model.active_adapter)  # which makes it trainable
    rows = pause_of(loaded.model)
    if rows is not None:
        rows.requires_grad_(False)
    return StartingPoint(recipe, loaded, fingerprint)


def _fresh(recipe: Recipe, loaded: LoadedModel) -> LoadedModel:
    """A model that is trained in full, or with a new adapter."""
    set_seed(recipe.train.seed)
    if recipe.train.method == "full":
        return loaded
    return replace(loaded, model=add_lora(loaded.model, **recipe.lora.model_dump()))


def _taken_over(recipe: AnyRecipe, source: ModelSource) -> AnyRecipe:
    """The recipe with the settings of the run that it starts from. Its own values of these settings must agree."""
    start, before, full = source.name, source.recipe, source.is_full
    assert before is not None
    if not full and recipe.train.method == "full":
        raise RecipeError(
            f"start = {start!r} has an adapter, but train.method = full would train the weights under it",
            f"Use train.method: lora. Or run `palmette merge {shlex.quote(start)}` first, and name the merged model in "
            "model.name.",
        )
    of_run: dict[str, Any] = {"model": source.section, "prompt": before.prompt, "reasoning": before.reasoning}
    if not full:
        of_run["lora"] = before.lora
    for name in sorted(of_run.keys() & recipe.model_fields_set):
        of_run[name] = _agreed(name, getattr(recipe, name), of_run[name], start)
    return recipe.model_copy(update=of_run)


def _agreed(name: str, own: Section, of_run: Section, start: str) -> Section:
    """The run's section, with the recipe's settings of how a model is computed. All others must be the run's."""
    given = {key: getattr(own, key) for key in sorted(own.model_fields_set) if getattr(own, key) is not None}
    free = {key: value for key, value in given.items() if name == "model" and key in _COMPUTING}
    for key, value in given.items():
        if key not in free and value != getattr(of_run, key):
            raise RecipeError(
                f"{name}.{key} = {value!r}, but start = {start!r} has {getattr(of_run, key)!r}",
                f"Take {name}.{key} out, since the value of the run is used.",
            )
    return of_run.model_copy(update=free)
