"""Samples completions and rewards them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from palmette import processes
from palmette.rollouts.batch import RewardedCompletion, RolloutBatch
from palmette.rollouts.questions import PromptGroup
from palmette.rollouts.rewards import RewardMixture
from palmette.rollouts.sampling import RolloutSampler, Sampling
from palmette.seeds import derive_seed


@dataclass(frozen=True)
class RolloutMaker:
    """Samples completions and rewards them.

    Attributes:
        sampler: samples completions.
        rewards: rewards completions.
        num_samples: completions to each question.
        max_new_tokens: the most tokens of a completion.
        seed: the run's seed. With the numbers of the batch, the question and the sample, it determines each draw.
        keeps_logprobs: whether completions keep the sampler's log-probabilities, to compare them with those of the
            training forward pass.
    """

    sampler: RolloutSampler
    rewards: RewardMixture
    num_samples: int
    max_new_tokens: int
    seed: int
    keeps_logprobs: bool = False

    def make(self, groups: Sequence[PromptGroup], number: int) -> RolloutBatch:
        """Sample completions with the current weights, and reward them. Several processes share the documents.

        Args:
            groups: documents with their questions.
            number: number of the batch in the run, from 0.

        Raises:
            PackingError, ModelError: see `RolloutSampler.sample`.
        """
        own = processes.share([sum(map(len, group.prompts)) for group in groups])
        made = dict(zip(own, self._of_groups([groups[index] for index in own], number), strict=True))
        made = {index: completions for part in processes.gather(made) for index, completions in part.items()}
        samples = tuple(completion for index in range(len(groups)) for completion in made[index])
        return RolloutBatch(number, tuple(groups), samples, self.num_samples)

    def _of_groups(self, groups: Sequence[PromptGroup], number: int) -> list[list[RewardedCompletion]]:
        """The completions of each group."""
        prompts = [prompt for group in groups for prompt in group.prompts]
        questions = [(group.document, question) for group in groups for question in group.questions]
        keys = [group.first_key + index for group in groups for index in range(len(group.questions))]
        sampling = Sampling(max_new_tokens=self.max_new_tokens, seed=derive_seed(self.seed, number))
        drawn = list(self.sampler.sample(prompts, self.num_samples, sampling, keys=keys))
        rollouts = [rollout for of_question in drawn for rollout in of_question]
        rewards = self.rewards.reward(
            [
                (document, question, rollout.text)
                for (document, question), of_question in zip(questions, drawn, strict=True)
                for rollout in of_question
            ]
        )
        completions = iter(
            RewardedCompletion(
                rollout.tokens,
                rollout.text,
                rollout.finish,
                reward.parts,
                reward.total,
                rollout.logprobs if self.keeps_logprobs else (),
            )
            for rollout, reward in zip(rollouts, rewards, strict=True)
        )
        return [list(islice(completions, self.num_samples * len(group.questions))) for group in groups]
