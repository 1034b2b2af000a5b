"""Retention of a finished run, or of any tuned model against its base."""

from __future__ import annotations

import gc
from dataclasses import asdict
from pathlib import Path
from typing import Any

from palmette import run
from palmette.config import Recipe, load_run_recipe
from palmette.evaluate.retention.measure import Settings, adapter_retention, compare, observe
from palmette.evaluate.retention.scores import Retention
from palmette.evaluate.retention.texts import hashes
from palmette.files import expand
from palmette.model.attention import AttentionChoice
from palmette.model.checks import check_model
from palmette.model.loading import DType, LoadedModel, dtype_name, load_model, weights_hash
from palmette.run import trained_folder

RESULT, PLOT = "retention.json", "retention.png"


def retention_of_run(folder: Path, settings: Settings) -> dict[str, Any]:
    """What fine-tuning a finished run has cost elsewhere, as `eval retention` writes it.

    Args:
        folder: the run folder.
        settings: how to measure.
    """
    recipe = load_run_recipe(folder / run.RECIPE)
    result, made_by = _measure(str(folder), recipe, None, _options(recipe, None, None), settings)
    return _record(result, str(folder), made_by, settings)


def _measure(
    model: str, recipe: Recipe | None, base: str | None, options: dict[str, Any], settings: Settings
) -> tuple[Retention, dict[str, Any]]:
    trained = trained_folder(expand(model)) if recipe else None
    if recipe and trained and base is None and trained.name == run.ADAPTER:
        return _one_model(recipe, trained, options, settings)
    return _two_models(model, recipe, trained, base, options, settings)


def _record(result: Retention, model: str, made_by: dict[str, Any], settings: Settings) -> dict[str, Any]:
    made = {**run.environment(), "model": model, **made_by, "settings": asdict(settings), "data": hashes()}
    return {**result.to_json(), "made_by": made}


def _options(recipe: Recipe | None, attention: AttentionChoice | None, dtype: DType | None) -> dict[str, Any]:
    """How both models are loaded: as the run's own was, unless something else is asked for."""
    if recipe is None:
        return {"attention": attention or "auto", "dtype": dtype or "auto"}
    section = recipe.model
    return {
        "attention": attention or section.attention,
        "dtype": dtype or section.dtype,
        "fused": section.fused,
        "quantization": section.quantization,
        "trust_remote_code": section.trust_remote_code,
        "overrides": section.overrides,
    }


def _one_model(
    recipe: Recipe, adapter: Path, options: dict[str, Any], settings: Settings
) -> tuple[Retention, dict[str, Any]]:
    """A run with an adapter: one model, first with the adapter off."""
    loaded = load_model(recipe.model.name, adapter=adapter, revision=recipe.model.revision, **options)
    check_model(loaded.model, training=False)
    result = adapter_retention(loaded.model, settings.probe(loaded.tokenizer), settings)
    return result, {**_weights(loaded, adapter), "base": recipe.model.name, "dtype": _dtype(loaded)}


def _two_models(
    model: str,
    recipe: Recipe | None,
    trained: Path | None,
    base: str | None,
    options: dict[str, Any],
    settings: Settings,
) -> tuple[Retention, dict[str, Any]]:
    """Any other model: one after the other, so that memory holds one at a time."""
    revision = recipe.model.revision if recipe and base is None else None
    name = base if base is not None else recipe.model.name if recipe else ""
    loaded = load_model(name, revision=revision, **options)
    check_model(loaded.model, training=False)
    probe = settings.probe(loaded.tokenizer)
    untouched = observe(loaded.model, probe, settings)
    made_by = {"base_sha256": weights_hash(loaded.folder), "base": name, "dtype": _dtype(loaded)}
    del loaded
    gc.collect()
    loaded = _load_tuned(model, recipe, trained, options)
    check_model(loaded.model, training=False)
    tuned = settings.probe(loaded.tokenizer)
    probe.check_same(tuned)
    return compare(untouched, loaded.model, tuned, settings), {**_weights(loaded, trained), **made_by}


def _load_tuned(model: str, recipe: Recipe | None, trained: Path | None, options: dict[str, Any]) -> LoadedModel:
    if recipe is None or trained is None:
        return load_model(model, **options)
    if trained.name == run.FULL_MODEL:
        return load_model(str(trained), **options)
    return load_model(recipe.model.name, adapter=trained, revision=recipe.model.revision, **options)


def _weights(loaded: LoadedModel, trained: Path | None) -> dict[str, Any]:
    """Hashes of the base, and of what was trained."""
    return {
        "weights": weights_hash(str(trained or loaded.folder)),
        "base_sha256": weights_hash(loaded.folder),
    }


def _dtype(loaded: LoadedModel) -> str:
    return dtype_name(loaded.model.dtype)
