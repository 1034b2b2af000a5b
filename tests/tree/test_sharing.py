"""Trees of a row share the leading segments that they have in common: fewer tokens, the same numbers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from palmette.data.source import read_source
from palmette.decode.abstention import abstention_probabilities
from palmette.errors import PackingError
from palmette.model.attention import BACKENDS
from palmette.model.forward import branch_logprobs, score_tokens
from palmette.tasks.extractive_qa import ExtractiveQa
from palmette.train.steps.plan import StepPlan
from palmette.train.steps.step import nll_objective
from palmette.tree.batch import PackedBatch
from palmette.tree.chat import ChatTemplate
from palmette.tree.packing import padded_length, plan_single_rows
from palmette.tree.prefix_tree import Layout, Node, PrefixTree, lay_out
from palmette.tree.segments import Segment
from tests.support.equality import assert_equal_to_oracle, gradients
from tests.support.models import tiny_llama
from tests.support.oracle import branches
from tests.support.poison import KEY, wanted
from tests.support.trees import KINDS, chain, forests, forests_of


def prefixes(tree: PrefixTree) -> list[tuple[Segment, ...]]:
    """The beginnings of a tree, segment by segment, that others might share."""
    held = [segment for segment in tree.root.segments if segment.tokens]
    learned = next((index for index, segment in enumerate(held) if segment.learn), len(held))
    return [tuple(held[: index + 1]) for index in range(learned)]


def leaf_nodes(row: Layout) -> list[int]:
    return sorted(set(range(len(row.nodes))) - set(row.parents))


def kinds_of(row: Layout, own: list[tuple[str, str]]) -> set[str]:
    """Which of the `KINDS` a layout is of; `own` are the names of the trees' nodes, tree by tree."""
    shared = [node for node, name in enumerate(row.nodes) if name == ("", "")]
    found = {
        "shared": bool(shared),
        "nothing shared": not shared,
        "shared below what is shared": any(row.parents[node] in shared for node in shared),
        "a root without tokens": any(node not in row.node for node in range(len(row.nodes))),
        "a leaf without tokens": any(leaf not in row.node for leaf in leaf_nodes(row)),
        "trees that trade places": [name for name in row.nodes if name[0]] != own,
    }
    return {kind for kind, holds in found.items() if holds}


@pytest.mark.parametrize("kind", [None, *KINDS])
def test_every_branch_reads_as_in_its_own_tree_and_sees_nothing_else(kind: str | None) -> None:
    """Random trees of any kind, and those that are of a kind on purpose, each of which is shown to be."""

    @settings(max_examples=150 if kind is None else 30, deadline=None)
    @given(forests() if kind is None else forests_of(kind))
    def check(trees: list[PrefixTree]) -> None:
        row = lay_out(*trees)
        own = [(tree.name, node.name) for tree in trees for node in tree.nodes()]
        assert sorted(name for name in row.nodes if name != ("", "")) == sorted(own)
        paths = {(tree.name, path[-1].name): path for tree in trees for path in branches(tree.root)}
        assert sorted(row.nodes[leaf] for leaf in leaf_nodes(row)) == sorted(paths)
        for leaf in leaf_nodes(row):
            at = chain(row, leaf)
            held = [s for node in paths[row.nodes[leaf]] for s in node.segments for _ in s.tokens]
            assert [row.token[i] for i in at] == [
                t for node in paths[row.nodes[leaf]] for s in node.segments for t in s.tokens
            ]
            assert [(row.attend[i], row.learn[i]) for i in at] == [(s.attend, s.learn) for s in held]
            assert [row.position[i] for i in at] == list(range(len(at)))
            for depth, i in enumerate(at):
                assert [j for j in range(i + 1) if i < row.subtree_end[j]] == at[: depth + 1]
        # Each beginning once, what is learned as often as there are trees.
        once = {prefix: len(prefix[-1].tokens) for tree in trees for prefix in prefixes(tree)}
        sharable = sum(len(prefix[-1].tokens) for tree in trees for prefix in prefixes(tree))
        num_tokens = sum(tree.num_tokens for tree in trees)
        assert len(row) == num_tokens - sharable + sum(once.values())
        assert sum(row.learn) == pytest.approx(sum(tree.learn_weight for tree in trees))
        assert kind is None or kind in kinds_of(row, own)

    check()


@pytest.mark.parametrize("kind", [None, "shared"])
@pytest.mark.parametrize("backend", sorted(BACKENDS))
def test_trees_that_share_equal_the_oracle(backend: str, kind: str | None) -> None:
    """Losses, gradients and branch log-probabilities, against a plain row for each branch."""
    model, plain = tiny_llama(backend=BACKENDS[backend]), tiny_llama(backend="sdpa")

    @settings(max_examples=15, deadline=None)
    @given(forests() if kind is None else forests_of(kind))
    def check(trees: list[PrefixTree]) -> None:
        assert kind is None or len(lay_out(*trees)) < sum(tree.num_tokens for tree in trees)
        assert_equal_to_oracle(model, plain, [trees])
        assert_equal_to_oracle(model, plain, [trees[:1], trees[1:]])

    check()


def tree(name: str, *segments: Segment | tuple[int, ...]) -> PrefixTree:
    """A root of these segments, and two branches that learn."""
    held = tuple(s if isinstance(s, Segment) else Segment(s) for s in segments)
    children = tuple(Node((Segment((20 + i, 30), learn=1.0),), name=f"{name}{i}") for i in range(2))
    return PrefixTree(Node(held, children, name), name)


HIDDEN, LEARNED = Segment((2, 3), attend=False), Segment((2, 3), learn=1.0)
CASES = {
    "identical": ([tree("a", (1,), (2, 3)), tree("b", (1,), (2, 3))], 3),
    "one the beginning of the other": ([tree("a", (1,), (2, 3), (4,)), tree("b", (1,), (2, 3))], 3),
    "roots of one token": ([tree("a", (1,)), tree("b", (1,)), tree("c", (2,))], 1),
    "blank segments": ([tree("a", (), (1,), (), (2,)), tree("b", (1,), (2,), ())], 2),
    "no tokens in common": ([tree("a", (), (1,)), tree("b", (), (2,))], 0),
    "half a segment": ([tree("a", (1, 2, 3)), tree("b", (1, 2, 4))], 0),
    "other cuts": ([tree("a", (1, 2)), tree("b", (1,), (2,))], 0),
    "learned": ([tree("a", (1,), LEARNED, (4,)), tree("b", (1,), LEARNED, (4,))], 1),
    "learned in one only": ([tree("a", (1,), LEARNED), tree("b", (1,), (2, 3))], 1),
    "hidden in both": ([tree("a", (1,), HIDDEN), tree("b", (1,), HIDDEN)], 3),
    "hidden in one only": ([tree("a", (1,), HIDDEN), tree("b", (1,), (2, 3))], 1),
    "nested": ([tree("a", (1,), (2,), (3,)), tree("b", (1,), (5,)), tree("c", (1,), (2,), (4,))], 3),
}


@pytest.mark.parametrize("case", CASES)
def test_edges(case: str) -> None:
    """The tokens saved were counted by hand."""
    trees, saved = CASES[case]
    assert sum(tree.num_tokens for tree in trees) - len(lay_out(*trees)) == saved
    model, plain = tiny_llama(), tiny_llama(backend="sdpa")
    assert_equal_to_oracle(model, plain, [trees])
    batch = PackedBatch.from_trees([trees])
    (found,) = branch_logprobs(batch, score_tokens(model, batch))
    assert sorted(found) == [(tree.name, f"{tree.name}{i}") for tree in trees for i in range(2)]


def test_a_first_token_that_is_learned_is_refused_beside_trees_that_share() -> None:
    with pytest.raises(PackingError, match="'c' learns its first token"):
        lay_out(tree("a", (1,)), tree("b", (1,)), tree("c", LEARNED))


@pytest.mark.parametrize("backend", sorted(BACKENDS))
@pytest.mark.parametrize("victim_first", [False, True])
def test_a_key_that_everybody_wants_stays_in_its_tree(backend: str, victim_first: bool) -> None:
    model = wanted(tiny_llama(backend=BACKENDS[backend]))

    def victim(shared: tuple[int, ...], poison: int) -> torch.Tensor:
        trees = [tree("poisoned", shared, (poison, poison)), tree("victim", shared, (9, 9))]
        batch = PackedBatch.from_trees([trees[::-1] if victim_first else trees])
        assert batch.num_tokens == sum(tree.num_tokens for tree in trees) - len(shared)
        with torch.no_grad():
            return branch_logprobs(batch, score_tokens(model, batch))[0]["victim", "victim1"]

    clean = victim((1, 2), 8)
    assert torch.equal(clean, victim((1, 2), KEY))
    # Vacuity guard: in what they share the same key changes the answer a great deal.
    assert abs(float(victim((1, KEY), 8) - clean)) > 0.1


@given(forests(), st.integers(1, 4), st.integers(1, 140))
def test_single_rows_hold_every_tree_once_within_the_budget_and_evenly(
    trees: list[PrefixTree], copies: int, budget: int
) -> None:
    trees = trees * copies
    batches = plan_single_rows(trees, tokens_per_batch=budget)
    assert sorted(index for (row,) in batches for index in row) == list(range(len(trees)))
    used = [len(lay_out(*(trees[index] for index in row))) for (row,) in batches]
    assert all(padded_length(n) <= budget or len(row) == 1 for n, (row,) in zip(used, batches, strict=True))
    assert max(used) - min(used) <= max(tree.num_tokens for tree in trees)
    if padded_length(len(lay_out(*trees))) <= budget:
        assert len(batches) == 1


def test_no_trees_make_no_rows() -> None:
    assert plan_single_rows([], tokens_per_batch=64) == []


def test_a_step_in_one_row_is_the_same_step() -> None:
    """Rows as dense masks want them, one row, several single rows: one loss, one gradient; and fewer tokens.

    The trees have 12 tokens in common, 4 in branches, and 1, 5, ... 25 of their own: 203 in all. Rows of 64 hold them
    as 41 + 21, 37 + 25, 33 + 29 and 17, which saves 3 * 12; one row saves 6 * 12, three save 4 * 12.
    """
    model = tiny_llama()
    trees = [tree(str(number), (1, 2, 3), (4,) * 9, tuple(range(10, 11 + 4 * number))) for number in range(7)]
    results = []
    for one_row, budget in ((False, 4096), (True, 4096), (True, 64)):
        plan = StepPlan(trees, trees_per_step=7, row_tokens=64, tokens_per_batch=budget, seed=1, one_row=one_row)
        batches = plan.step_batches(0, 0)
        denominator, loss = sum(batch.learn_weight for batch in batches), 0.0
        for batch in batches:
            part = nll_objective(model, batch, denominator)
            part.backward()
            loss += float(part.detach())
        shapes = [tuple(batch.token_BT.shape) for batch in batches]
        results.append((loss, gradients(model), shapes, sum(batch.num_tokens for batch in batches)))
    assert [found[2] for found in results] == [[(4, 64)], [(1, 160)], [(1, 64)] * 3]
    assert [found[3] for found in results] == [203 - 36, 203 - 72, 203 - 48]
    (wanted_loss, wanted_gradients, *_), *others = results
    for loss, found, _, _ in others:
        assert loss == pytest.approx(wanted_loss, rel=1e-12)
        assert max(float((a - b).abs().max()) for a, b in zip(found, wanted_gradients, strict=True)) < 1e-11


def test_a_tree_over_row_tokens_is_refused_in_one_row_too() -> None:
    with pytest.raises(PackingError, match=r"more than train\.row_tokens = 6"):
        StepPlan([tree("long", (1, 2, 3))], trees_per_step=1, row_tokens=6, tokens_per_batch=99, seed=0, one_row=True)


def test_abstention_is_the_same_in_one_row_and_in_rows(tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    task = ExtractiveQa(ChatTemplate(tokenizer))
    documents = read_source("builtin:dev", limit_documents=3).documents
    shapes = []
    original = PackedBatch.to

    def to(batch: PackedBatch, device: Any) -> PackedBatch:
        shapes.append(tuple(batch.token_BT.shape))
        return original(batch, device)

    monkeypatch.setattr(PackedBatch, "to", to)
    found = []
    for backend in ("sdpa", "eager"):
        model = tiny_llama(vocab_size=len(tokenizer), backend=BACKENDS[backend])
        answers = abstention_probabilities(model, task, documents, tokens_per_batch=16384)
        found.append({question: value for batch in answers for question, value in batch.items()})
    assert found[0] == pytest.approx(found[1], rel=1e-9)
    assert [shape[0] for shape in shapes] == [1, 3]
