"""Recipes from text, for tests."""

from __future__ import annotations

from palmette.config import Recipe, read_settings
from palmette.train.stages import recipe_from


def parse_recipe(text: str, source: str) -> Recipe:
    """A recipe of fine-tuning from YAML text; `source` is how messages name it."""
    return recipe_from(read_settings(text, source), source, "sft")
