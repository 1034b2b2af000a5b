"""Kahneman-Tversky optimisation: a loss over single verdicts, without pairs. Letters: N branches."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from palmette.objectives.branches import check_denominator


@dataclass(frozen=True)
class VerdictLoss:
    """A loss over verdicts, with the implicit rewards behind it.

    Attributes:
        loss: this micro-batch's share of the step's loss. The shares of a step add up to it.
        reward_N: implicit rewards, beta * log(policy / reference) (nats), without gradient.
    """

    loss: torch.Tensor
    reward_N: torch.Tensor


def reference_point(policy_N: torch.Tensor, reference_N: torch.Tensor) -> float:
    """KL baseline z0 (nats a branch): mean log(policy / reference) of completions under *other* prompts, at least 0.

    It estimates the KL divergence of the policy from the reference. Source: Ethayarajh et al. (2024), section 4, where
    each completion of a batch is put under the next prompt. Compute it over the whole optimizer step, before the step
    is cut into micro-batches. Otherwise the loss depends on the cut, as it does in TRL.

    Args:
        policy_N: log-probability of each mismatched completion under the policy (nats, summed over its tokens).
        reference_N: log-probability of each under the reference (nats).

    Raises:
        ValueError: there are no mismatched completions.
    """
    if not len(policy_N):
        raise ValueError("the KL baseline needs at least one mismatched completion")
    return max(0.0, float((policy_N.detach() - reference_N.detach()).mean()))


def kto_loss(
    policy_N: torch.Tensor,
    reference_N: torch.Tensor,
    desirable_N: torch.Tensor,
    denominator: float,
    *,
    baseline: float,
    beta: float = 0.1,
    desirable_weight: float = 1.0,
    undesirable_weight: float = 1.0,
) -> VerdictLoss:
    """Loss of single verdicts, summed and divided by the denominator. Lower is better, and each costs 0 to its weight.

    With ratio = log(policy / reference):

        desirable     desirable_weight * (1 - sigmoid(beta * (ratio - baseline)))
        undesirable   undesirable_weight * (1 - sigmoid(beta * (baseline - ratio)))

    Source: Ethayarajh et al. (2024), section 4, the loss L_KTO. They choose the weights so that the number of verdicts
    times their weight is about the same for both kinds. No gradient flows through the baseline.

    Args:
        policy_N: log-probability of each branch under the policy (nats, summed over its learned tokens).
        reference_N: log-probability of each branch under the reference (nats). No gradient flows into it.
        desirable_N: the verdicts (bool).
        denominator: number of branches over the whole optimizer step.
        baseline: `reference_point` of the whole step.
        beta: steepness of the sigmoid, positive. With a larger one the loss saturates nearer to the reference.
        desirable_weight: weight of a desirable branch, 0 or more.
        undesirable_weight: weight of an undesirable branch, 0 or more.

    Raises:
        ValueError: the denominator or `beta` is not positive, or the baseline or a weight is negative.
    """
    check_denominator(denominator, "branches")
    if not beta > 0:
        raise ValueError(f"beta must be positive, not {beta}")
    if min(baseline, desirable_weight, undesirable_weight) < 0:
        raise ValueError("the baseline and the weights must be 0 or more")
    ratio_N = policy_N - reference_N.detach()
    weight_N = torch.where(desirable_N, torch.full_like(ratio_N, desirable_weight), undesirable_weight)
    gain_N = torch.where(desirable_N, ratio_N - baseline, baseline - ratio_N)
    # 1 - sigmoid(x) = sigmoid(-x), without the cancellation.
    loss_N = weight_N * torch.sigmoid(-beta * gain_N)
    return VerdictLoss(loss_N.sum() / denominator, beta * ratio_N.detach())
