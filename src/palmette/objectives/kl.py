"""KL divergence of a policy from its reference: estimates from samples, an adaptive coefficient, a limit."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch

from palmette.objectives.branches import check_denominator

Estimator = Literal["k1", "k2", "k3"]


def kl_estimate(policy_P: torch.Tensor, reference_P: torch.Tensor, estimator: Estimator) -> torch.Tensor:
    """One-sample estimates [P] of KL(policy || reference) at each token (nats), for tokens sampled from the policy.

    With ratio = reference / policy:

        k1   -log ratio               unbiased, may be negative, sums to log(policy / reference) along a branch
        k2   (log ratio)^2 / 2        biased, low variance
        k3   ratio - 1 - log ratio    unbiased, never negative

    Source: Schulman (2020), "Approximating KL divergence", which has these names. Ziegler et al. (2019) and Ouyang et
    al. (2022) put k1 into the reward. Shao et al. (2024, GRPO), equation 4, put k3 into the loss.

    Args:
        policy_P: log-probabilities of the sampled tokens under the policy (nats).
        reference_P: log-probabilities of the same tokens under the reference (nats).
        estimator: the name of the estimator.

    Raises:
        ValueError: `estimator` is unknown.
    """
    log_ratio_P = reference_P - policy_P
    if estimator == "k1":
        return -log_ratio_P
    if estimator == "k2":
        return log_ratio_P**2 / 2
    if estimator == "k3":
        return torch.expm1(log_ratio_P) - log_ratio_P
    raise ValueError(f"estimator must be 'k1', 'k2' or 'k3', not {estimator!r}")


@dataclass(frozen=True)
class AdaptiveKL:
    """A controller that holds the KL divergence near a target. Source: Ziegler et al. (2019), section 2.2.

    Attributes:
        target: the KL divergence to hold (nats a completion, summed over its tokens), positive.
        gain: K in the paper. The coefficient changes by this share of the clipped error in each step.
        limit: largest error that counts, as a share of the target.

    Raises:
        ValueError: one of them is not positive.
    """

    target: float
    gain: float = 0.1
    limit: float = 0.2

    def __post_init__(self) -> None:
        if not min(self.target, self.gain, self.limit) > 0:
            raise ValueError(f"target, gain and limit must be positive: {self}")

    def next_coefficient(self, coefficient: float, kl: float) -> float:
        """The coefficient after a step: coefficient * (1 + gain * clip(kl / target - 1, -limit, limit)).

        Args:
            coefficient: the coefficient of the step.
            kl: the KL divergence that the step had (nats a completion), a mean over the whole step.
        """
        error = max(-self.limit, min(self.limit, kl / self.target - 1))
        return coefficient * (1 + self.gain * error)


def mean_completion_kl(kl_P: torch.Tensor, num_completions: int) -> float:
    """KL divergence per completion (nats): the sum over all learned tokens, divided by the number of completions.

    This is the number that `AdaptiveKL` holds near its target.

    Args:
        kl_P: estimates of `kl_estimate`, of this micro-batch or of the whole step.
        num_completions: number of completions of the whole step. With it, the results of micro-batches add up.

    Raises:
        ValueError: there is no completion.
    """
    check_denominator(num_completions, "completions")
    return float(kl_P.detach().sum()) / num_completions


def kl_ran_away(kl: float, limit: float) -> bool:
    """Whether training should stop because the KL divergence (nats, as the limit) is above the limit or not finite.

    None of the papers has such a stop. A policy this far from its reference mostly exploits the reward model (Gao et
    al., 2022).
    """
    return not math.isfinite(kl) or kl > limit
