"""GRPO and RLOO: against TRL's own code, with tokens off the policy that sampled them, some of them clipped, some
not learned.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from palmette.objectives.branches import branch_sum
from palmette.objectives.grpo import average, grpo_loss, rloo_loss
from palmette.objectives.ppo import PolicyLoss
from tests.support.trl_losses import trl_grpo_loss, trl_rloo_loss

BRANCH_P = torch.tensor([0, 0, 1, 2, 2, 2, 3, 3, 3, 3, 4, 4])
ADVANTAGE = torch.tensor([1.2, -0.7, -1.5, 0.4, 0.0], dtype=torch.float64)
ONES = torch.ones(12, dtype=torch.float64)


def rollout(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Log-probabilities of the tokens under policy, old policy and reference."""
    generator = torch.Generator().manual_seed(seed)
    policy_P = -3 * torch.rand(12, generator=generator, dtype=torch.float64)
    old_P, reference_P = policy_P + 0.4 * torch.randn(2, 12, generator=generator, dtype=torch.float64)
    return policy_P.requires_grad_(), old_P, reference_P


def ours(kind: Any, weight_P: torch.Tensor, seed: int = 0, **settings: Any) -> tuple[PolicyLoss, torch.Tensor]:
    policy_P, old_P, reference_P = rollout(seed)
    per, denominator = average(kind, learn_weight=float(weight_P.sum()), num_branches=5, max_tokens=6)
    loss = grpo_loss(
        policy_P, old_P, ADVANTAGE, BRANCH_P, weight_P, denominator, per=per, reference_P=reference_P, **settings
    )
    return loss, policy_P


@pytest.mark.parametrize("learned", ["all", "some", "no token of one completion"])
@pytest.mark.parametrize("kl_coefficient", [0.0, 0.3])
@pytest.mark.parametrize(("kind", "loss_type"), [("token", "dapo"), ("branch", "grpo"), ("constant", "dr_grpo")])
def test_grpo_equals_trl(kind: str, loss_type: str, kl_coefficient: float, learned: str) -> None:
    weight_P = ONES.clone()
    if learned != "all":
        weight_P[[1, 4, 5, 6]] = 0
    if learned == "no token of one completion":
        weight_P[2] = 0  # the only token of branch 1; TRL's mean over completions counts such a completion as 0 too
    mine, policy_P = ours(kind, weight_P, kl_coefficient=kl_coefficient, clip_high=0.28)
    theirs, logged = trl_grpo_loss(
        policy_P,
        *rollout()[1:],
        ADVANTAGE,
        BRANCH_P,
        loss_type,
        weight_P=weight_P,
        beta=kl_coefficient,
        epsilon_low=0.2,
        epsilon_high=0.28,
        max_completion_length=6,
    )
    torch.testing.assert_close(mine.loss, theirs, rtol=1e-12, atol=0)
    gradients = [torch.autograd.grad(loss, policy_P)[0] for loss in (mine.loss, theirs)]
    torch.testing.assert_close(*gradients, rtol=1e-12, atol=1e-15)
    assert bool((gradients[0][weight_P == 0] == 0).all())
    if kind == "token":  # TRL logs means over tokens, whatever the loss
        assert 0 < logged["clip_ratio/region_mean"][0] < 1
        assert float(mine.clip_share) == pytest.approx(logged["clip_ratio/region_mean"][0], rel=1e-6)
        assert float(mine.reference_kl) == pytest.approx(logged["kl"][0] if kl_coefficient else 0.0, rel=1e-6)


def test_rloo_equals_trl() -> None:
    policy_P, old_P, _ = rollout()
    mine = rloo_loss(policy_P, old_P, ADVANTAGE, BRANCH_P, ONES, 5)
    theirs, logged = trl_rloo_loss(policy_P, old_P, ADVANTAGE, BRANCH_P, epsilon_low=0.2, epsilon_high=0.2)
    torch.testing.assert_close(mine.loss, theirs, rtol=1e-12, atol=0)
    gradients = [torch.autograd.grad(loss, policy_P)[0] for loss in (mine.loss, theirs)]
    torch.testing.assert_close(*gradients, rtol=1e-12, atol=1e-15)
    assert 0 < logged["clip_ratio/region_mean"][0] < 1
    assert float(mine.clip_share) == pytest.approx(logged["clip_ratio/region_mean"][0], rel=1e-6)


@pytest.mark.parametrize("kind", ["token", "branch", "constant"])
def test_before_the_first_update_it_is_the_policy_gradient(kind: Any) -> None:
    """Ratio 1: the gradient of each token's log-probability is -advantage / denominator, a completion's share of it
    for "branch".
    """
    policy_P, _, _ = rollout()
    per, denominator = average(kind, learn_weight=12, num_branches=5, max_tokens=6)
    assert (per, denominator) == {"token": ("token", 12), "branch": ("branch", 5), "constant": ("token", 30)}[kind]
    loss = grpo_loss(policy_P, policy_P, ADVANTAGE, BRANCH_P, ONES, denominator, per=per)
    loss.loss.backward()
    length_N = torch.tensor([2, 1, 3, 4, 2]) if kind == "branch" else torch.ones(5)
    expected_P = -(ADVANTAGE / length_N)[BRANCH_P] / denominator
    torch.testing.assert_close(policy_P.grad, expected_P, rtol=1e-12, atol=0)
    assert (float(loss.clip_share), float(loss.old_kl), float(loss.reference_kl)) == (0, 0, 0)


def test_rloo_before_the_first_update_is_reinforce() -> None:
    policy_P, _, _ = rollout()
    rloo_loss(policy_P, policy_P, ADVANTAGE, BRANCH_P, ONES, 5).loss.backward()
    torch.testing.assert_close(policy_P.grad, -ADVANTAGE[BRANCH_P] / 5, rtol=1e-12, atol=0)


def test_the_kl_term_pulls_towards_the_reference() -> None:
    """Without advantages descent raises the tokens that the reference likes better, and only them.

    The wrong sign does the opposite.
    """
    policy_P, _, reference_P = rollout()
    settings: dict[str, Any] = {"per": "token", "reference_P": reference_P, "kl_coefficient": 0.5}
    grpo_loss(policy_P, policy_P, torch.zeros(5).double(), BRANCH_P, ONES, 12, **settings).loss.backward()
    assert policy_P.grad is not None
    assert torch.equal(policy_P.grad < 0, reference_P > policy_P)
    assert 0 < int((policy_P.grad < 0).sum()) < 12


@given(cut=st.integers(0, 5), seed=st.integers(0, 99), kind=st.sampled_from(["token", "branch", "constant"]))
def test_micro_batches_add_up(cut: int, seed: int, kind: Any) -> None:
    """Five completions cut between any two, losses and what is logged; the mean of the parts' own means is another
    number.
    """
    policy_P, old_P, reference_P = rollout(seed)
    per, denominator = average(kind, learn_weight=12, num_branches=5, max_tokens=6)

    def part(start: int, end: int, loss: str) -> list[torch.Tensor]:
        here_P = (start <= BRANCH_P) & (end > BRANCH_P)
        tokens = (policy_P[here_P], old_P[here_P], ADVANTAGE[start:end], BRANCH_P[here_P] - start, ONES[here_P])
        if loss == "rloo":
            found = rloo_loss(*tokens, 5)
        else:
            settings = {"reference_P": reference_P[here_P], "kl_coefficient": 0.3}
            found = grpo_loss(*tokens, denominator, per=per, **settings)
        return [found.loss.detach(), found.clip_share, found.old_kl, found.reference_kl]

    for loss in ("grpo", "rloo"):
        for left, right, whole in zip(part(0, cut, loss), part(cut, 5, loss), part(0, 5, loss), strict=True):
            torch.testing.assert_close(left + right, whole, rtol=1e-12, atol=1e-15)


def test_unlearned_tokens_have_no_part() -> None:
    """Whatever their log-probabilities are. Learned by mistake, they change the loss."""
    weight_P = ONES.clone()
    weight_P[[1, 4, 5, 6]] = 0
    policy_P, old_P, _ = rollout()
    poisoned_P = torch.where(weight_P > 0, old_P, old_P - 5)
    for per in ("token", "branch"):
        clean, poisoned, mistaken = (
            float(grpo_loss(policy_P.detach(), old, ADVANTAGE, BRANCH_P, weight, 8, per=per).loss)
            for old, weight in ((old_P, weight_P), (poisoned_P, weight_P), (poisoned_P, ONES))
        )
        assert clean == poisoned
        assert abs(mistaken - clean) > 0.01


@pytest.mark.parametrize("kind", ["token", "branch", "constant"])
def test_finite_differences(kind: Any) -> None:
    _, old_P, reference_P = rollout()
    per, denominator = average(kind, learn_weight=12, num_branches=5, max_tokens=6)
    assert torch.autograd.gradcheck(
        lambda x: (
            grpo_loss(
                x, old_P, ADVANTAGE, BRANCH_P, ONES, denominator, per=per, reference_P=reference_P, kl_coefficient=0.3
            ).loss
        ),
        (rollout()[0],),
    )
    assert torch.autograd.gradcheck(lambda x: rloo_loss(x, old_P, ADVANTAGE, BRANCH_P, ONES, 5).loss, (rollout()[0],))


def test_a_completion_is_one_action_under_rloo() -> None:
    """Two tokens whose ratios 1.5 and 1/1.5 cancel: clipped apart, not clipped together."""
    policy_P = torch.tensor([1.5, 1 / 1.5], dtype=torch.float64).log()
    tokens = (policy_P, torch.zeros(2).double(), torch.ones(1).double(), torch.zeros(2, dtype=torch.long), ONES[:2])
    assert float(rloo_loss(*tokens, 1).clip_share) == 0
    assert float(rloo_loss(*tokens, 1).loss) == pytest.approx(-1, rel=1e-12)
    assert float(grpo_loss(*tokens, 2, per="token").clip_share) == 0.5
    assert float(branch_sum(policy_P, tokens[3], 1)) == pytest.approx(0, abs=1e-15)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kl_coefficient": -0.1}, "kl_coefficient must be"),
        ({"kl_coefficient": 0.1, "reference_P": None}, "needs reference_P"),
        ({"clip_low": 1.5}, "clip range"),
        ({"per": "row"}, "per must be"),
        ({"denominator": 0}, "must be positive"),
    ],
)
def test_what_is_refused(settings: dict[str, Any], message: str) -> None:
    policy_P, old_P, reference_P = rollout()
    given = {"denominator": 12, "per": "token", "reference_P": reference_P, **settings}
    with pytest.raises(ValueError, match=message):
        grpo_loss(policy_P, old_P, ADVANTAGE, BRANCH_P, ONES, **given)


def test_what_an_average_refuses() -> None:
    with pytest.raises(ValueError, match="kind must be"):
        average("row", learn_weight=1, num_branches=1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="needs max_tokens"):
        average("constant", learn_weight=1, num_branches=1)
    with pytest.raises(ValueError, match="learned tokens of a step"):
        average("token", learn_weight=0, num_branches=1)
