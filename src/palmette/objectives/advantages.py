"""Advantages: how much better than expected a token, or a branch, turned out. Nothing here carries a gradient.

Every function takes the whole set of rollouts, before it is cut into micro-batches. With the mean and standard
deviation of a part, the loss would depend on the cut. Letters: P scored tokens, N branches, G groups.
"""

from __future__ import annotations

from typing import Literal

import torch

from palmette.objectives.branches import branch_counts, branch_sum, places


@torch.no_grad()
def gae(
    reward_P: torch.Tensor,
    value_P: torch.Tensor,
    branch_P: torch.Tensor,
    num_branches: int,
    *,
    gamma: float = 1.0,
    lam: float = 0.95,
    last_value_N: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Generalised advantage estimation along each branch: (advantage_P, return_P), in units of reward.

        delta_t = reward_t + gamma * value_(t+1) - value_t
        advantage_t = delta_t + gamma * lam * advantage_(t+1),      return_t = advantage_t + value_t

    Source: Schulman et al. (2016), equations 11, 12 and 16. After the last token the completion is over, so the value
    is 0.

    Args:
        reward_P: reward for each token.
        value_P: value of the state *before* each token. It is read at the token's predictor, the position whose logits
            chose it, and not at the token itself.
        branch_P: the branch of each token. Give only the learned tokens, which are the actions of the policy.
        num_branches: N.
        gamma: discount factor for each token, from 0 to 1.
        lam: lambda, from 0 (one step, lowest variance) to 1 (return minus value, lowest bias).
        last_value_N: value after the last token, for completions that were cut off before they ended. None means 0.

    Raises:
        ValueError: `gamma` or `lam` is not from 0 to 1.
    """
    if not (0 <= gamma <= 1 and 0 <= lam <= 1):
        raise ValueError(f"gamma and lam must be from 0 to 1, not {gamma} and {lam}")
    place_P, count_N = places(branch_P), branch_counts(branch_P, num_branches)
    num_steps = int(count_N.max()) if num_branches else 0
    reward_NS, value_NS = (x.new_zeros(num_branches, num_steps) for x in (reward_P, value_P))
    reward_NS[branch_P, place_P], value_NS[branch_P, place_P] = reward_P, value_P
    advantage_NS = torch.zeros_like(value_NS)
    carried_N = value_P.new_zeros(num_branches)
    next_N = carried_N if last_value_N is None else last_value_N
    for step in reversed(range(num_steps)):
        here_N = step < count_N
        delta_N = reward_NS[:, step] + gamma * next_N - value_NS[:, step]
        carried_N = torch.where(here_N, delta_N + gamma * lam * carried_N, carried_N)
        next_N = torch.where(here_N, value_NS[:, step], next_N)
        advantage_NS[:, step] = carried_N
    advantage_P = advantage_NS[branch_P, place_P]
    return advantage_P, advantage_P + value_P


@torch.no_grad()
def whiten(
    value_P: torch.Tensor, weight_P: torch.Tensor, *, keep_mean: bool = False, epsilon: float = 1e-8
) -> torch.Tensor:
    """Values with mean 0 and variance 1 over the learned tokens: (value - mean) / sqrt(variance + epsilon).

    The values of other tokens become 0. Mean and variance are weighted by `weight_P`. The variance is divided by the
    sum of the weights, without Bessel's correction, as in the code of Ziegler et al. (2019). Where all values are
    equal, the result is 0 (or the mean).

    Args:
        value_P: the values of the whole set of rollouts.
        weight_P: learn weights. Tokens of weight 0 do not count in mean and variance.
        keep_mean: whether the mean is added again, so that the values are only scaled.
        epsilon: keeps the quotient finite.

    Raises:
        ValueError: no token is learned.
    """
    weight_P = weight_P.to(value_P.dtype)
    total = weight_P.sum()
    if not float(total) > 0:
        raise ValueError("no token is learned, so there is nothing to whiten")
    learned_P = weight_P != 0
    value_P = torch.where(learned_P, value_P, 0.0)
    mean = (weight_P * value_P).sum() / total
    variance = (weight_P * (value_P - mean) ** 2).sum() / total
    white_P = (value_P - mean) * torch.rsqrt(variance + epsilon) + (mean if keep_mean else 0.0)
    return torch.where(learned_P, white_P, 0.0)


@torch.no_grad()
def group_advantages(
    reward_N: torch.Tensor,
    group_N: torch.Tensor,
    *,
    baseline: Literal["mean", "leave_one_out"],
    scale: Literal["none", "group", "batch"] = "none",
    epsilon: float = 1e-4,
) -> torch.Tensor:
    """Advantages of completions over the other completions of the same prompt [N].

    Their unit is that of the reward, or standard deviations if there is a scale.

        method    baseline          scale     source
        GRPO      "mean"            "group"   Shao et al. (2024), section 4.1.2
        Dr. GRPO  "mean"            "none"    Liu et al. (2025)
        RLOO      "leave_one_out"   "none"    Kool et al. (2019), Ahmadian et al. (2024)

    "leave_one_out" is the mean of the *other* completions. Among K completions it makes the advantage K / (K - 1) times
    as large as the mean of all does.

    If all rewards of a group are equal, its advantages are exactly 0, also if it has only one completion. Such a group
    teaches nothing, but it still counts in the denominators. `flat_groups` finds these groups for the metrics.

    Args:
        reward_N: reward of each completion.
        group_N: which prompt each completion answers, as an index from 0. The order is free, but groups must be whole.
        baseline: what is subtracted from a reward.
        scale: what advantages are divided by: the standard deviation (with Bessel's correction) of the group's rewards,
            that of all rewards, or nothing.
        epsilon: added to the standard deviation. TRL uses 1e-4 too.

    Raises:
        ValueError: a reward is not a finite number, or an option is unknown.
    """
    if baseline not in ("mean", "leave_one_out") or scale not in ("none", "group", "batch"):
        raise ValueError(f"unknown baseline {baseline!r} or scale {scale!r}")
    if not bool(torch.isfinite(reward_N).all()):
        raise ValueError("a reward is not a finite number")
    flat_G = flat_groups(reward_N, group_N)
    count_G = branch_counts(group_N, len(flat_G)).to(reward_N.dtype)
    mean_G = branch_sum(reward_N, group_N, len(flat_G)) / count_G.clamp(min=1)
    gap_N = reward_N - mean_G[group_N]
    others_G = (count_G - 1).clamp(min=1)
    advantage_N = gap_N * (count_G / others_G)[group_N] if baseline == "leave_one_out" else gap_N
    if scale == "group":
        spread_G = (branch_sum(gap_N**2, group_N, len(flat_G)) / others_G).sqrt()
        advantage_N = advantage_N / (spread_G + epsilon)[group_N]
    elif scale == "batch" and len(reward_N) > 1:
        advantage_N = advantage_N / (reward_N.std() + epsilon)
    return torch.where(flat_G[group_N], 0.0, advantage_N)


def flat_groups(reward_N: torch.Tensor, group_N: torch.Tensor) -> torch.Tensor:
    """Which groups have only equal rewards [G] (bool). Groups of no or one completion count too."""
    num_groups = int(group_N.max()) + 1 if len(group_N) else 0
    low_G = reward_N.new_full((num_groups,), torch.inf).scatter_reduce(0, group_N, reward_N, "amin")
    high_G = reward_N.new_full((num_groups,), -torch.inf).scatter_reduce(0, group_N, reward_N, "amax")
    return low_G >= high_G
