"""DPO and IPO: against TRL's own code, hand values, and what cutting a step must not change."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from palmette.objectives.branches import branch_counts, branch_sum
from palmette.objectives.dpo import PreferenceLoss, dpo_loss
from tests.support.trl_losses import trl_dpo_loss

# Six branches of 1 to 5 tokens; the first three were chosen over the last three.
BRANCH_P = torch.tensor([0, 0, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4, 4, 4, 5])
CHOSEN, REJECTED = torch.tensor([0, 1, 2]), torch.tensor([3, 4, 5])


def rollout(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probabilities of the tokens under the policy, and of the branches under the reference."""
    generator = torch.Generator().manual_seed(seed)
    policy_P, reference_P = -3 * torch.rand(2, len(BRANCH_P), generator=generator, dtype=torch.float64)
    return policy_P.requires_grad_(), branch_sum(reference_P, BRANCH_P, 6)


def ours(policy_P: torch.Tensor, reference_N: torch.Tensor, normalise: bool = False, **settings: Any) -> PreferenceLoss:
    num_tokens_N = branch_counts(BRANCH_P, 6) if normalise else None
    policy_N = branch_sum(policy_P, BRANCH_P, 6)
    return dpo_loss(policy_N, reference_N, CHOSEN, REJECTED, 3, num_tokens_N=num_tokens_N, **settings)


@pytest.mark.parametrize(
    ("loss_type", "settings"),
    [
        ("sigmoid", {}),
        ("sigmoid_norm", {"normalise": True}),
        ("ipo", {"kind": "ipo", "normalise": True}),  # TRL always divides by the number of tokens
    ],
)
@pytest.mark.parametrize("beta", [0.1, 2.0])
def test_equals_trl(loss_type: str, settings: dict[str, Any], beta: float) -> None:
    policy_P, reference_N = rollout()
    mine = ours(policy_P, reference_N, beta=beta, **settings)
    theirs, logged = trl_dpo_loss(policy_P, BRANCH_P, reference_N, loss_type, beta=beta)
    torch.testing.assert_close(mine.loss, theirs, rtol=1e-12, atol=0)
    gradients = [torch.autograd.grad(loss, policy_P)[0] for loss in (mine.loss, theirs)]
    torch.testing.assert_close(*gradients, rtol=1e-12, atol=1e-15)
    assert float(gradients[0].abs().min()) > 0
    assert float(mine.chosen_reward_M.mean()) == pytest.approx(logged["rewards/chosen"][0], rel=1e-12)
    assert float(mine.rejected_reward_M.mean()) == pytest.approx(logged["rewards/rejected"][0], rel=1e-12)
    assert float(mine.margin_M.mean()) == pytest.approx(logged["rewards/margins"][0], rel=1e-12)
    assert float(mine.accuracy) == pytest.approx(logged["rewards/accuracies"][0])


def test_label_smoothing_equals_trl_pair_by_pair() -> None:
    """TRL smooths labels in AOT, which for one pair is the smoothed DPO."""
    policy_P, reference_N = rollout()
    mine = ours(policy_P, reference_N, beta=0.5, label_smoothing=0.2).loss
    theirs = torch.zeros((), dtype=torch.float64)
    for better, worse in zip(CHOSEN.tolist(), REJECTED.tolist(), strict=True):
        tokens_P = torch.isin(BRANCH_P, torch.tensor([better, worse]))
        branch_P = (BRANCH_P[tokens_P] == worse).long()
        pair = reference_N[[better, worse]]
        loss, _ = trl_dpo_loss(policy_P[tokens_P], branch_P, pair, "aot", beta=0.5, label_smoothing=0.2)
        theirs = theirs + loss / 3
    torch.testing.assert_close(mine, theirs, rtol=1e-12, atol=0)
    gradients = [torch.autograd.grad(loss, policy_P)[0] for loss in (mine, theirs)]
    torch.testing.assert_close(*gradients, rtol=1e-12, atol=1e-15)
    assert abs(float(mine.detach() - ours(policy_P, reference_N, beta=0.5).loss.detach())) > 0.01


@pytest.mark.parametrize("settings", [{}, {"beta": 3.0}, {"label_smoothing": 0.3}, {"normalise": True}])
def test_at_the_reference_it_is_ln_2(settings: dict[str, Any]) -> None:
    policy_P, _ = rollout()
    loss = ours(policy_P, branch_sum(policy_P.detach(), BRANCH_P, 6), **settings)
    assert float(loss.loss.detach()) == pytest.approx(math.log(2), rel=1e-12)
    assert loss.margin_M.tolist() == [0, 0, 0]
    assert float(loss.accuracy) == 0.5


def test_by_hand() -> None:
    """Log-ratios 1 (chosen, 2 tokens) and -1 (rejected, 4 tokens), beta 0.5.

    sigmoid: log(1 + e^-1); smoothed by 0.1: 0.9 log(1 + e^-1) + 0.1 log(1 + e). ipo: (2 - 1)^2 = 1 over sums; over
    means the lead is 1/2 + 1/4 and the loss (0.75 - 1)^2.
    """
    policy_N, reference_N = torch.tensor([-2.0, -6.0]).double(), torch.tensor([-3.0, -5.0]).double()
    zero, one = torch.tensor([0]), torch.tensor([1])

    def value(**settings: Any) -> float:
        return float(dpo_loss(policy_N, reference_N, zero, one, 1, beta=0.5, **settings).loss)

    right, wrong = math.log1p(math.exp(-1)), math.log1p(math.exp(1))
    assert value() == pytest.approx(right, rel=1e-12)
    assert value(label_smoothing=0.1) == pytest.approx(0.9 * right + 0.1 * wrong, rel=1e-12)
    assert value(kind="ipo") == pytest.approx(1, rel=1e-12)
    assert value(kind="ipo", num_tokens_N=torch.tensor([2, 4])) == pytest.approx(0.0625, rel=1e-12)


@given(cut=st.integers(0, 9), seed=st.integers(0, 99), kind=st.sampled_from(["sigmoid", "ipo"]))
def test_micro_batches_add_up(cut: int, seed: int, kind: Any) -> None:
    policy_P, reference_N = rollout(seed)
    policy_N, pairs = branch_sum(policy_P, BRANCH_P, 6), torch.cartesian_prod(CHOSEN, REJECTED)
    parts = [
        dpo_loss(policy_N, reference_N, part[:, 0], part[:, 1], 9, kind=kind).loss
        for part in (pairs[:cut], pairs[cut:], pairs)
    ]
    torch.testing.assert_close(parts[0] + parts[1], parts[2], rtol=1e-12, atol=0)


def test_no_gradient_reaches_the_reference() -> None:
    policy_P, reference_N = rollout()
    reference_N.requires_grad_()
    loss = ours(policy_P, reference_N)
    loss.loss.backward()
    assert reference_N.grad is None
    assert not loss.chosen_reward_M.requires_grad


@pytest.mark.parametrize("settings", [{}, {"label_smoothing": 0.2}, {"kind": "ipo"}, {"normalise": True}])
def test_finite_differences(settings: dict[str, Any]) -> None:
    policy_P, reference_N = rollout()
    assert torch.autograd.gradcheck(lambda x: ours(x, reference_N, **settings).loss, (policy_P,))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"beta": 0.0}, "beta must be positive"),
        ({"kind": "hinge"}, "kind must be"),
        ({"label_smoothing": 0.5}, "label_smoothing must be"),
        ({"kind": "ipo", "label_smoothing": 0.1}, "goes with kind 'sigmoid'"),
        ({"num_tokens_N": torch.tensor([1, 0, 1, 1, 1, 1])}, "no learned token"),
    ],
)
def test_what_is_refused(settings: dict[str, Any], message: str) -> None:
    policy_P, reference_N = rollout()
    with pytest.raises(ValueError, match=message):
        dpo_loss(branch_sum(policy_P, BRANCH_P, 6), reference_N, CHOSEN, REJECTED, 3, **settings)
