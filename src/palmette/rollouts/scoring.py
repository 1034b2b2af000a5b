"""The tokens of completions in packed batches of rollouts, as objectives need them.

Letters: P tokens of completions, N completions, D hidden.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from palmette import processes
from palmette.errors import PackingError
from palmette.model.forward import evaluating, score_with_states
from palmette.objectives.branches import branch_counts, places
from palmette.objectives.kl import kl_estimate
from palmette.objectives.ppo import check_ends_learned
from palmette.rollouts.batch import RolloutBatch
from palmette.tree.batch import PackedBatch
from palmette.tree.branches import find_branches


@dataclass(frozen=True)
class CompletionTokens:
    """The learned tokens of a packed batch of rollouts. All of them are tokens of completions.

    Attributes:
        policy_P: log-probability of each token (nats), with gradient.
        state_PD: the hidden state that predicted each token, with gradient.
        weight_P: learn weights, in the dtype of `policy_P`.
        branch_P: the branch of the batch that each token is on.
        sample_N: the number of the sample on each branch of the batch.
        flat_P: the index of each token among the tokens of all samples.
    """

    policy_P: torch.Tensor
    state_PD: torch.Tensor
    weight_P: torch.Tensor
    branch_P: torch.Tensor
    sample_N: torch.Tensor
    flat_P: torch.Tensor

    def of(self, rollouts: RolloutBatch, name: str) -> torch.Tensor | None:
        """The numbers that the rollouts hold for these tokens under a name [P]. None if they hold none."""
        value_P = rollouts.scored.get(name)
        return None if value_P is None else value_P[self.flat_P]


def read_completions(
    model: Any, batch: PackedBatch, rollouts: RolloutBatch, end_tokens: Collection[int]
) -> CompletionTokens:
    """Score the completions of a packed batch in one forward pass.

    Args:
        model: the policy.
        batch: packed trees of the rollouts, on the model's device.
        rollouts: the rollouts of these trees.
        end_tokens: tokens that end a completion.

    Raises:
        PackingError: a token of a prompt is learned.
        ValueError: a token of a completion is not learned, such as its end token.
        ModelError: as for `score_tokens`.
    """
    scores, state_PD = score_with_states(model, batch)
    branches = find_branches(batch)
    branch_P = branches.of_tokens(batch, scores.row_P, scores.column_P)
    sample_N = torch.tensor([int(leaf) for _, leaf in branches.names], device=branch_P.device)
    counts = branch_counts(branch_P, len(sample_N)).tolist()
    for sample, count in zip(sample_N.tolist(), counts, strict=True):
        if count != len(rollouts.samples[sample].tokens):
            raise ValueError(
                f"{count} of the {len(rollouts.samples[sample].tokens)} tokens of sample {sample} are learned"
            )
    weight_P = batch.learn_BT[scores.row_P, scores.column_P]
    token_P = batch.token_BT[scores.row_P, scores.column_P]
    ended_N = rollouts.ended_N.to(branch_P.device)[sample_N]
    check_ends_learned(token_P, weight_P, branch_P, ended_N, end_tokens)
    flat_P = rollouts.first_N.to(branch_P.device)[sample_N][branch_P] + places(branch_P)
    return CompletionTokens(scores.logprob_P, state_PD, weight_P.to(scores.logprob_P.dtype), branch_P, sample_N, flat_P)


@torch.no_grad()
def score_rollouts(
    model: Any, batches: Sequence[PackedBatch], rollouts: RolloutBatch, end_tokens: Collection[int], head: Any = None
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Score all completions with the forward pass of training, without dropout. Several processes share the work.

    Sampling gives log-probabilities too, but its sums are rounded differently (docs/explanation/own-completions.md).
    With those, the ratio of two equal policies would not be exactly 1.

    Args:
        model: the policy, or the reference.
        batches: all packed trees of the rollouts.
        rollouts: the rollouts of these trees.
        end_tokens: tokens that end a completion.
        head: a value head on the model, or None.

    Returns:
        Two tensors [P]: the log-probabilities (nats), and the values of the states in which the tokens were chosen. The
        latter is None without a head.

    Raises:
        PackingError: the log-probability of a token is not finite.
    """
    number = len(rollouts.branch_P)
    logprob_P, value_P = torch.full((number,), torch.nan), None
    scored = []
    with evaluating(model):
        for index in processes.share([batch.token_BT.numel() for batch in batches]):
            tokens = read_completions(model, batches[index].to(model.device), rollouts, end_tokens)
            values = None if head is None else head(tokens.state_PD).cpu()
            scored.append((tokens.flat_P.cpu(), tokens.policy_P.cpu(), values))
    for flat_P, policy_P, values in (part for of_process in processes.gather(scored) for part in of_process):
        logprob_P = logprob_P.to(policy_P)
        logprob_P[flat_P] = policy_P
        if values is not None:
            value_P = values.new_full((number,), torch.nan) if value_P is None else value_P
            value_P[flat_P] = values
    logprob_P = logprob_P.to(model.device)
    value_P = None if value_P is None else value_P.to(model.device)
    if not bool(logprob_P.isfinite().all()):
        raise PackingError("the log-probabilities of some completions are not finite", "Lower train.learning_rate.")
    return logprob_P, value_P


def sampler_gap(rollouts: RolloutBatch, trained_P: torch.Tensor) -> dict[str, float]:
    """How far the log-probabilities of a sampler are from those of the training forward pass, by name.

    `sampler_gap` is the mean absolute difference, `sampler_gap_max` the largest one (nats a token), and `sampler_kl` is
    KL(sampler || policy), k3 (nats a token). Only rounding should part them. A gap that grows from batch to batch says
    that the sampler has other weights than the policy.

    Args:
        rollouts: rollouts whose samples hold the sampler's log-probabilities.
        trained_P: log-probability of each token under the policy that sampled, by the training forward pass (nats).
    """
    sampled_P = torch.tensor([value for sample in rollouts.samples for value in sample.sampled], dtype=torch.float64)
    trained_P = trained_P.detach().cpu().double()
    gap_P = (sampled_P - trained_P).abs()
    kl = kl_estimate(sampled_P, trained_P, "k3").mean()
    return {"sampler_gap": float(gap_P.mean()), "sampler_gap_max": float(gap_P.max()), "sampler_kl": float(kl)}
