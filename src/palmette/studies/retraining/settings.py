"""Settings of a retraining, and the recipe that they make of the old run's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from palmette.config.recipes import Recipe
from palmette.inference.names import ModelSource
from palmette.train.stages import recipe_from

Method = Literal["sft", "dpo", "kto"]
_PREFERENCE_RATE = 1e-4  # as in the recipes of these stages
_MOST_WEIGHT = 4.0  # of the rarer side of KTO's labels


@dataclass(frozen=True)
class RetrainSettings:
    """How verdicts are learned.

    Attributes:
        method: "sft" learns the right answers, "dpo" the pairs, "kto" the labels.
        epochs: passes over the verdicts.
        learning_rate: peak learning rate. By default that of the old run, and 1e-4 for dpo and kto.
        replay: documents of the old run's own training data that are learned again, for each document with verdicts.
            They keep the model from forgetting. Only for sft.
        seed: random seed of the order, and of the choice of documents to learn again.
    """

    method: Method = "sft"
    epochs: int = 2
    learning_rate: float | None = None
    replay: float = 1.0
    seed: int = 0


def retraining_recipe(
    settings: RetrainSettings, source: ModelSource, new: Path, data: Sequence[Path], labels: Mapping[bool, int]
) -> Recipe:
    """The recipe of the new run: it goes on from the old run's adapter, with the old run's way to train.

    Args:
        settings: the settings.
        source: the old run.
        new: the folder of the new run.
        data: the files to learn from.
        labels: the number of good and of bad completions among the labels, for KTO.

    Raises:
        RecipeError: the settings contradict the old run.
    """
    before = source.recipe
    assert before is not None
    rate = settings.learning_rate or (before.train.learning_rate if settings.method == "sft" else _PREFERENCE_RATE)
    changes = {"epochs": settings.epochs, "learning_rate": rate, "seed": settings.seed}
    questions = settings.method == "sft" and before.data.kind == "qa"
    values: dict[str, Any] = {
        "output": str(new),
        "start": source.name,
        "data": {"train": [str(path) for path in data], "on_too_long": "split" if questions else "drop"},
        "train": {**before.train.model_dump(), **changes},
    }
    if questions:
        values["learn"] = before.learn
    if settings.method == "kto" and labels[True] and labels[False]:
        weight = min(_MOST_WEIGHT, max(1.0 / _MOST_WEIGHT, labels[True] / labels[False]))
        values["kto"] = {"desirable_weight": 1.0, "undesirable_weight": weight}
    return recipe_from(values, f"retraining of {source.name}", settings.method)
