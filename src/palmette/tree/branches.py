"""The branches of a packed batch: where each one ends, and which one each scored token belongs to.

Letters: B rows, T tokens of a row, N branches, P learned or scored tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from palmette.errors import PackingError
from palmette.tree.batch import PackedBatch
from palmette.tree.prefix_tree import Layout

_SEVERAL = -1  # the branch of a node that several branches run through


@dataclass(frozen=True)
class Branches:
    """Every path from a root to a leaf, in row order.

    Attributes:
        names: (tree name, leaf name) of each branch.
        row_N: the row that holds it.
        last_N: the column of its last token. A leaf without tokens ends where the node above it does.
        branch_M: for each node of all rows, row by row, the branch that runs through it, or -1 where several do.
        first_B: the index in `branch_M` at which the nodes of each row begin.
    """

    names: tuple[tuple[str, str], ...]
    row_N: torch.Tensor
    last_N: torch.Tensor
    branch_M: torch.Tensor
    first_B: torch.Tensor

    def __len__(self) -> int:
        return len(self.names)

    def of_tokens(self, batch: PackedBatch, row_P: torch.Tensor, column_P: torch.Tensor) -> torch.Tensor:
        """The branch [P] that each of these tokens belongs to (int64).

        Args:
            batch: the batch whose branches these are.
            row_P: the row of each token.
            column_P: its column.

        Raises:
            PackingError: a token is padding, or several branches share it.
        """
        node_P = batch.node_BT[row_P, column_P]
        branch_P = self.branch_M[self.first_B[row_P] + node_P]
        wrong_P = (node_P < 0) | (branch_P == _SEVERAL)
        if bool(wrong_P.any()):
            at = int(wrong_P.nonzero()[0])
            row, node = int(row_P[at]), int(node_P[at])
            of = f"node {batch.rows[row].nodes[node]}, which several branches share" if node >= 0 else "the padding"
            raise PackingError(
                f"token {int(column_P[at])} of row {row} belongs to {of}, so it does not belong to a single branch",
                "Score tokens of leaves only.",
            )
        return branch_P

    def by_tree(self) -> dict[str, dict[str, int]]:
        """The branches of each tree: {tree name: {leaf name: index of the branch}}, in row order."""
        trees: dict[str, dict[str, int]] = {}
        for index, (tree, leaf) in enumerate(self.names):
            trees.setdefault(tree, {})[leaf] = index
        return trees


def find_branches(batch: PackedBatch) -> Branches:
    """The branches of a packed batch.

    Trunk [5, 6] with branches [7] and [8, 9], and the tree [3, 4] in a row of its own:

    >>> from palmette.tree.prefix_tree import Node, PrefixTree
    >>> from palmette.tree.segments import Segment
    >>> leaf = lambda name, *tokens: Node((Segment(tokens, learn=1.0),), name=name)
    >>> forked = PrefixTree(Node((Segment((5, 6)),), (leaf("0", 7), leaf("1", 8, 9))), "a")
    >>> batch = PackedBatch.from_trees([[forked], [PrefixTree(Node((Segment((3, 4)),), name="0"), "b")]])
    >>> branches = find_branches(batch)
    >>> branches.names
    (('a', '0'), ('a', '1'), ('b', '0'))
    >>> branches.row_N.tolist(), branches.last_N.tolist()
    ([0, 0, 1], [2, 4, 1])
    >>> branches.of_tokens(batch, torch.tensor([0, 0, 0, 1]), torch.tensor([2, 3, 4, 1])).tolist()
    [0, 1, 1, 2]
    >>> branches.by_tree()
    {'a': {'0': 0, '1': 1}, 'b': {'0': 2}}

    Raises:
        PackingError: two branches have the same names, or a branch has no token.
    """
    names: list[tuple[str, str]] = []
    rows: list[int] = []
    last: list[int] = []
    branch: list[int] = []
    first: list[int] = []
    for row, layout in enumerate(batch.rows):
        ends = _ends(layout)
        leaves = sorted(set(range(len(layout.nodes))) - set(layout.parents))
        first.append(len(branch))
        branch.extend(_owners(layout, {leaf: len(names) + index for index, leaf in enumerate(leaves)}))
        names.extend(layout.nodes[leaf] for leaf in leaves)
        rows.extend([row] * len(leaves))
        last.extend(ends[leaf] for leaf in leaves)
    _check(names, last)

    def tensor(values: list[int]) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.int64, device=batch.token_BT.device)

    return Branches(tuple(names), tensor(rows), tensor(last), tensor(branch), tensor(first))


def _ends(layout: Layout) -> list[int]:
    """For each node the row index of the last token on its path, or -1 where there is none."""
    own = [-1] * len(layout.nodes)
    for index, node in enumerate(layout.node):
        own[node] = index
    for node, parent in enumerate(layout.parents):  # parents come before children
        if own[node] < 0 <= parent:
            own[node] = own[parent]
    return own


def _owners(layout: Layout, leaves: dict[int, int]) -> list[int]:
    """For each node the branch that runs through it, or `_SEVERAL`, given the branch of each leaf."""
    owner: list[int | None] = [leaves.get(node) for node in range(len(layout.nodes))]
    for node in reversed(range(len(owner))):
        parent = layout.parents[node]
        if parent >= 0:
            owner[parent] = owner[node] if owner[parent] is None else _SEVERAL
    return [_SEVERAL if branch is None else branch for branch in owner]


def _check(names: list[tuple[str, str]], last: list[int]) -> None:
    seen = set()
    for name, end in zip(names, last, strict=True):
        if name in seen:
            raise PackingError(
                f"two branches of a batch are named {name[1]!r} in tree {name[0]!r}",
                "Give each record an id of its own, and each of its leaves a name.",
            )
        if end < 0:
            raise PackingError(f"the branch {name[1]!r} of tree {name[0]!r} has no token", "Take it out of the tree.")
        seen.add(name)
