"""Kahneman-Tversky optimisation: single verdicts, no pairs. Letters: N branches."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from palmette.objectives.branches import check_denominator


@dataclass(frozen=True)
class VerdictLoss:
    """A loss over verdicts, and what it rests on.

    Attributes:
        loss: this micro-batch's share of the step's loss; the shares of a step add up.
        reward_N: implicit rewards, beta * log(policy / reference) (nats); without gradient.
    """

    loss: torch.Tensor
    reward_N: torch.Tensor


def reference_point(policy_N: torch.Tensor, reference_N: torch.Tensor) -> float:
    """The KL baseline z0 (nats a branch, 0 or more): mean log(policy / reference) of completions under *other* prompts, at least 0.

    It estimates how far the policy went from the reference as a whole. Source: Ethayarajh et al. (2024), section 4, where the
    completions of a batch move on by one prompt. Take it over the whole optimizer step, before cutting it into micro-batches; else the
    loss depends on how the step was cut (that of TRL does).

    Args:
        policy_N: log-probabilities of the mismatched completions under the policy (nats, summed over their tokens).
        reference_N: the same under the reference.

    Raises:
        ValueError: there are none.
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
    """Loss of single verdicts, summed and divided by the denominator; from 0 to the weight for each, lower is better.

    With ratio = log(policy / reference):

        desirable     desirable_weight * (1 - sigmoid(beta * (ratio - baseline)))
        undesirable   undesirable_weight * (1 - sigmoid(beta * (baseline - ratio)))

    Source: Ethayarajh et al. (2024), section 4, the loss L_KTO. They choose the weights so that both sides weigh about the same in all,
    verdicts times weight. No gradient flows through the baseline.

    Args:
        policy_N: log-probability of each branch under the policy (nats, summed over its learned tokens).
        reference_N: the same under the reference; no gradient flows into it.
        desirable_N: the verdicts (bool).
        denominator: number of branches over the whole optimizer step.
        baseline: `reference_point` of the whole step.
        beta: how soon the loss saturates; positive.
        desirable_weight: how much a desirable branch counts, 0 or more.
        undesirable_weight: the same of an undesirable one.

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
