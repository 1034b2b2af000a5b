"""How a benchmark is run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Rule = Literal["lm-eval", "lighteval-cloze"]
RULES: tuple[Rule, ...] = get_args(Rule)


@dataclass(frozen=True)
class ChoiceSettings:
    """How a benchmark is run.

    Attributes:
        rule: how items become text and numbers, "lm-eval" or "lighteval-cloze".
        data: a file with the items. The hub's data set of the task if None.
        shots: how many examples stand before each item.
        shots_data: a file with the examples. The hub's data set of the task if None.
        seed: the seed of a random choice of examples, the same for all items of a subject. The first ones if None.
        chat_template: whether items are put into the model's chat template.
        limit: use only the first so many items.
        mutual_info: whether choices are also scored without their contexts.
        keep_equal: whether items may have two choices that are equal.
        tokens_per_batch: the most tokens in memory at once.
    """

    rule: Rule = "lm-eval"
    data: str | None = None
    shots: int = 0
    shots_data: str | None = None
    seed: int | None = None
    chat_template: bool = False
    limit: int | None = None
    mutual_info: bool = False
    keep_equal: bool = False
    tokens_per_batch: int = 4096
