"""Losses of a reward model, from the rewards at the last tokens of branches.

A reward is any real number. Only differences of rewards have a meaning, unless the centring term ties them to 0. Pairs
are given as indices into the branches, so a branch may be part of many pairs, and its reward is computed once.

Letters: N branches, M pairs.
"""

from __future__ import annotations

import torch
from torch.nn.functional import logsigmoid

from palmette.objectives.branches import check_denominator


def bradley_terry_loss(
    reward_N: torch.Tensor,
    chosen_M: torch.Tensor,
    rejected_M: torch.Tensor,
    denominator: float,
    *,
    margin_M: torch.Tensor | None = None,
    weight_M: torch.Tensor | None = None,
    centring: float = 0.0,
) -> torch.Tensor:
    """Negative log-likelihood of the verdicts under Bradley and Terry (1952), in nats. Lower is better.

    A pair with equal rewards costs ln 2.

        sum over pairs of weight * [-log sigmoid(chosen - rejected - margin) + centring * (chosen + rejected)^2] /
        denominator

    Source: Ouyang et al. (2022), equation 1. The margin is from Touvron et al. (2023, Llama 2), equation 2, and the
    centring term from Eisenstein et al. (2023), "Helping or herding?". Ouyang et al. weight the K(K-1)/2 pairs of a
    prompt's list so that the list counts as one. `ranked_pairs` gives these weights.

    Args:
        reward_N: reward of each branch, at its last token.
        chosen_M: the branch of each pair that won, as an index into N.
        rejected_M: the branch of each pair that lost, as an index into N.
        denominator: sum of the pairs' weights over the whole optimizer step. Without weights, the number of pairs.
        margin_M: by how much the chosen reward should at least exceed the rejected one. None means 0.
        weight_M: how much each pair counts. None means 1.
        centring: weight of the centring term, 0 or more (0.01 is usual).

    Raises:
        ValueError: the denominator is not positive, or `centring` is negative.
    """
    check_denominator(denominator, "pairs")
    if centring < 0:
        raise ValueError(f"centring must be 0 or more, not {centring}")
    better_M, worse_M = reward_N[chosen_M], reward_N[rejected_M]
    lead_M = better_M - worse_M if margin_M is None else better_M - worse_M - margin_M
    loss_M = -logsigmoid(lead_M)
    if centring:
        loss_M = loss_M + centring * (better_M + worse_M) ** 2
    return (loss_M if weight_M is None else weight_M.to(loss_M.dtype) * loss_M).sum() / denominator


def plackett_luce_loss(
    reward_N: torch.Tensor, rank_N: torch.Tensor, list_N: torch.Tensor, denominator: float
) -> torch.Tensor:
    """Negative log-likelihood of ranked lists under Plackett and Luce, in nats a list. Lower is better.

        sum over branches i of [log(sum of exp(reward_j) over j of i's list, ranked as i or worse) - reward_i] /
        denominator

    The best branch is chosen among all, the second among the rest, and so on. For a list of two this is
    `bradley_terry_loss` without a margin. A list of K equal rewards costs ln K!. Sources: Plackett (1975), Luce (1959).
    Time and memory grow with the square of the number of branches in a micro-batch.

    Args:
        reward_N: reward of each branch, at its last token.
        rank_N: rank of each branch within its list. Any numbers, lower is better.
        list_N: the list that each branch belongs to. Any integers, in any order.
        denominator: number of lists over the whole optimizer step.

    Raises:
        ValueError: the denominator is not positive, or two branches of a list tie. Use `ranked_pairs` for ties.
    """
    check_denominator(denominator, "ranked lists")
    same_NN = list_N[:, None] == list_N[None, :]
    tie_NN = same_NN & (rank_N[:, None] == rank_N[None, :])
    if int(tie_NN.sum()) != len(reward_N):
        raise ValueError("two branches of a ranked list have the same rank, so compare them in pairs instead")
    among_NN = same_NN & (rank_N[None, :] >= rank_N[:, None])
    pool_N = torch.logsumexp(reward_N[None, :].masked_fill(~among_NN, -torch.inf), dim=1)
    return (pool_N - reward_N).sum() / denominator


def ranked_pairs(rank_N: torch.Tensor, list_N: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """All pairs of branches of one list whose ranks differ: (chosen_M, rejected_M, weight_M).

    The weights of a list's pairs add up to 1 (Ouyang et al., 2022, section 3.5). So the denominator of a loss over them
    is the number of lists that have pairs. Two branches with the same rank form no pair.

    >>> chosen, rejected, weight = ranked_pairs(torch.tensor([1, 2, 2, 1, 2]), torch.tensor([0, 0, 0, 7, 7]))
    >>> chosen.tolist(), rejected.tolist(), weight.tolist()
    ([0, 0, 3], [1, 2, 4], [0.5, 0.5, 1.0])
    """
    better_NN = (list_N[:, None] == list_N[None, :]) & (rank_N[:, None] < rank_N[None, :])
    chosen_M, rejected_M = better_NN.nonzero(as_tuple=True)
    owner_M = list_N[chosen_M]
    num_M = (owner_M[:, None] == owner_M[None, :]).sum(dim=1)
    return chosen_M, rejected_M, 1 / num_M.to(torch.float64)


def pair_accuracy(lead_M: torch.Tensor) -> torch.Tensor:
    """Share of the pairs whose chosen side leads, from 0 to 1.

    A lead of 0 counts half, as in AUROC. TRL counts it as wrong.

    Args:
        lead_M: reward of the chosen side minus that of the rejected side, for at least one pair. Rewards may be
            implicit.

    Raises:
        ValueError: there are no pairs.
    """
    if not len(lead_M):
        raise ValueError("accuracy needs at least one pair")
    return ((lead_M > 0).to(lead_M.dtype) + 0.5 * (lead_M == 0).to(lead_M.dtype)).mean()
