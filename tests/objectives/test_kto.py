"""KTO: against TRL's own code, hand values, and what cutting a step must not change."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from palmette.objectives.branches import branch_sum
from palmette.objectives.kto import VerdictLoss, kto_loss, reference_point
from tests.support.trl_losses import trl_kto_loss

BRANCH_P = torch.tensor([0, 0, 1, 2, 2, 2, 3, 3, 3, 4, 4])
DESIRABLE = torch.tensor([True, False, True, False, False])


def draw(num: int, seed: int) -> torch.Tensor:
    return -3 * torch.rand(num, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def rollout(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probabilities of the tokens under the policy, and of the branches under the reference."""
    return draw(11, seed).requires_grad_(), branch_sum(draw(11, seed + 1000), BRANCH_P, 5)


def ours(policy_P: torch.Tensor, reference_N: torch.Tensor, **settings: Any) -> VerdictLoss:
    policy_N = branch_sum(policy_P, BRANCH_P, 5)
    return kto_loss(policy_N, reference_N, DESIRABLE, 5, **{"baseline": 0.7, **settings})


@pytest.mark.parametrize("ahead", [1.5, -1.5])
@pytest.mark.parametrize("weights", [(1.0, 1.0), (1.0, 0.3), (2.5, 1.0)])
def test_equals_trl(weights: tuple[float, float], ahead: float) -> None:
    """With a policy ahead of its reference on mismatched completions, and with one behind, where the baseline is 0."""
    policy_P, reference_N = rollout()
    mismatched_reference_N = draw(5, 3)
    mismatched_N = mismatched_reference_N + ahead + draw(5, 4) / 10
    settings = {"beta": 0.4, "desirable_weight": weights[0], "undesirable_weight": weights[1]}
    point = reference_point(mismatched_N, mismatched_reference_N)
    mine = ours(policy_P, reference_N, baseline=point, **settings)
    theirs, baseline = trl_kto_loss(
        policy_P, BRANCH_P, reference_N, DESIRABLE, mismatched_N, mismatched_reference_N, **settings
    )
    assert point == pytest.approx(baseline, rel=1e-12)
    assert (point > 0) == (ahead > 0)
    torch.testing.assert_close(mine.loss, theirs, rtol=1e-12, atol=0)
    gradients = [torch.autograd.grad(loss, policy_P)[0] for loss in (mine.loss, theirs)]
    torch.testing.assert_close(*gradients, rtol=1e-12, atol=1e-15)
    assert float(gradients[0].abs().min()) > 0


def test_by_hand() -> None:
    """Log-ratios 3 (desirable) and 3 (not), baseline 1, beta 0.5, weights 2 and 3: 2 sigmoid(-1) and 3 sigmoid(1),
    over 2.
    """
    policy_N, reference_N = torch.tensor([-1.0, -2.0]).double(), torch.tensor([-4.0, -5.0]).double()
    loss = kto_loss(
        policy_N,
        reference_N,
        torch.tensor([True, False]),
        2,
        baseline=1.0,
        beta=0.5,
        desirable_weight=2.0,
        undesirable_weight=3.0,
    )
    low, high = 1 / (1 + math.exp(1)), 1 / (1 + math.exp(-1))
    assert float(loss.loss) == pytest.approx((2 * low + 3 * high) / 2, rel=1e-12)
    assert loss.reward_N.tolist() == [1.5, 1.5]


def test_the_baseline_is_a_mean_of_at_least_zero() -> None:
    assert reference_point(torch.tensor([-1.0, -4.0]), torch.tensor([-3.0, -3.0])) == 0.5
    assert reference_point(torch.tensor([-5.0, -4.0]), torch.tensor([-3.0, -3.0])) == 0.0
    with pytest.raises(ValueError, match="at least one"):
        reference_point(torch.empty(0), torch.empty(0))


def test_descent_raises_the_desirable_and_lowers_the_rest() -> None:
    policy_P, reference_N = rollout()
    gradient_N = branch_sum(torch.autograd.grad(ours(policy_P, reference_N).loss, policy_P)[0], BRANCH_P, 5)
    assert torch.equal(gradient_N < 0, DESIRABLE)


@given(cut=st.integers(0, 5), seed=st.integers(0, 99))
def test_micro_batches_add_up(cut: int, seed: int) -> None:
    """A step of five verdicts cut anywhere, even where one side holds no desirable one."""
    policy_P, reference_N = rollout(seed)
    policy_N = branch_sum(policy_P, BRANCH_P, 5)
    parts = [
        kto_loss(policy_N[part], reference_N[part], DESIRABLE[part], 5, baseline=0.7, undesirable_weight=0.3).loss
        for part in (slice(0, cut), slice(cut, 5), slice(0, 5))
    ]
    torch.testing.assert_close(parts[0] + parts[1], parts[2], rtol=1e-12, atol=0)


def test_finite_differences() -> None:
    policy_P, reference_N = rollout()
    assert torch.autograd.gradcheck(lambda x: ours(x, reference_N, undesirable_weight=0.3).loss, (policy_P,))


@pytest.mark.parametrize(
    "settings", [{"beta": 0.0}, {"baseline": -0.1}, {"desirable_weight": -1.0}, {"undesirable_weight": -1.0}]
)
def test_what_is_refused(settings: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be"):
        ours(*rollout(), **settings)
