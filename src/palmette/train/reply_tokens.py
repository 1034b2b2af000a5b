"""The replies in packed batches of rollouts, as objectives see them: whose each token is, what is known of it, and how far the policy strayed.

Letters: P tokens of replies, N replies, D hidden.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from palmette.errors import ModelError, PackingError
from palmette.model.forward import evaluating, score_with_states
from palmette.objectives.branches import branch_counts, places
from palmette.objectives.kl import kl_estimate, kl_ran_away
from palmette.objectives.ppo import check_ends_learned
from palmette.train.rollouts import RolloutBatch
from palmette.train.step import Tally
from palmette.tree.batch import PackedBatch
from palmette.tree.branches import find_branches


@dataclass(frozen=True)
class ReplyTokens:
    """The learned tokens of a packed batch of rollouts, all of them of replies.

    Attributes:
        policy_P: log-probability of each (nats), with gradient.
        state_PD: the hidden states that predicted them, with gradient.
        weight_P: learn weights, in the dtype of `policy_P`.
        branch_P: the branch of the batch that each lies on.
        sample_N: the sample of the rollouts that each of the batch's branches is.
        flat_P: the place of each token among the tokens of all samples.
    """

    policy_P: torch.Tensor
    state_PD: torch.Tensor
    weight_P: torch.Tensor
    branch_P: torch.Tensor
    sample_N: torch.Tensor
    flat_P: torch.Tensor

    def of(self, rollouts: RolloutBatch, name: str) -> torch.Tensor | None:
        """What the rollouts hold for these tokens under a name [P], if they hold anything."""
        value_P = rollouts.scored.get(name)
        return None if value_P is None else value_P[self.flat_P]


def read_replies(model: Any, batch: PackedBatch, rollouts: RolloutBatch, end_tokens: Collection[int]) -> ReplyTokens:
    """Score the replies of a packed batch in one forward pass.

    Args:
        model: the policy.
        batch: packed trees of the rollouts, on the model's device.
        rollouts: whose replies they are.
        end_tokens: tokens that end a reply.

    Raises:
        PackingError: a token of a prompt is learned.
        ValueError: a token of a reply, such as the one that ended it, is not.
        ModelError: as for `score_tokens`.
    """
    scores, state_PD = score_with_states(model, batch)
    branches = find_branches(batch)
    branch_P = branches.of_tokens(batch, scores.row_P, scores.column_P)
    sample_N = torch.tensor([int(leaf) for _, leaf in branches.names], device=branch_P.device)
    found = branch_counts(branch_P, len(sample_N)).tolist()
    for sample, count in zip(sample_N.tolist(), found, strict=True):
        if count != len(rollouts.samples[sample].tokens):
            raise ValueError(
                f"{count} of the {len(rollouts.samples[sample].tokens)} tokens of sample {sample} are learned"
            )
    weight_P = batch.learn_BT[scores.row_P, scores.column_P]
    token_P = batch.token_BT[scores.row_P, scores.column_P]
    ended_N = rollouts.ended_N.to(branch_P.device)[sample_N]
    check_ends_learned(token_P, weight_P, branch_P, ended_N, end_tokens)
    flat_P = rollouts.first_N.to(branch_P.device)[sample_N][branch_P] + places(branch_P)
    return ReplyTokens(scores.logprob_P, state_PD, weight_P.to(scores.logprob_P.dtype), branch_P, sample_N, flat_P)


@torch.no_grad()
def score_rollouts(
    model: Any, batches: Sequence[PackedBatch], rollouts: RolloutBatch, end_tokens: Collection[int], head: Any = None
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Score all replies with the forward pass of training, without dropout.

    Sampling gives log-probabilities too, but rounds other sums (docs/explanation/own-completions.md). With those, a ratio of policies
    would not be 1 where the policies are the same.

    Args:
        model: the policy, or the reference.
        batches: the packed trees of the rollouts, all of them.
        rollouts: whose replies.
        end_tokens: tokens that end a reply.
        head: a value head on the model, if there is one.

    Returns:
        [P] each: log-probabilities (nats), and what the head says of the states that the tokens were chosen in.

    Raises:
        PackingError: a reply has no probability.
    """
    number = len(rollouts.branch_P)
    logprob_P, value_P = torch.full((number,), torch.nan), None
    with evaluating(model):
        for batch in batches:
            tokens = read_replies(model, batch.to(model.device), rollouts, end_tokens)
            logprob_P = logprob_P.to(tokens.policy_P)
            logprob_P[tokens.flat_P] = tokens.policy_P
            if head is not None:
                found_P = head(tokens.state_PD)
                value_P = found_P.new_full((number,), torch.nan) if value_P is None else value_P
                value_P[tokens.flat_P] = found_P
    if not bool(logprob_P.isfinite().all()):
        raise PackingError("some replies have no probability any more", "Lower train.learning_rate.")
    return logprob_P, value_P


class Kept:
    """A model as it is now, in its trained parameters: the reference of a policy that is about to learn.

    A fresh adapter, which adds nothing yet, kept so is the model with its adapter off; and where a stage goes on with the adapter of a run
    before it, or trains all weights, the reference is that run all the same. Costs the memory of the trained parameters.

    Args:
        model: the model, its trainable parameters marked.
    """

    def __init__(self, model: Any) -> None:
        self._kept = [(p, p.detach().clone()) for p in model.parameters() if p.requires_grad]

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Within the block, the model is again what it was; no gradients, and no steps, there."""
        now = [parameter.data for parameter, _ in self._kept]
        for parameter, before in self._kept:
            parameter.data = before
        try:
            yield
        finally:
            for (parameter, _), data in zip(self._kept, now, strict=True):
                parameter.data = data


class Leash:
    """Counts how far the policy is from its reference over the batches of a step, and stops a run that strayed.

    Args:
        limit: the most KL(policy || reference), by the estimate k3 (nats a reply); None: any.
        name: what the recipe calls the limit.
        tally: where "kl" is counted.
    """

    def __init__(self, limit: float | None, name: str, tally: Tally) -> None:
        self._limit, self._name, self._tally = limit, name, tally
        self._batches_left = self._num_replies = 0
        self._kl = 0.0

    def begin(self, batches: Sequence[PackedBatch]) -> None:
        """Begin a step of these batches."""
        self._batches_left, self._kl = len(batches), 0.0
        self._num_replies = sum(len(find_branches(batch)) for batch in batches)

    def add(self, tokens: ReplyTokens, reference_P: torch.Tensor | None) -> None:
        """Count a batch.

        Raises:
            ModelError: it was the step's last, and the policy is too far away.
        """
        self._batches_left -= 1
        if reference_P is None:
            return
        kl = float(kl_estimate(tokens.policy_P.detach(), reference_P, "k3").sum())
        self._tally.add("kl", kl, len(tokens.sample_N))
        self._kl += kl
        reached = self._kl / self._num_replies
        if self._limit is not None and not self._batches_left and kl_ran_away(reached, self._limit):
            raise ModelError(
                f"the policy is {reached:.1f} nats a reply away from its reference, more than {self._name} = {self._limit}",
                f"Raise the KL coefficient, lower train.learning_rate, or raise {self._name}. Checkpoints up to here are kept.",
            )
