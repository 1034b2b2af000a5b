"""Rollouts that a policy learns from: completions sampled with the current weights, rewarded, and put into trees.

A tree has a document as its trunk, the questions about it below, and the sampled completions of each question as
leaves. So a document and a question are computed once for all their completions, by the policy, the policy that
sampled, and the reference. Every token of a completion is learned, also the token that ended it. A completion that was
cut at the length limit has no such token. No token of a prompt is learned.

Completions are drawn at temperature 1 from all tokens, so they come from exactly the policy that learns.

Letters: N samples (each group of them answers one question), P the tokens of all samples, one sample after the other,
without padding.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from palmette.model.loading import dtype_name
from palmette.objectives.advantages import flat_groups
from palmette.rollouts.questions import PromptGroup
from palmette.rollouts.sampling import Finish
from palmette.tree.prefix_tree import PrefixTree


@dataclass(frozen=True, slots=True)
class RewardedCompletion:
    """A sampled completion with its reward.

    Attributes:
        tokens: every token that was drawn, the end token included.
        text: its text.
        finish: "end" if it ended by itself, "length" if it was cut.
        rewards: each reward by name, not weighted. "model" is the reward of a reward model.
        reward: the weighted sum of the rewards.
        sampled: log-probability of each token as its sampler gave it (nats), if that is not the forward pass of
            training. Else empty.
    """

    tokens: tuple[int, ...]
    text: str
    finish: Finish
    rewards: dict[str, float]
    reward: float
    sampled: tuple[float, ...] = ()

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> RewardedCompletion:
        """The completion that `dataclasses.asdict` and JSON made these values of."""
        return cls(**{**values, "tokens": tuple(values["tokens"]), "sampled": tuple(values.get("sampled", ()))})

    @property
    def ended(self) -> bool:
        """Whether it ended by itself."""
        return self.finish != "length"


@dataclass(frozen=True, eq=False)
class RolloutBatch:
    """The completions that were sampled with the same weights.

    Attributes:
        number: number of the batch in the run, from 0.
        groups: the documents with the questions asked about each.
        samples: all completions, ordered by document, question and index.
        num_samples: number of completions to each question.
        scored: numbers for each token of the samples, such as log-probabilities, by name [P].
        notes: numbers for the whole batch, by name.
    """

    number: int
    groups: tuple[PromptGroup, ...]
    samples: tuple[RewardedCompletion, ...]
    num_samples: int
    scored: dict[str, torch.Tensor] = field(default_factory=dict)
    notes: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        expected = self.num_samples * sum(len(one.questions) for one in self.groups)
        if len(self.samples) != expected:
            raise ValueError(f"there are {len(self.samples)} samples instead of {expected}")

    @functools.cached_property
    def first_N(self) -> torch.Tensor:
        """Where each sample begins among all tokens."""
        count_N = torch.tensor([len(sample.tokens) for sample in self.samples])
        return count_N.cumsum(0) - count_N

    @functools.cached_property
    def branch_P(self) -> torch.Tensor:
        """The sample that each token belongs to."""
        count_N = torch.tensor([len(sample.tokens) for sample in self.samples])
        return torch.repeat_interleave(torch.arange(len(self.samples)), count_N)

    @functools.cached_property
    def group_N(self) -> torch.Tensor:
        """The question that each sample answers, as a number from 0."""
        return torch.arange(len(self.samples)) // self.num_samples

    @functools.cached_property
    def reward_N(self) -> torch.Tensor:
        """The reward of each sample (float64)."""
        return torch.tensor([sample.reward for sample in self.samples], dtype=torch.float64)

    @functools.cached_property
    def ended_N(self) -> torch.Tensor:
        """Which samples ended by themselves (bool)."""
        return torch.tensor([sample.ended for sample in self.samples])

    def trees(self) -> list[PrefixTree]:
        """A prefix tree for each group of prompts. A leaf has the number of its sample as its name."""
        trees, number = [], 0
        for one in self.groups:
            groups = []
            for _ in one.questions:
                group = range(number, number + self.num_samples)
                groups.append([(str(index), self.samples[index].tokens) for index in group])
                number += self.num_samples
            trees.append(one.tree(groups))
        return trees

    def summary(self) -> dict[str, float]:
        """Means over the samples: rewards, tokens, and the share that ended by itself.

        "flat_groups" is the share of the questions whose completions all have the same reward.
        """
        number = len(self.samples)
        names = self.samples[0].rewards
        parts = {f"reward_{name}": sum(sample.rewards[name] for sample in self.samples) / number for name in names}
        return {
            "reward": float(self.reward_N.mean()),
            **parts,
            "completion_tokens": len(self.branch_P) / number,
            "ended": float(self.ended_N.double().mean()),
            "flat_groups": float(flat_groups(self.reward_N, self.group_N).double().mean()),
        }

    def shown(self, most: int) -> list[dict[str, Any]]:
        """The first sample to each of the first `most` questions, with the question and the gold answers."""
        questions = [question for one in self.groups for question in one.questions][:most]
        return [
            {
                "question": question.id,
                "asked": question.text,
                "gold": [answer.text for answer in question.answers],
                "completion": sample.text,
                "finish": sample.finish,
                "rewards": sample.rewards,
                "reward": sample.reward,
            }
            for question, sample in zip(questions, self.samples[:: self.num_samples], strict=False)
        ]

    def to_json(self) -> dict[str, Any]:
        """The batch as JSON, without the prompts, which come from the data. Numbers survive exactly."""
        scored = {
            name: {"dtype": dtype_name(value_P.dtype), "values": value_P.tolist()}
            for name, value_P in self.scored.items()
        }
        samples = [asdict(sample) for sample in self.samples]
        return {"number": self.number, "samples": samples, "scored": scored, "notes": self.notes}

    @classmethod
    def from_json(
        cls,
        values: Mapping[str, Any],
        groups: Sequence[PromptGroup],
        num_samples: int,
        device: torch.device | str = "cpu",
    ) -> RolloutBatch:
        """The batch that `to_json` wrote, with the groups of prompts that it was sampled for."""
        samples = tuple(RewardedCompletion.from_json(sample) for sample in values["samples"])
        scored = {
            name: torch.tensor(held["values"], dtype=getattr(torch, held["dtype"]), device=device)
            for name, held in values["scored"].items()
        }
        return cls(values["number"], tuple(groups), samples, num_samples, scored, dict(values["notes"]))
