"""Rollouts of a tiny policy, and one step on them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch

from palmette.data.records import Answer, Document, Question
from palmette.rollouts.batch import RolloutBatch
from palmette.train.policies.grpo import GrpoLearner
from palmette.train.steps.plan import StepPlan

DOCUMENTS = (
    Document(
        "d", "The ferry leaves at 7:40.", (Question("when", "When?", (Answer("7:40", 20),)), Question("who", "Who?"))
    ),
    Document("e", "The tower is granite.", (Question("what", "Of what?", (Answer("granite", 13),)),)),
)
LENGTH = 6


class LengthReward:
    """A reward that nobody could mistake for another: the length of the completion, modulo 5."""

    weights: ClassVar[dict[str, float]] = {"length": 1.0}

    def parts(self, raw: str, _: Question) -> dict[str, float]:
        return {"length": float(len(raw) % 5)}

    def total(self, parts: Mapping[str, float]) -> float:
        return parts["length"]


def ends(model: Any) -> range:
    """A quarter of the vocabulary, so that some completions end and some are cut."""
    return range(model.config.vocab_size // 4)


def packed(rollouts: RolloutBatch, tokens_per_batch: int = 4096, *, one_row: bool = True) -> list[Any]:
    trees = rollouts.trees()
    options = {"row_tokens": 4096, "tokens_per_batch": tokens_per_batch, "seed": 0}
    return StepPlan(trees, trees_per_step=len(trees), one_row=one_row, **options).step_batches(0, 0)


def step(model: Any, learn: GrpoLearner, batches: list[Any]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """One step as the trainer takes it: the loss, and the gradients of all parameters."""
    learn.before_step(model, batches)
    denominator = sum(learn.measure(batch) for batch in batches)
    model.zero_grad()
    total = torch.zeros((), dtype=torch.float64)
    for batch in batches:
        loss = learn(model, batch, denominator)
        loss.backward()
        total += loss.detach()
    learn.after_batches()
    return total, {name: p.grad.clone() for name, p in model.named_parameters()}
