"""Reward, DPO and KTO off the packed tree: values and gradients of TRL's own losses on plain rows, however a step is
cut (laws 1 and 3).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from palmette.model.heads import add_head, head_of
from palmette.tasks.preference import BAD, GOOD, OTHER
from palmette.train.preferences.dpo import DpoObjective, num_pairs
from palmette.train.preferences.kto import KtoObjective, _only, num_verdicts
from palmette.train.preferences.reward import RewardObjective, num_comparisons
from palmette.train.recipes.preferences import DpoSection, KtoSection, RewardSection
from palmette.train.steps.plan import StepPlan
from palmette.train.steps.step import Tally
from palmette.tree.batch import PackedBatch
from palmette.tree.prefix_tree import Node, PrefixTree
from palmette.tree.segments import Segment
from tests.support.models import tiny_llama
from tests.support.oracle import branches as paths_of
from tests.support.oracle import flat, plain
from tests.support.trl_losses import trl_dpo_loss, trl_kto_loss, trl_reward_loss

SHARED = (1, 2, 3)
Gradients = dict[str, torch.Tensor]


def tree(name: str, prompt: tuple[int, ...], learn: float, **completions: tuple[int, ...]) -> PrefixTree:
    leaves = tuple(Node((Segment(tokens, learn=learn),), name=leaf) for leaf, tokens in completions.items())
    return PrefixTree(Node((Segment(SHARED), Segment(prompt)), leaves), name)


def comparisons(learn: float) -> list[PrefixTree]:
    """Pairs whose sides differ in length; two of them under one prompt."""
    return [
        tree("a", (4, 5), learn, **{"0": (6, 7, 8), "1": (9,)}),
        tree("b", (10,), learn, **{"0": (11, 12), "1": (13, 14, 15, 16)}),
        tree("c", (18, 19, 20, 21), learn, **{"0": (22,), "1": (6, 7, 8)}),
        tree("d", (4, 5), learn, **{"0": (23, 24), "1": (25, 26, 27)}),
    ]


def verdicts() -> list[PrefixTree]:
    """Two good completions and two bad ones, each with a completion of another prompt."""
    return [
        tree("a", (4, 5), 1.0, **{GOOD: (6, 7, 8), OTHER: (11, 12)}),
        tree("b", (10,), 1.0, **{BAD: (11, 12), OTHER: (22,)}),
        tree("c", (18, 19, 20, 21), 1.0, **{GOOD: (22,), OTHER: (13, 14, 15, 16)}),
        tree("d", (30,), 1.0, **{BAD: (13, 14, 15, 16), OTHER: (6, 7, 8)}),
    ]


def reference_of(trees: list[PrefixTree]) -> dict[tuple[str, str], float]:
    """Another model's log-probabilities, so that no log-ratio is 0."""
    other = tiny_llama(initializer_range=0.3)
    with torch.no_grad():
        return {name: float(logprob.sum()) for name, logprob in plain(other, trees).items()}


def gradients(model: Any) -> Gradients:
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad(set_to_none=True)
    return found


Cut = dict[str, Any]
CUTS: dict[str, Cut] = {
    "a tree a pass": {"tokens_per_batch": 1},
    "two rows a pass": {"tokens_per_batch": 64},
    "all in one row": {"tokens_per_batch": 4096, "one_row": True},
}

PASSES = {"a tree a pass": 4, "two rows a pass": 2, "all in one row": 1}


def batches_of(trees: list[PrefixTree], cut: Cut, learns: bool = True) -> list[PackedBatch]:
    plan = StepPlan(trees, trees_per_step=len(trees), row_tokens=12, seed=1, learns=learns, **cut)
    return plan.step_batches(0, 0)


def step(
    model: Any,
    batches: list[PackedBatch],
    objective: Callable[[Any, PackedBatch, float], torch.Tensor],
    measure: Callable[[PackedBatch], float],
) -> tuple[float, Gradients]:
    """What a training step does: one denominator for all micro-batches."""
    denominator, total = sum(measure(batch) for batch in batches), 0.0
    for batch in batches:
        loss = objective(model, batch, denominator)
        loss.backward()
        total += float(loss.detach())
    return total, gradients(model)


def assert_equal(found: tuple[float, Gradients], loss: torch.Tensor, model: Any) -> None:
    """float64 carries 15 to 16 digits; sums over a few dozen terms lose two or three."""
    loss.backward()
    wanted = gradients(model)
    assert found[0] == pytest.approx(float(loss.detach()), rel=1e-11)
    assert found[1].keys() == wanted.keys()
    assert float(wanted["model.layers.0.self_attn.q_proj.weight"].abs().max()) > 1e-6
    for name, gradient in wanted.items():
        torch.testing.assert_close(found[1][name], gradient, rtol=1e-8, atol=1e-11)


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize(
    ("loss_type", "settings"),
    [
        ("sigmoid", {"beta": 0.3}),
        ("sigmoid_norm", {"beta": 2.0, "length_normalised": True}),
        ("ipo", {"beta": 0.5, "loss": "ipo", "length_normalised": True}),
    ],
)
def test_dpo(loss_type: str, settings: dict[str, Any], cut: str) -> None:
    model, trees = tiny_llama(), comparisons(1.0)
    reference, tally = reference_of(trees), Tally()
    batches = batches_of(trees, CUTS[cut])
    assert len(batches) == PASSES[cut]
    found = step(model, batches, DpoObjective(DpoSection(**settings), reference, tally), num_pairs)
    names = [(one.name, side) for side in ("0", "1") for one in trees]
    logprob_P, branch_P = flat(plain(model, trees), names)
    reference_N = torch.tensor([reference[name] for name in names], dtype=torch.float64)
    loss, logged = trl_dpo_loss(logprob_P, branch_P, reference_N, loss_type, beta=settings["beta"])
    assert_equal(found, loss, model)
    counted = tally.take()
    assert counted["margin"] == pytest.approx(logged["rewards/margins"][0], rel=1e-9)
    assert counted["accuracy"] == pytest.approx(logged["rewards/accuracies"][0])
    assert counted["chosen_reward"] == pytest.approx(logged["rewards/chosen"][0], rel=1e-9)


@pytest.mark.parametrize("cut", CUTS)
def test_kto(cut: str) -> None:
    """The reference point is that of the whole step, from completions of other prompts; it must be above 0 to
    matter.
    """
    model, trees, tally = tiny_llama(), verdicts(), Tally()
    reference = {name: value - 3.0 for name, value in reference_of(trees).items()}
    settings: dict[str, float] = {"beta": 0.4, "desirable_weight": 1.5, "undesirable_weight": 0.7}
    judged = [_only(one, other=False) for one in trees]
    others = {one.name: _only(one, other=True) for one in trees}

    def plan_of(some: list[PrefixTree]) -> StepPlan:
        return StepPlan(some, trees_per_step=len(some), row_tokens=12, seed=0, **CUTS[cut])

    objective = KtoObjective(KtoSection(**settings), reference, tally, others, plan_of)
    batches = batches_of(judged, CUTS[cut])
    assert len(batches) == PASSES[cut]
    with torch.no_grad():
        objective.look_ahead(model, batches)
    found = step(model, batches, objective, num_verdicts)
    names = [(one.name, one.root.children[0].name) for one in judged]
    rows = plain(model, trees)
    logprob_P, branch_P = flat(rows, names)
    mismatched_N = torch.stack([rows[one.name, OTHER].sum().detach() for one in trees])
    wide = {"dtype": torch.float64}
    loss, kl = trl_kto_loss(
        logprob_P,
        branch_P,
        torch.tensor([reference[name] for name in names], **wide),
        torch.tensor([leaf == GOOD for _, leaf in names]),
        mismatched_N,
        torch.tensor([reference[one.name, OTHER] for one in trees], **wide),
        **settings,
    )
    assert kl > 0
    assert tally.take()["kl"] == pytest.approx(kl, rel=1e-9)
    assert_equal(found, loss, model)


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("margins", [None, {"a": 0.5, "b": 0.0, "c": 2.0, "d": 1.0}])
def test_reward(cut: str, margins: dict[str, float] | None) -> None:
    """The oracle's rewards: the head on the last hidden states of plain rows."""
    model, trees, tally = tiny_llama(), comparisons(0.0), Tally()
    add_head(model, "reward", seed=3).double()
    head = head_of(model, "reward")
    assert head is not None
    section = RewardSection(centring=0.01, margins=margins is not None)
    batches = batches_of(trees, CUTS[cut], learns=False)
    assert len(batches) == PASSES[cut]
    found = step(model, batches, RewardObjective(section, margins, tally), num_comparisons)
    sides: dict[str, list[torch.Tensor]] = {"0": [], "1": []}
    for one in trees:
        for path in paths_of(one.root):
            tokens = [t for node in path for s in node.segments for t in s.tokens]
            hidden_TD = model.model(input_ids=torch.tensor([tokens])).last_hidden_state[0]
            sides[path[-1].name].append(head(hidden_TD[-1:])[0])
    margin_M = None if margins is None else torch.tensor([margins[one.name] for one in trees]).double()
    loss, accuracy = trl_reward_loss(torch.stack(sides["0"]), torch.stack(sides["1"]), margin_M, 0.01)
    assert_equal(found, loss, model)
    assert tally.take()["accuracy"] == pytest.approx(accuracy)


def test_a_ranked_list_counts_as_one_for_a_reward_model_and_as_its_pairs_in_dpo() -> None:
    """Three completions make three pairs. Plackett-Luce of equal rewards costs ln 3! = ln 6."""
    three = tree("e", (4, 5), 1.0, **{"0": (6, 7), "1": (9,), "2": (8, 8, 8)})
    batch = PackedBatch.from_trees([[three, comparisons(1.0)[1]]])
    assert (num_comparisons(batch), num_pairs(batch)) == (2.0, 4.0)
    model = tiny_llama()
    torch.nn.init.zeros_(add_head(model, "reward").weight)
    alone = PackedBatch.from_trees([[three]])
    loss = RewardObjective(RewardSection(loss="plackett_luce"), None, Tally())(model, alone, 1.0)
    assert float(loss.detach()) == pytest.approx(torch.tensor(6.0).log().item(), rel=1e-6)


def test_only_what_is_named_is_left_of_a_tree() -> None:
    (one, *_) = verdicts()
    assert [leaf.name for leaf in _only(one, other=False).root.children] == [GOOD]
    assert [leaf.name for leaf in _only(one, other=True).root.children] == [OTHER]
