"""Rewards of completions: by rule, by a reward model, or both, each with its weight."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from palmette.data.records import Document, Question

MODEL_REWARD = "model"  # the name of the reward model's score among the parts of a reward

# A completion to a question about a document.
Completion = tuple[Document, Question, str]
# Scores completions with a reward model, in their order.
Scorer = Callable[[Sequence[Completion]], Sequence[float]]


class RuleRewards(Protocol):
    """Rewards found by comparing a completion with the gold answers (`tasks.rewards.QaReward`)."""

    @property
    def weights(self) -> Mapping[str, float]:
        """The weight of each reward, by name."""

    def parts(self, raw: str, question: Question) -> dict[str, float]:
        """Each reward of a completion, not weighted, by name."""

    def total(self, parts: Mapping[str, float]) -> float:
        """The weighted sum of `parts`."""


class CompletionReward(NamedTuple):
    """The reward of one completion.

    Attributes:
        parts: each reward, not weighted, by name. The reward model's score is called `MODEL_REWARD`.
        total: their weighted sum.
    """

    parts: dict[str, float]
    total: float


@dataclass(frozen=True)
class RewardMixture:
    """Rewards by rule plus the score of a reward model.

    Attributes:
        rules: rewards by rule, or None.
        scorer: scores completions with a reward model, or None.
        scorer_weight: the weight of the reward model's score.

    Raises:
        ValueError: there are neither rules nor a reward model.
    """

    rules: RuleRewards | None
    scorer: Scorer | None = None
    scorer_weight: float = 1.0

    def __post_init__(self) -> None:
        if self.rules is None and self.scorer is None:
            raise ValueError("completions need rewards by rule or a reward model")

    @property
    def rule_weights(self) -> dict[str, float]:
        """The weights of the rewards by rule, by name."""
        return dict(self.rules.weights) if self.rules is not None else {}

    def reward(self, completions: Sequence[Completion]) -> list[CompletionReward]:
        """The rewards of completions, in their order. A reward model scores all of them in one call."""
        scores: Sequence[float | None] = [None] * len(completions)
        if self.scorer is not None:
            scores = self.scorer(completions)
        return [
            self._mix(question, text, score) for (_, question, text), score in zip(completions, scores, strict=True)
        ]

    def _mix(self, question: Question, text: str, score: float | None) -> CompletionReward:
        parts = self.rules.parts(text, question) if self.rules is not None else {}
        total = self.rules.total(parts) if self.rules is not None else 0.0
        if score is not None:
            parts, total = {**parts, MODEL_REWARD: score}, total + self.scorer_weight * score
        return CompletionReward(parts, total)
