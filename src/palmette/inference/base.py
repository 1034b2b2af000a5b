"""The model that a recipe names."""

from __future__ import annotations

from pathlib import Path

from palmette.config import Recipe
from palmette.model.loading import LoadedModel, load_model


def load_base(recipe: Recipe, adapter: Path | None = None) -> LoadedModel:
    """The model that a recipe names, with an adapter on it if one is given."""
    model = recipe.model
    return load_model(
        model.name,
        adapter=adapter,
        revision=model.revision,
        dtype=model.dtype,
        attention=model.attention,
        quantization=model.quantization,
        fused=model.fused,
        trust_remote_code=model.trust_remote_code,
        overrides=model.overrides,
    )
