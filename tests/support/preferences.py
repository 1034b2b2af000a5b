"""Small recipes of the stages on preferences, and the records that they learn from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from palmette.config.recipes import read_section
from palmette.train.recipes.preferences import DpoRecipe, KtoRecipe, RewardRecipe

PLACES = ("harbour", "tower", "market", "station", "bridge", "garden")


STAGES: dict[str, type[Any]] = {"reward": RewardRecipe, "dpo": DpoRecipe, "kto": KtoRecipe}


def rows(places: tuple[str, ...] = PLACES) -> list[dict[str, str]]:
    """Who asks for a place is told of it politely, or rudely."""
    return [
        {
            "id": place,
            "prompt": f"Where is the {place}?",
            "chosen": f"Kindly follow the {place} road.",
            "rejected": "Go!",
        }
        for place in places
    ]


def jsonl(path: Path, lines: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def recipe(stage: str, tiny_folder: Path, data: Path, out: Path, **changes: Any) -> Any:
    """Six steps in two epochs over six records, with dropout, so that random state matters."""
    sections: dict[str, Any] = {
        "model": {"name": str(tiny_folder), "dtype": "float32"},
        "data": {"train": [str(data)]},
        "lora": {"rank": 4, "dropout": 0.1},
        "train": {"epochs": 2, "trees_per_step": 2, "learning_rate": 0.01, "save_every": 1, "tokens_per_batch": 64},
    }
    if stage == "kto":
        sections["kto"] = {"pairs": True}
        sections["train"]["trees_per_step"] = 4
    for key, value in changes.items():
        section, _, name = key.partition("__")
        if not name:
            sections[section] = dict(value) if isinstance(value, dict) else value
        elif value is None:
            sections.pop(section, None)
        else:
            sections.setdefault(section, {})[name] = value
    return read_section(STAGES[stage], {"output": str(out), **sections}, "r.yaml")
