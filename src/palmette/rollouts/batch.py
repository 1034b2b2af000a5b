"""Rollouts that a policy learns from: completions sampled with the weights of the moment, rewarded, and hung below their prompts as prefix trees.

A tree has a document as its trunk, its questions below that, and the sampled completions of each question as leaves. So the policy, the policy
that sampled, and the reference read a document and a question once for all their completions. Every token of a completion is learned, the one that ended
it among them; a completion that was cut at the length limit has no end, and learns none. Nothing of a prompt is learned.

Completions are drawn at temperature 1 from all tokens, so that they come from the very policy that learns.

Letters: N samples (a group of them answers one question), P their tokens, one sample's after the other's, without padding.
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
    """A completion that was sampled, and what it is worth.

    Attributes:
        tokens: every token that was drawn, the end token among them.
        text: what was said.
        finish: what ended it: "end", or "length" where it was cut.
        rewards: by name, not weighted; "model" is that of a reward model.
        reward: the weighted sum.
    """

    tokens: tuple[int, ...]
    text: str
    finish: Finish
    rewards: dict[str, float]
    reward: float

    @property
    def ended(self) -> bool:
        """Whether it came to its end."""
        return self.finish != "length"


@dataclass(frozen=True, eq=False)
class RolloutBatch:
    """What was sampled at one moment.

    Attributes:
        number: which one of the run it is, from 0.
        groups: the documents with the questions that were asked about each.
        samples: all completions, by document, question, and index.
        num_samples: completions to each question.
        scored: numbers for each token of the samples, by name (log-probabilities, say) [P].
        notes: numbers for the batch as a whole, by name.
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
        """What each sample is worth (float64)."""
        return torch.tensor([sample.reward for sample in self.samples], dtype=torch.float64)

    @functools.cached_property
    def ended_N(self) -> torch.Tensor:
        """Which samples came to their end (bool)."""
        return torch.tensor([sample.ended for sample in self.samples])

    def trees(self) -> list[PrefixTree]:
        """A prefix tree for each document asked about; a leaf is named after its sample's number."""
        found, number = [], 0
        for one in self.groups:
            groups = []
            for _ in one.questions:
                group = range(number, number + self.num_samples)
                groups.append([(str(index), self.samples[index].tokens) for index in group])
                number += self.num_samples
            found.append(one.tree(groups))
        return found

    def summary(self) -> dict[str, float]:
        """Means over the samples: rewards, tokens, share that came to an end; and the share of questions whose completions earned all the same."""
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
        """The first sample of each of the first so many questions, with what was asked."""
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
        """All but the prompts, which the data give again. Numbers survive exactly."""
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
        """What `to_json` made, below the prompts that it was made of."""
        samples = tuple(
            RewardedCompletion(**{**sample, "tokens": tuple(sample["tokens"])}) for sample in values["samples"]
        )
        scored = {
            name: torch.tensor(held["values"], dtype=getattr(torch, held["dtype"]), device=device)
            for name, held in values["scored"].items()
        }
        return cls(values["number"], tuple(groups), samples, num_samples, scored, dict(values["notes"]))
