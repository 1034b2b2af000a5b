"""The optimizer steps of a run over a stream of texts, with a budget of tokens that is kept to the token."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from palmette import run
from palmette.errors import RecipeError
from palmette.tasks.text_pieces import cut_tree, num_learned
from palmette.train.steps.plan import PackingLimits
from palmette.train.texts.stream import PieceStream
from palmette.tree.batch import PackedBatch
from palmette.tree.prefix_tree import PrefixTree

_STREAM = "stream.json"


class TextPlan:
    """Steps of about the same number of learned tokens.

    A step ends with the piece that fills it. The next one is shorter by what that piece had too much, so steps do not
    drift, and the last one ends with the very token that exhausts the budget. `Plan` explains the methods.

    Args:
        stream: the pieces.
        budget: tokens to learn in the whole run.
        tokens_per_step: the least tokens of a step on average. No piece may have more.
        row_tokens, tokens_per_batch, one_row, parts: as in `plan_packing`.

    Raises:
        RecipeError: the budget is less than a step.
    """

    def __init__(
        self,
        stream: PieceStream,
        *,
        budget: int,
        tokens_per_step: int,
        row_tokens: int,
        tokens_per_batch: int,
        one_row: bool,
        parts: int = 1,
    ) -> None:
        if budget < tokens_per_step:
            raise RecipeError(
                f"there are {budget:,} tokens to learn, less than pretrain.tokens_per_step = {tokens_per_step:,}",
                "Lower pretrain.tokens_per_step, or give more texts, epochs or pretrain.tokens.",
            )
        self.steps_per_epoch = budget // tokens_per_step
        self.learned = 0
        self._stream, self._budget = stream, budget
        self._limits = PackingLimits(
            row_tokens=row_tokens, tokens_per_batch=tokens_per_batch, one_row=one_row, parts=parts
        )
        self._states: dict[int, dict[str, Any]] = {}

    def step_trees(self, step: int) -> list[PrefixTree]:
        """The pieces of the next step, whose number is checked."""
        first, last = (self._budget * number // self.steps_per_epoch for number in (step, step + 1))
        if self.learned < first:
            raise ValueError(f"step {step} was asked for after {self.learned} tokens, before the steps that precede it")
        trees = []
        while self.learned < last:
            tree = self._stream.next()
            left = self._budget - self.learned
            trees.append(tree if num_learned(tree) <= left else cut_tree(tree, left))
            self.learned += num_learned(trees[-1])
        return trees

    def step_batches(self, epoch: int, step: int) -> list[PackedBatch]:
        """The packed batches of the next step. The whole budget is one epoch."""
        assert epoch == 0
        before, trees = self._states.get(step) or self._state(), self.step_trees(step)
        self._states = {step: before, step + 1: self._state()}
        return PackedBatch.pack(trees, **self._limits)

    def _state(self) -> dict[str, Any]:
        return {"learned": self.learned, "strands": self._stream.state()}

    def save(self, folder: Path, step: int) -> None:
        """Write how far the stream was read after so many steps."""
        run.write_json(folder / _STREAM, self._states.get(step) or self._state())

    def load(self, folder: Path) -> None:
        """Go to where `save` was called."""
        state = json.loads((folder / _STREAM).read_text(encoding="utf-8"))
        self.learned = state["learned"]
        self._stream.restore(state["strands"])
