"""Policy losses over groups of completions, without a value function: GRPO and its relatives, RLOO.

Log-probabilities have the names of `ppo`: `old` under the policy that sampled, `policy` under the policy that is
trained, and `reference`. Advantages come from `group_advantages`, one for each completion.

Letters: P learned tokens, N branches (completions).
"""

from __future__ import annotations

from typing import Literal

import torch

from palmette.objectives.branches import Per, branch_sum, check_denominator, token_shares
from palmette.objectives.kl import kl_estimate
from palmette.objectives.ppo import PolicyLoss, clipped_surrogate

Average = Literal["token", "branch", "constant"]


def average(
    kind: Average, *, learn_weight: float, num_branches: int, max_tokens: int | None = None
) -> tuple[Per, float]:
    """How a loss is averaged over the whole optimizer step: the arguments `per` and `denominator` of `grpo_loss`.

    Args:
        kind: with "token", each token counts the same (DAPO, Yu et al., 2025, equation 8). With "branch", each
            completion counts the same, so a token of a long one counts less (GRPO, Shao et al., 2024, equation 3). With
            "constant", the loss is divided by the number of completions times the longest length allowed. Then the
            weight of a token does not depend on the lengths in its step (Dr. GRPO, Liu et al., 2025).
        learn_weight: sum of the learn weights over the whole step.
        num_branches: number of completions of the whole step. Those of flat groups count too.
        max_tokens: most tokens of a completion that sampling allows. For "constant" only.

    Raises:
        ValueError: `kind` is unknown, `max_tokens` is missing, or the denominator is not positive.
    """
    if kind not in ("token", "branch", "constant"):
        raise ValueError(f"kind must be 'token', 'branch' or 'constant', not {kind!r}")
    if kind == "constant" and max_tokens is None:
        raise ValueError("a constant denominator needs max_tokens")
    denominators = {"token": learn_weight, "branch": num_branches, "constant": num_branches * (max_tokens or 0)}
    check_denominator(
        denominators[kind], {"token": "learned tokens", "branch": "completions"}.get(kind, "possible tokens")
    )
    return ("branch" if kind == "branch" else "token"), float(denominators[kind])


def grpo_loss(
    policy_P: torch.Tensor,
    old_P: torch.Tensor,
    advantage_N: torch.Tensor,
    branch_P: torch.Tensor,
    weight_P: torch.Tensor,
    denominator: float,
    *,
    per: Per,
    clip_low: float = 0.2,
    clip_high: float = 0.2,
    reference_P: torch.Tensor | None = None,
    kl_coefficient: float = 0.0,
) -> PolicyLoss:
    """Sum over tokens of share * (clipped surrogate + kl_coefficient * k3) / denominator. Lower is better.

    Source: Shao et al. (2024), equations 3 and 4. The KL divergence to the reference is part of the loss, not of the
    reward. Clip ranges of different widths ("clip-higher") are from Yu et al. (2025).

    Args:
        policy_P: log-probabilities under the policy that is trained (nats).
        old_P: log-probabilities when the tokens were sampled (nats). Before the first update they are
            `policy_P.detach()`. No gradient flows into them.
        advantage_N: advantage of each completion, shared by its tokens.
        branch_P: the branch of each token. All tokens of a completion must be in one micro-batch.
        weight_P: learn weights. A token of weight 0 does not count. To leave a completion out, give all its tokens
            weight 0.
        denominator: from `average`, over the whole optimizer step.
        per: from `average`.
        clip_low: see `clipped_surrogate`.
        clip_high: see `clipped_surrogate`.
        reference_P: log-probabilities under the reference (nats). Needed if there is a `kl_coefficient`.
        kl_coefficient: weight of the KL term (beta in the paper), 0 or more.

    Raises:
        ValueError: the denominator is not positive, the clip range is empty, the coefficient is negative, or the
            reference is missing.
    """
    check_denominator(denominator, "learned tokens or completions")
    if kl_coefficient < 0 or (kl_coefficient and reference_P is None):
        raise ValueError("kl_coefficient must be 0 or more, and needs reference_P")
    share_P = token_shares(weight_P.to(policy_P.dtype), branch_P, len(advantage_N), per) / denominator
    loss_P, clipped_P = clipped_surrogate(policy_P - old_P.detach(), advantage_N[branch_P], clip_low, clip_high)
    with torch.no_grad():
        clip_share = (share_P * clipped_P).sum()
        old_kl = (share_P * kl_estimate(old_P, policy_P, "k3")).sum()
        reference_kl = torch.zeros_like(old_kl)
    if kl_coefficient and reference_P is not None:
        kl_P = kl_estimate(policy_P, reference_P.detach(), "k3")
        loss_P = loss_P + kl_coefficient * kl_P
        reference_kl = (share_P * kl_P.detach()).sum()
    return PolicyLoss((share_P * loss_P).sum(), clip_share, old_kl, reference_kl)


def rloo_loss(
    policy_P: torch.Tensor,
    old_P: torch.Tensor,
    advantage_N: torch.Tensor,
    branch_P: torch.Tensor,
    weight_P: torch.Tensor,
    denominator: float,
    *,
    clip_low: float = 0.2,
    clip_high: float = 0.2,
) -> PolicyLoss:
    """Sum over completions of the clipped surrogate of the whole completion / denominator. Lower is better.

    Source: Ahmadian et al. (2024), "Back to basics". A completion is one action. As long as the policy has not moved
    (ratio 1), the gradient is that of REINFORCE. The clip for later updates is from TRL, not from the paper. The KL
    penalty belongs in the rewards: subtract coefficient * `branch_sum` of k1 from them before `group_advantages`.

    Args:
        policy_P: log-probabilities under the policy that is trained (nats). They are summed along each completion with
            their weights.
        old_P: log-probabilities when the tokens were sampled (nats). No gradient flows into them.
        advantage_N: advantage of each completion, with the baseline "leave_one_out".
        branch_P: the branch of each token. All tokens of a completion must be in one micro-batch.
        weight_P: learn weights. A token of weight 0 does not count.
        denominator: number of completions over the whole optimizer step.
        clip_low: see `clipped_surrogate`. It applies to the ratio of the whole completion.
        clip_high: as `clip_low`.

    Raises:
        ValueError: the denominator is not positive, or the clip range is empty.
    """
    check_denominator(denominator, "completions")
    log_ratio_P = weight_P.to(policy_P.dtype) * (policy_P - old_P.detach())
    loss_N, clipped_N = clipped_surrogate(
        branch_sum(log_ratio_P, branch_P, len(advantage_N)), advantage_N, clip_low, clip_high
    )
    with torch.no_grad():
        clip_share = clipped_N.to(loss_N.dtype).sum() / denominator
        old_kl = (weight_P * kl_estimate(old_P, policy_P, "k3")).sum() / denominator
    return PolicyLoss(loss_N.sum() / denominator, clip_share, old_kl, torch.zeros_like(old_kl))
