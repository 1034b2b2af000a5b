"""Recipes of small jobs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from palmette.config.recipes import Recipe, read_settings
from palmette.train.stages import recipe_from
from tests.support.data import squad_file


def sft_recipe(tiny_folder: Path, out: Path, **changes: Any) -> Recipe:
    """Four steps in two epochs over five built-in documents, with dropout, so that random state matters."""
    sections: dict[str, dict[str, Any]] = {
        "model": {"name": str(tiny_folder), "dtype": "float32"},
        "data": {"train": ["builtin:dev"], "limit_documents": 4},
        "lora": {"rank": 2, "dropout": 0.2},
        "train": {"epochs": 2, "trees_per_step": 2, "learning_rate": 0.01, "save_every": 1},
    }
    for key, value in changes.items():
        section, _, name = key.partition("__")
        sections.setdefault(section, {})[name] = value
    return Recipe.model_validate({"output": str(out), **sections})


def chain_file(path: Path, values: dict[str, Any]) -> Path:
    path.write_text(yaml.safe_dump({"output": str(path.with_suffix("")), **values}, sort_keys=False))
    return path


def sweep_file(path: Path, **settings: Any) -> Path:
    path.write_text(yaml.safe_dump({"output": str(path.with_suffix("")), **settings}, sort_keys=False))
    return path


def small_sweep(tiny_folder: Path, folder: Path) -> dict[str, Any]:
    """Two documents, four steps."""
    data = squad_file(folder / "data.json")
    return {
        "base": {
            "model": {"name": str(tiny_folder), "dtype": "float32"},
            "data": {"train": [str(data)]},
            "lora": {"rank": 2},
            "train": {"epochs": 2, "trees_per_step": 1},
        },
        "evaluate": {"data": str(data), "decoders": ["greedy", "span"], "limit_questions": 2},
    }


def parse_recipe(text: str, source: str) -> Recipe:
    """A recipe of fine-tuning from YAML text. `source` is how messages name it."""
    return recipe_from(read_settings(text, source), source, "sft")
