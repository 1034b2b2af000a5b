"""Measures the retention of a finished run, or of any tuned model against its base."""

from __future__ import annotations

import gc
from dataclasses import asdict
from typing import Any

from palmette import run
from palmette.config.sections import ModelSection
from palmette.data.general import hashes
from palmette.errors import RunError
from palmette.evaluate.retention.measure import Settings, adapter_retention, compare, observe
from palmette.evaluate.retention.scores import Retention
from palmette.inference.base import load_section
from palmette.inference.names import ModelName, ModelSource, resolve_model, resolve_run
from palmette.model.attention import AttentionChoice
from palmette.model.checks import check_model
from palmette.model.loading import DType, LoadedModel, dtype_name, weights_hash

RESULT, PLOT = "retention.json", "retention.png"


def retention_of_run(folder: ModelName, settings: Settings) -> dict[str, Any]:
    """Measure the retention of a finished run, in the form that `eval retention` writes.

    Args:
        folder: the run folder.
        settings: how to measure.

    Raises:
        RunError: the folder is not a finished run.
        ModelError: a model cannot be loaded.
    """
    return retention_of_model(str(resolve_run(folder).folder), settings)[1]


def retention_of_model(
    model: str,
    settings: Settings,
    *,
    base: str | None = None,
    attention: AttentionChoice | None = None,
    dtype: DType | None = None,
) -> tuple[Retention, dict[str, Any]]:
    """Measure how much fine-tuning changed a model on general text and chats.

    Args:
        model: a finished run, or a tuned model by name.
        settings: how to measure.
        base: the untouched model. If None, the one that the run started from.
        attention: the attention backend of both models. If None, that of the run, or "auto".
        dtype: the dtype of both models. If None, that of the run, or "auto".

    Returns:
        The retention, and a record of it as JSON that includes what it depends on.

    Raises:
        RunError: the run is not finished, or the model is not a run and no base is given.
        ModelError: a model cannot be loaded, or the two models read text as different tokens.
    """
    source = resolve_model(model)
    if source.recipe is None and base is None:
        raise RunError(
            f"{model!r} is not a run folder, so nothing says which model it was made from",
            "Name the untouched model: --base NAME.",
        )
    changes = {"attention": attention, "dtype": dtype}
    options = {key: value for key, value in changes.items() if value is not None}
    tuned = source.section.model_copy(update=options)
    if base is None and source.adapter is not None:
        result, made_by = _one_model(source, tuned, settings)
    else:
        untouched = _untouched(source, base).model_copy(update=options)
        result, made_by = _two_models(source, untouched, tuned, settings)
    return result, _record(result, model, made_by, settings)


def _untouched(source: ModelSource, base: str | None) -> ModelSection:
    """The settings of the untouched model. It is loaded in the same way as the tuned one."""
    own = source.section if source.recipe is None else source.recipe.model
    return own if base is None else own.model_copy(update={"name": base, "revision": None})


def _record(result: Retention, model: str, made_by: dict[str, Any], settings: Settings) -> dict[str, Any]:
    made = {**run.environment(), "model": model, **made_by, "settings": asdict(settings), "data": hashes()}
    return {**result.to_json(), "made_by": made}


def _one_model(source: ModelSource, tuned: ModelSection, settings: Settings) -> tuple[Retention, dict[str, Any]]:
    """Measure a run with an adapter. One model is loaded, and its adapter is switched off first."""
    loaded = load_section(tuned, source.adapter)
    check_model(loaded.model, training=False, weights=loaded.content)
    result = adapter_retention(loaded.model, settings.probe(loaded.tokenizer), settings)
    return result, {**_weights(loaded, source), "base": tuned.name, "dtype": dtype_name(loaded.model.dtype)}


def _two_models(
    source: ModelSource, untouched: ModelSection, tuned: ModelSection, settings: Settings
) -> tuple[Retention, dict[str, Any]]:
    """Measure any other model. The two models are loaded one after the other, so only one is in memory at a time."""
    loaded = load_section(untouched)
    check_model(loaded.model, training=False, weights=loaded.content)
    probe = settings.probe(loaded.tokenizer)
    before = observe(loaded.model, probe, settings)
    made_by = {
        "base_sha256": weights_hash(loaded.folder),
        "base": untouched.name,
        "dtype": dtype_name(loaded.model.dtype),
    }
    del loaded
    gc.collect()
    loaded = load_section(tuned, source.adapter)
    check_model(loaded.model, training=False, weights=loaded.content)
    own_probe = settings.probe(loaded.tokenizer)
    probe.check_same(own_probe)
    return compare(before, loaded.model, own_probe, settings), {**_weights(loaded, source), **made_by}


def _weights(loaded: LoadedModel, source: ModelSource) -> dict[str, Any]:
    """The hashes of the base and of the trained weights."""
    return {
        "weights": weights_hash(str(source.trained or loaded.folder)),
        "base_sha256": weights_hash(loaded.folder),
    }
