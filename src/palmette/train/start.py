"""What a stage begins from: a model by name with a fresh adapter, or a finished run, whose adapter goes on being trained."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from transformers import set_seed

from palmette.config import Recipe, Section
from palmette.errors import RecipeError
from palmette.inference.base import load_base
from palmette.inference.names import ModelSource, resolve_run
from palmette.model.loading import LoadedModel, add_lora, weights_hash
from palmette.model.memory import keep_freed_memory
from palmette.model.pause import pause_of

AnyRecipe = TypeVar("AnyRecipe", bound=Recipe)
# Settings of a model that say how it is computed, and not which it is.
_COMPUTING = ("attention", "dtype", "fused", "trust_remote_code")


@dataclass(frozen=True)
class StartingPoint(Generic[AnyRecipe]):
    """A model about to be trained.

    Attributes:
        recipe: the recipe; of a run to start from, its model, adapter settings and prompt stand in it.
        loaded: the model with its trainable parameters marked. As it is now, it is what a KL penalty or DPO refers to.
        fingerprint: the run that it starts from, with the hash of its weights; empty without one.
    """

    recipe: AnyRecipe
    loaded: LoadedModel
    fingerprint: dict[str, Any]


def load_start(recipe: AnyRecipe, start: str | None) -> StartingPoint[AnyRecipe]:
    """Load what a stage begins from.

    An adapter is continued, not merged: what comes out is one adapter on the base that the run before it had, however many stages there
    were, and every command that takes a run takes it. Pause tokens of the run are kept, and stay as they are.

    Args:
        recipe: the stage's recipe.
        start: a finished run folder, or None for `recipe.model` with a fresh adapter (or with all its weights).

    Raises:
        RunError: it is no finished run.
        RecipeError: the recipe contradicts the run.
        ModelError: the model cannot be loaded.
    """
    keep_freed_memory()
    if start is None:
        return StartingPoint(recipe, _fresh(recipe, load_base(recipe)), {})
    source = resolve_run(start)
    recipe = _taken_over(recipe, source)
    made_of = {"start": {"run": start, "sha256": weights_hash(str(source.trained))}}
    if source.is_full:
        return StartingPoint(recipe, _fresh(recipe, load_base(recipe)), made_of)
    loaded = load_base(recipe, source.adapter)
    set_seed(recipe.train.seed)
    loaded.model.set_adapter(loaded.model.active_adapter)  # to be trained on
    rows = pause_of(loaded.model)
    if rows is not None:
        rows.requires_grad_(False)
    return StartingPoint(recipe, loaded, made_of)


def _fresh(recipe: Recipe, loaded: LoadedModel) -> LoadedModel:
    """A model to be trained in full, or with a new adapter."""
    set_seed(recipe.train.seed)
    if recipe.train.method == "full":
        return loaded
    return replace(loaded, model=add_lora(loaded.model, **recipe.lora.model_dump()))


def _taken_over(recipe: AnyRecipe, source: ModelSource) -> AnyRecipe:
    """The recipe with what the run before it settles. What the recipe itself says of that must agree."""
    start, before, full = source.name, source.recipe, source.is_full
    assert before is not None
    if not full and recipe.train.method == "full":
        raise RecipeError(
            f"start = {start!r} has an adapter, and train.method = full would train the weights under it",
            f"Use train.method: lora; or `palmette merge {shlex.quote(start)}` first, and name the merged model in model.name.",
        )
    settled: dict[str, Any] = {"model": source.section, "prompt": before.prompt, "reasoning": before.reasoning}
    if not full:
        settled["lora"] = before.lora
    for name in sorted(settled.keys() & recipe.model_fields_set):
        settled[name] = _agreed(name, getattr(recipe, name), settled[name], start)
    return recipe.model_copy(update=settled)


def _agreed(name: str, own: Section, of_run: Section, start: str) -> Section:
    """The run's section, with what the recipe's own says of how a model is computed; all else that it says must be as the run's."""
    said = {key: getattr(own, key) for key in sorted(own.model_fields_set) if getattr(own, key) is not None}
    free = {key: value for key, value in said.items() if name == "model" and key in _COMPUTING}
    for key, value in said.items():
        if key not in free and value != getattr(of_run, key):
            raise RecipeError(
                f"{name}.{key} = {value!r}; start = {start!r} has {getattr(of_run, key)!r}",
                f"Take {name}.{key} out: what the run used is taken over.",
            )
    return of_run.model_copy(update=free)
