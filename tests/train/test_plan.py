"""The largest batch of a plan, which is rehearsed before the first step."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from palmette.train.steps import plan as module
from palmette.train.steps.plan import StepPlan
from palmette.tree.batch import PackedBatch
from palmette.tree.packing import plan_packing
from palmette.tree.prefix_tree import Node, PrefixTree
from palmette.tree.segments import Segment


def made(lengths: list[int], trees_per_step: int, budget: int = 60, *, one_row: bool = False) -> StepPlan:
    def tree(index: int, length: int) -> PrefixTree:
        branch = Node((Segment((7,), learn=1.0),), name="answer")
        return PrefixTree(Node((Segment((index + 10, *(3,) * (length - 2))),), (branch,)), str(index))

    trees = [tree(index, length) for index, length in enumerate(lengths)]
    return StepPlan(
        trees, trees_per_step=trees_per_step, row_tokens=500, tokens_per_batch=budget, seed=3, one_row=one_row
    )


def first_largest(plan: StepPlan, num_epochs: int) -> PackedBatch:
    """By packing every step."""
    every = [
        batch
        for epoch in range(num_epochs)
        for step in range(plan.steps_per_epoch)
        for batch in plan.step_batches(epoch, step)
    ]
    return max(every, key=lambda batch: batch.num_tokens)  # the first one on a tie


def names(batch: PackedBatch) -> list[list[tuple[str, str]]]:
    return [layout.nodes for layout in batch.rows]


@given(st.lists(st.integers(2, 99), min_size=1, max_size=25), st.integers(1, 6), st.integers(1, 3), st.booleans())
def test_no_batch_of_any_step_is_larger(lengths: list[int], trees_per_step: int, epochs: int, one_row: bool) -> None:
    plan = made(lengths, trees_per_step, one_row=one_row)
    assert names(plan.largest_batch(epochs)) == names(first_largest(plan, epochs))


def test_a_large_data_set_is_not_packed_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """400 steps of four trees, of which 20 may be packed. A tree that is the longest by far is in a step that is not
    among the 20 with the most tokens.
    """
    lengths = [55 if index % 2 else 5 for index in range(1599)] + [90]
    plan = made(lengths, 4)
    totals = [sum(lengths[tree] for tree in plan.step_trees(0, step)) for step in range(plan.steps_per_epoch)]
    (longest,) = (step for step in range(plan.steps_per_epoch) if 1599 in plan.step_trees(0, step))
    assert sum(total > totals[longest] for total in totals) > 20
    packed: list[int] = []

    def counted(trees: list[PrefixTree], **limits: Any) -> list[list[list[int]]]:
        packed.append(len(trees))
        return plan_packing(trees, **limits)

    monkeypatch.setattr(module, "plan_packing", counted)
    monkeypatch.setattr(module, "_MOST_PACKED", 80)
    ((first, *_),) = names(plan.largest_batch(1))
    assert first == ("1599", "")
    assert packed == [4] * 21
