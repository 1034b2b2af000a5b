"""Direct preference optimisation: a loss over pairs of branches, without a reward model.

Letters: N branches, M pairs. Pairs are given as indices into the branches, so a branch may be part of many pairs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch.nn.functional import logsigmoid

from palmette.objectives.branches import check_denominator
from palmette.objectives.reward import pair_accuracy


@dataclass(frozen=True)
class PreferenceLoss:
    """A loss over pairs, with the implicit rewards behind it.

    Attributes:
        loss: this micro-batch's share of the step's loss. The shares of a step add up to it.
        chosen_reward_M, rejected_reward_M: implicit rewards, beta * log(policy / reference), without gradient. They are
            summed over tokens (nats) and never divided by the number of tokens.
    """

    loss: torch.Tensor
    chosen_reward_M: torch.Tensor
    rejected_reward_M: torch.Tensor

    @property
    def margin_M(self) -> torch.Tensor:
        """Implicit reward of the chosen side minus that of the rejected side."""
        return self.chosen_reward_M - self.rejected_reward_M

    @property
    def accuracy(self) -> torch.Tensor:
        """Share of the pairs with a positive margin, as in `pair_accuracy`."""
        return pair_accuracy(self.margin_M)


def dpo_loss(
    policy_N: torch.Tensor,
    reference_N: torch.Tensor,
    chosen_M: torch.Tensor,
    rejected_M: torch.Tensor,
    denominator: float,
    *,
    beta: float = 0.1,
    kind: Literal["sigmoid", "ipo"] = "sigmoid",
    label_smoothing: float = 0.0,
    num_tokens_N: torch.Tensor | None = None,
) -> PreferenceLoss:
    """Loss of the pairs, summed and divided by the denominator. Lower is better.

    With lead = log(policy / reference) of the chosen branch minus that of the rejected branch:

        sigmoid   -(1 - label_smoothing) * log sigmoid(beta * lead) - label_smoothing * log sigmoid(-beta * lead)
        ipo       (lead - 1 / (2 * beta))^2

    Sigmoid is in nats, ipo in nats squared. Where policy and reference agree, sigmoid gives ln 2 for any beta and any
    label smoothing.

    Sources:
    - sigmoid: Rafailov et al. (2023), equation 7.
    - Label smoothing: Mitchell (2023), "A note on DPO with noisy preferences" (conservative DPO).
    - ipo: Azar et al. (2023), equation 17, where beta is called tau. The paper sums log-ratios over tokens. TRL divides
      them by the number of tokens, which `num_tokens_N` does here.
    - Length normalisation: Meng et al. (2024), "SimPO". Unlike there, the reference is kept.

    Args:
        policy_N: log-probability of each branch under the policy (nats, summed over its learned tokens).
        reference_N: log-probability of each branch under the reference (nats). No gradient flows into it.
        chosen_M: the branch of each pair that won, as an index into N.
        rejected_M: the branch of each pair that lost, as an index into N.
        denominator: number of pairs over the whole optimizer step.
        beta: weight of a deviation from the reference, positive. Its unit is per nat, or per nat a token with
            `num_tokens_N`.
        kind: the loss.
        label_smoothing: probability that a verdict is the wrong way round, from 0 to less than 0.5. For sigmoid only.
        num_tokens_N: number of learned tokens of each branch. If given, log-ratios are means over tokens instead of
            sums.

    Raises:
        ValueError: the denominator or `beta` is not positive, `label_smoothing` is out of range or given for ipo, a
            branch has no learned token, or `kind` is unknown.
    """
    check_denominator(denominator, "pairs")
    _check(beta, kind, label_smoothing)
    ratio_N = policy_N - reference_N.detach()
    scaled_N = ratio_N if num_tokens_N is None else ratio_N / _positive(num_tokens_N)
    lead_M = scaled_N[chosen_M] - scaled_N[rejected_M]
    if kind == "ipo":
        loss_M = (lead_M - 1 / (2 * beta)) ** 2
    else:
        loss_M = -(1 - label_smoothing) * logsigmoid(beta * lead_M)
        if label_smoothing:
            loss_M = loss_M - label_smoothing * logsigmoid(-beta * lead_M)
    reward_N = beta * ratio_N.detach()
    return PreferenceLoss(loss_M.sum() / denominator, reward_N[chosen_M], reward_N[rejected_M])


def _check(beta: float, kind: str, label_smoothing: float) -> None:
    if not beta > 0:
        raise ValueError(f"beta must be positive, not {beta}")
    if kind not in ("sigmoid", "ipo"):
        raise ValueError(f"kind must be 'sigmoid' or 'ipo', not {kind!r}")
    if not 0 <= label_smoothing < 0.5:
        raise ValueError(f"label_smoothing must be from 0 to less than 0.5, not {label_smoothing}")
    if label_smoothing and kind != "sigmoid":
        raise ValueError(f"label_smoothing goes with kind 'sigmoid', not {kind!r}")


def _positive(num_tokens_N: torch.Tensor) -> torch.Tensor:
    if bool((num_tokens_N <= 0).any()):
        raise ValueError("a branch has no learned token")
    return num_tokens_N
