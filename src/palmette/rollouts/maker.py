"""Samples completions and rewards them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from palmette.data.records import Document, Question
from palmette.rollouts.batch import RewardedCompletion, RolloutBatch
from palmette.rollouts.questions import PromptGroup
from palmette.rollouts.sampling import Rollout, RolloutSampler, Sampling

JUDGED = "model"  # what the reward of a reward model is called


# What a reward model says of completions, each with what was asked about which document.
Judge = Callable[[Sequence[tuple[Document, Question, str]]], Sequence[float]]


class Reward(Protocol):
    """What completions are worth: parts by name, and their weighted sum (`tasks.rewards.QaReward`)."""

    def parts(self, raw: str, question: Question) -> dict[str, float]:
        """Each reward of a completion, not weighted, by name."""

    def total(self, parts: Mapping[str, float]) -> float:
        """Their weighted sum."""


@dataclass(frozen=True)
class RolloutMaker:
    """Samples completions and rewards them.

    Attributes:
        source: what samples.
        reward: what completions are worth by rule; None: nothing.
        num_samples: completions to each question.
        max_new_tokens: the most tokens of a completion.
        seed: of the run; with the number of the batch, the question's and the sample's it determines each draw.
        judge: what a reward model says of completions; None: there is none.
        judge_weight: how much that counts.
    """

    source: RolloutSampler
    reward: Reward | None
    num_samples: int
    max_new_tokens: int
    seed: int
    judge: Judge | None = None
    judge_weight: float = 1.0

    def make(self, asked: Sequence[PromptGroup], number: int) -> RolloutBatch:
        """Sample with the weights as they are.

        Args:
            asked: documents with their questions.
            number: which batch of the run this is, from 0.

        Raises:
            PackingError, ModelError: see `RolloutSampler.sample`.
        """
        prompts = [prompt for one in asked for prompt in one.prompts]
        questions = [(one.document, question) for one in asked for question in one.questions]
        keys = [one.first_key + index for one in asked for index in range(len(one.questions))]
        sampling = Sampling(max_new_tokens=self.max_new_tokens, seed=self.seed * 1_000_003 + number)
        groups = list(self.source.sample(prompts, self.num_samples, sampling, keys=keys))
        completions = [(*which, rollout) for which, group in zip(questions, groups, strict=True) for rollout in group]
        judged: Sequence[float | None] = [None] * len(completions)
        if self.judge is not None:
            judged = self.judge([(document, question, rollout.text) for document, question, rollout in completions])
        samples = [self._sample(*completion, score) for completion, score in zip(completions, judged, strict=True)]
        return RolloutBatch(number, tuple(asked), tuple(samples), self.num_samples)

    def _sample(self, _: Document, question: Question, rollout: Rollout, score: float | None) -> RewardedCompletion:
        parts = self.reward.parts(rollout.text, question) if self.reward is not None else {}
        total = self.reward.total(parts) if self.reward is not None else 0.0
        if score is not None:
            parts, total = {**parts, JUDGED: score}, total + self.judge_weight * score
        return RewardedCompletion(rollout.tokens, rollout.text, rollout.finish, parts, total)
