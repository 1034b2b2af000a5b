"""Branches of preferences are found in packed rows, and their log-probabilities are those of rows of their own."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from palmette.errors import PackingError
from palmette.tree.batch import PackedBatch
from palmette.tree.branches import find_branches
from palmette.tree.prefix_tree import Node, PrefixTree
from palmette.tree.segments import Segment
from tests.support.oracle import branches as paths_of
from tests.support.trees import chain, forests

# Two trees of one root each: they share all of it, so that the leaves have no tokens of their own, and a token has two
# branches.
LEAFLESS = [
    PrefixTree(Node((Segment((1, 2)),), (), "a"), "ta"),
    PrefixTree(Node((Segment((1, 2)),), (), "b"), "tb"),
    PrefixTree(Node((Segment((3,)),), (Node((Segment((4,), learn=1.0),), name="d"),), "c"), "tc"),
]


def test_the_branches_of_random_trees_are_found() -> None:
    """Against chains of predecessors; a token belongs to a branch if no other branch's chain holds it."""
    seen: Counter[str] = Counter()

    @settings(max_examples=80, deadline=None)
    @example(LEAFLESS, False)
    @given(forests(), st.booleans())
    def check(trees: list[PrefixTree], apart: bool) -> None:
        batch = PackedBatch.from_trees([trees[:1], trees[1:]] if apart else [trees])
        branches = find_branches(batch)
        expected = {(tree.name, path[-1].name): path for tree in trees for path in paths_of(tree.root)}
        assert sorted(branches.names) == sorted(expected)
        on: dict[tuple[int, int], list[int]] = {}
        for index, name in enumerate(branches.names):
            row = int(branches.row_N[index])
            at = chain(batch.rows[row], batch.rows[row].nodes.index(name))
            assert at[-1] == int(branches.last_N[index])
            assert len(at) == sum(node.num_tokens for node in expected[name])
            for column in at:
                on.setdefault((row, column), []).append(index)
        for (row, column), held in on.items():
            place = torch.tensor([row]), torch.tensor([column])
            if len(held) == 1:
                assert branches.of_tokens(batch, *place).tolist() == held
            else:
                with pytest.raises(PackingError, match="several branches share"):
                    branches.of_tokens(batch, *place)
            seen["one" if len(held) == 1 else "several"] += 1
        seen["a leaf without tokens"] += any(
            row.nodes.index(name) not in row.node for row in batch.rows for name in row.nodes if name in expected
        )

    check()
    assert len(seen) == 3
    assert min(seen.values()) > 0, seen


def leaf(name: str, *tokens: int) -> Node:
    return Node((Segment(tokens),), name=name)


ODD = {
    "named alike in a tree": ([[PrefixTree(Node((Segment((5,)),), (leaf("0", 7), leaf("0", 8))), "a")]], "named '0'"),
    "trees named alike": ([[PrefixTree(leaf("0", 7), "a")], [PrefixTree(leaf("0", 8), "a")]], "in tree 'a'"),
    "no token": ([[PrefixTree(leaf("0"), "a"), PrefixTree(leaf("0", 8), "b")]], "branch '0' of tree 'a' has no token"),
}


@pytest.mark.parametrize("case", sorted(ODD))
def test_branches_that_cannot_be_told_apart_are_refused(case: str) -> None:
    rows, message = ODD[case]
    with pytest.raises(PackingError, match=message):
        find_branches(PackedBatch.from_trees(rows))


def test_padding_belongs_to_no_branch() -> None:
    batch = PackedBatch.from_trees([[PrefixTree(leaf("0", 7, 8), "a")]])
    with pytest.raises(PackingError, match="token 2 of row 0 belongs to the padding"):
        find_branches(batch).of_tokens(batch, torch.tensor([0, 0]), torch.tensor([1, 2]))
