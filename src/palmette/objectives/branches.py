"""Flat tensors over the tokens of branches: sums, places, ends, and shares of a loss.

No tensor here has padding. A tensor over P holds the tokens one after the other, and `branch_P` holds the branch of
each, an index from 0 to num_branches - 1. Tokens of one branch come in their order along it. Tokens of several branches
may alternate.

Letters of all objectives: P scored tokens, N branches, M pairs of branches, G groups of branches.
"""

from __future__ import annotations

import math
from typing import Literal

import torch

Per = Literal["token", "branch"]


def check_denominator(denominator: float, counted: str) -> None:
    """Refuse a denominator that is not a positive number.

    Args:
        denominator: the denominator of a step.
        counted: what it counts, for the message.

    Raises:
        ValueError: it is not positive, or not finite.
    """
    if not (denominator > 0 and math.isfinite(denominator)):
        raise ValueError(f"the number of {counted} of a step must be positive and finite, not {denominator}")


def branch_sum(value_P: torch.Tensor, branch_P: torch.Tensor, num_branches: int) -> torch.Tensor:
    """Sums along each branch [N]. The sum of a branch without tokens is 0.

    >>> branch_sum(torch.tensor([1.0, 2.0, 4.0]), torch.tensor([0, 2, 0]), 3)
    tensor([5., 0., 2.])
    """
    return value_P.new_zeros(num_branches).index_add(0, branch_P, value_P)


def branch_counts(branch_P: torch.Tensor, num_branches: int) -> torch.Tensor:
    """Number of tokens of each branch [N] (int)."""
    return torch.bincount(branch_P, minlength=num_branches)


def places(branch_P: torch.Tensor) -> torch.Tensor:
    """The place of each token along its branch [P], from 0.

    >>> places(torch.tensor([1, 0, 1, 1, 0]))
    tensor([0, 0, 1, 2, 1])
    """
    if not len(branch_P):
        return branch_P.clone()
    order_P = torch.argsort(branch_P, stable=True)
    count_N = torch.bincount(branch_P)
    start_N = count_N.cumsum(0) - count_N
    place_P = torch.empty_like(branch_P)
    place_P[order_P] = torch.arange(len(branch_P), device=branch_P.device) - start_N[branch_P[order_P]]
    return place_P


def last_tokens(branch_P: torch.Tensor, num_branches: int) -> torch.Tensor:
    """The index into P of the last token of each branch [N].

    >>> last_tokens(torch.tensor([1, 0, 1, 1, 0]), 2)
    tensor([4, 3])

    Raises:
        ValueError: a branch has no token.
    """
    index_P = torch.arange(len(branch_P), device=branch_P.device)
    last_N = index_P.new_full((num_branches,), -1).scatter_reduce(0, branch_P, index_P, "amax")
    if bool((last_N < 0).any()):
        raise ValueError(f"branch {int((last_N < 0).nonzero()[0])} of {num_branches} has no token")
    return last_N


def token_shares(weight_P: torch.Tensor, branch_P: torch.Tensor, num_branches: int, per: Per) -> torch.Tensor:
    """How much each token counts in a loss [P], before the division by the step's denominator.

    Args:
        weight_P: learn weights. A token of weight 0 does not count in the loss.
        branch_P: the branch of each token.
        num_branches: N.
        per: with "token", each token counts as much as its weight. With "branch", each branch counts as one, however
            long it is, and a branch without learned tokens does not count. Then all tokens of a branch must be given
            together.

    Raises:
        ValueError: `per` is unknown.
    """
    if per == "token":
        return weight_P
    if per != "branch":
        raise ValueError(f"per must be 'token' or 'branch', not {per!r}")
    total_N = branch_sum(weight_P, branch_P, num_branches)
    return weight_P / torch.where(total_N > 0, total_N, 1.0)[branch_P]
