"""What the leaves of preference trees stand for, as tensors: the ranks of comparisons, and the labels of verdicts."""

from __future__ import annotations

import torch

from palmette.tasks.preference import BAD, GOOD
from palmette.tree.branches import Branches


def ranks(branches: Branches) -> tuple[torch.Tensor, torch.Tensor]:
    """The ranks of the branches of comparisons.

    Returns:
        rank_N: the rank of each branch in its comparison, 0 = best.
        list_N: the number of its comparison. Comparisons are numbered in the order of their first branches, as in
            `branches.by_tree()`.
    """
    number = {tree: index for index, tree in enumerate(branches.by_tree())}
    device = branches.last_N.device
    rank_N = torch.tensor([int(leaf) for _, leaf in branches.names], device=device)
    return rank_N, torch.tensor([number[tree] for tree, _ in branches.names], device=device)


def labels(branches: Branches) -> tuple[torch.Tensor, torch.Tensor]:
    """The labels of the branches of verdicts.

    Returns:
        judged_N: whether somebody judged the branch (bool). The others are completions under a prompt that they do not
            answer.
        good_N: whether it was judged good (bool).
    """
    leaves, device = [leaf for _, leaf in branches.names], branches.last_N.device
    judged_N = torch.tensor([leaf in (GOOD, BAD) for leaf in leaves], dtype=torch.bool, device=device)
    return judged_N, torch.tensor([leaf == GOOD for leaf in leaves], dtype=torch.bool, device=device)
