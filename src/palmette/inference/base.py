"""Models loaded from what their names stand for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from palmette.config import ModelSection, Recipe
from palmette.inference.fingerprint import base_fingerprint
from palmette.inference.names import ModelSource, absolute_name, check_hub, locate
from palmette.model.attention import AttentionChoice
from palmette.model.loading import DType, LoadedModel, load_model, load_tokenizer


def load_base(recipe: Recipe, adapter: Path | None = None) -> LoadedModel:
    """Load the model that a recipe names.

    Args:
        recipe: the recipe.
        adapter: the folder of an adapter to put on the model.

    Raises:
        ModelError: the model is missing or cannot be loaded.
    """
    return load_section(recipe.model, adapter)


def load_source(
    source: ModelSource, *, attention: AttentionChoice | None = None, dtype: DType | None = None
) -> LoadedModel:
    """Load a model with its adapter, which is not merged.

    Args:
        source: what its name stands for. A run must be finished.
        attention: the attention backend. The run's own, or "auto", if None.
        dtype: the dtype. The run's own, or "auto", if None.

    Raises:
        ModelError: the model is missing or cannot be loaded.
    """
    changes: dict[str, Any] = {"attention": attention, "dtype": dtype}
    chosen = {key: value for key, value in changes.items() if value is not None}
    loaded = load_section(source.section.model_copy(update=chosen), source.adapter)
    return loaded if source.recipe is not None else replace(loaded, name=source.name)


def load_section(section: ModelSection, adapter: Path | None = None) -> LoadedModel:
    """Load the model that the `model` section of a recipe describes.

    Args:
        section: the section.
        adapter: the folder of an adapter to put on the model.

    Raises:
        ModelError: the model is missing or cannot be loaded.
    """
    loaded = load_model(
        locate(section.name),
        adapter=adapter,
        revision=section.revision,
        dtype=section.dtype,
        attention=section.attention,
        quantization=section.quantization,
        fused=section.fused,
        trust_remote_code=section.trust_remote_code,
        overrides=section.overrides,
        download=check_hub(section),
    )
    return replace(loaded, name=section.name)


def model_origin(section: ModelSection, commit: str | None) -> tuple[ModelSection, dict[str, Any]]:
    """What a run writes down of its base model, so that any working folder finds it, and a change is noticed.

    Args:
        section: the section that the base was loaded from.
        commit: the commit that the hub gave, for a model of the hub.

    Returns:
        The section with an absolute path, or with the commit as its revision, and the fingerprint of the base.

    Raises:
        ModelError: the base is missing or cannot be read.
    """
    name = absolute_name(section.name)
    fingerprint = base_fingerprint(name, commit or section.revision)
    pinned = {"name": name, "revision": commit or section.revision} if fingerprint["kind"] == "hub" else {"name": name}
    return section.model_copy(update=pinned), fingerprint


def source_tokenizer(source: ModelSource) -> Any:
    """Load the tokenizer of a model.

    Args:
        source: what the model's name stands for.

    Raises:
        ModelError: the model is missing, or its tokenizer cannot be loaded.
    """
    section = source.section
    return load_tokenizer(
        locate(section.name),
        revision=section.revision,
        trust_remote_code=section.trust_remote_code,
        download=check_hub(section),
    )
