"""Negative log-likelihood of the learned tokens."""

from __future__ import annotations

import torch


def weighted_nll(logprob_P: torch.Tensor, weight_P: torch.Tensor, denominator: float) -> torch.Tensor:
    """Weighted mean negative log-likelihood in nats: -sum(weight * logprob) / denominator. Lower is better.

    The denominator is the learned weight of the *whole* optimizer step. So the losses of its micro-batches add up to
    the step's loss, however the step was cut.

    Args:
        logprob_P: log-probabilities of the learned tokens (nats).
        weight_P: learn weights of these tokens.
        denominator: sum of the learn weights over the optimizer step, positive.

    Raises:
        ValueError: the denominator is not positive.
    """
    if not denominator > 0:
        raise ValueError(f"the learned weight of a step must be positive, not {denominator}")
    return -(weight_P.to(logprob_P.dtype) * logprob_P).sum() / denominator
