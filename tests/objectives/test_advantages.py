"""Advantages:

GAE against a naive sum and closed forms, whitening over the right tokens, group advantages against TRL's own code.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from trl.trainer.grpo_trainer import GRPOTrainer
from trl.trainer.rloo_trainer import RLOOTrainer

from palmette.objectives.advantages import flat_groups, gae, group_advantages, whiten
from palmette.objectives.branches import branch_sum, last_tokens, places, token_shares
from palmette.objectives.kl import kl_estimate
from tests.support.trl_losses import trl_advantages

# Four branches of 4, 1, 5 and 3 tokens, which alternate.
BRANCH_P = torch.tensor([0, 2, 0, 1, 2, 3, 0, 2, 3, 0, 2, 2, 3])


def draw(num: int, seed: int) -> torch.Tensor:
    return torch.randn(num, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def naive_gae(
    reward: list[float], value: list[float], gamma: float, lam: float, last: float
) -> tuple[list[float], list[float]]:
    """One branch, straight from the definition: the sum over all later steps of (gamma * lam)^distance * delta."""
    after = [*value[1:], last]
    delta = [r + gamma * v_next - v for r, v, v_next in zip(reward, value, after, strict=True)]
    advantage = [sum((gamma * lam) ** (s - t) * delta[s] for s in range(t, len(delta))) for t in range(len(delta))]
    return advantage, [a + v for a, v in zip(advantage, value, strict=True)]


@given(gamma=st.floats(0, 1), lam=st.floats(0, 1), seed=st.integers(0, 99), cut_off=st.booleans())
def test_gae_is_the_naive_sum(gamma: float, lam: float, seed: int, cut_off: bool) -> None:
    reward_P, value_P, last_N = draw(13, seed), draw(13, seed + 1000), draw(4, seed + 2000)
    advantage_P, return_P = gae(
        reward_P, value_P, BRANCH_P, 4, gamma=gamma, lam=lam, last_value_N=last_N if cut_off else None
    )
    for branch in range(4):
        here_P = branch == BRANCH_P
        last = float(last_N[branch]) if cut_off else 0.0
        expected = naive_gae(reward_P[here_P].tolist(), value_P[here_P].tolist(), gamma, lam, last)
        assert advantage_P[here_P].tolist() == pytest.approx(expected[0], rel=1e-9, abs=1e-12)
        assert return_P[here_P].tolist() == pytest.approx(expected[1], rel=1e-9, abs=1e-12)


def test_gae_in_closed_form() -> None:
    """Reward 1 a token and no values: q = gamma * lam, and with n tokens left the advantage is (1 - q^n) / (1 - q)."""
    advantage_P, return_P = gae(torch.ones(13).double(), torch.zeros(13).double(), BRANCH_P, 4, gamma=0.9, lam=0.8)
    left_P = torch.tensor([4, 1, 5, 3])[BRANCH_P] - places(BRANCH_P)
    torch.testing.assert_close(advantage_P, (1 - 0.72 ** left_P.double()) / 0.28, rtol=1e-12, atol=0)
    assert torch.equal(advantage_P, return_P)


@given(lam=st.floats(0, 1), seed=st.integers(0, 99))
def test_a_perfect_critic_leaves_no_advantage(lam: float, seed: int) -> None:
    """Values that are the sum of the rewards from the token on.

    Read off one position late, as at the token itself, they would leave some.
    """
    reward_P = draw(13, seed)
    togo_P, late_P = torch.zeros_like(reward_P), torch.zeros_like(reward_P)
    for branch in range(4):
        here_P = branch == BRANCH_P
        togo_P[here_P] = reward_P[here_P].flip(0).cumsum(0).flip(0)
        late_P[here_P] = torch.cat([togo_P[here_P][1:], togo_P.new_zeros(1)])
    advantage_P, return_P = gae(reward_P, togo_P, BRANCH_P, 4, lam=lam)
    torch.testing.assert_close(advantage_P, torch.zeros_like(advantage_P), rtol=0, atol=1e-12)
    torch.testing.assert_close(return_P, togo_P, rtol=0, atol=1e-12)
    assert float(gae(reward_P, late_P, BRANCH_P, 4, lam=lam)[0].abs().max()) > 1e-3


def test_gae_carries_no_gradient_and_checks_its_range() -> None:
    value_P = draw(13, 1).requires_grad_()
    assert not any(x.requires_grad for x in gae(draw(13, 0), value_P, BRANCH_P, 4))
    for settings in ({"gamma": 1.1}, {"lam": -0.1}):
        with pytest.raises(ValueError, match="from 0 to 1"):
            gae(draw(13, 0), value_P, BRANCH_P, 4, **settings)


def test_whitening_sees_the_learned_tokens_alone() -> None:
    """Mean 0 and variance 1 over these, whatever stands at the others.

    Over all tokens, or over parts, the numbers are others.
    """
    value_P, weight_P = draw(13, 0), (torch.arange(13) % 3 != 1).double()
    poisoned_P = torch.where(weight_P > 0, value_P, torch.nan)
    white_P, learned_P = whiten(poisoned_P, weight_P), weight_P > 0
    assert 4 < int(learned_P.sum()) < 13
    # epsilon = 1e-8 beside a variance of about 1
    assert float(white_P[learned_P].mean()) == pytest.approx(0, abs=1e-12)
    assert float(white_P[learned_P].var(correction=0)) == pytest.approx(1, abs=1e-7)
    assert white_P[~learned_P].tolist() == [0] * int((~learned_P).sum())
    over_all_P = whiten(value_P, torch.ones(13))
    by_part_P = torch.cat([whiten(value_P[:6], weight_P[:6]), whiten(value_P[6:], weight_P[6:])])
    for wrong_P in (over_all_P, by_part_P):
        assert float((wrong_P - white_P)[learned_P].abs().max()) > 0.01


def test_whitening_by_hand() -> None:
    """1, 3, 5, 7: mean 4, variance 5 (without Bessel's correction). A token of weight 2 counts as two."""
    value_P = torch.tensor([1.0, 3.0, 5.0, 7.0]).double()
    expected = (value_P - 4) / 5**0.5
    torch.testing.assert_close(whiten(value_P, torch.ones(4)), expected, rtol=1e-8, atol=0)
    torch.testing.assert_close(whiten(value_P, torch.ones(4), keep_mean=True), expected + 4, rtol=1e-8, atol=0)
    twice = whiten(torch.tensor([1.0, 1.0, 4.0]).double(), torch.ones(3))
    assert whiten(torch.tensor([1.0, 4.0]).double(), torch.tensor([2.0, 1.0])).tolist() == twice[1:].tolist()
    assert whiten(torch.full((3,), 2.0), torch.ones(3)).tolist() == [0, 0, 0]
    with pytest.raises(ValueError, match="no token is learned"):
        whiten(value_P, torch.zeros(4))


REWARD_N = torch.tensor([1.0, 0.0, 0.5, 2.0, 3.0, 3.0, 3.0, 3.0, 0.1, 0.1, 0.1, 0.7], dtype=torch.float64)
GROUP_N = torch.arange(12) // 4


@pytest.mark.parametrize("scale", ["none", "group", "batch"])
def test_grpo_advantages_equal_trl(scale: Any) -> None:
    theirs = trl_advantages(GRPOTrainer, REWARD_N, 4, scale_rewards=scale, beta=0.0)
    ours = group_advantages(REWARD_N, GROUP_N, baseline="mean", scale=scale)
    # TRL's correction of the variance, K / (K - 1), is a float32 quotient: half an ulp is 3e-8, and half of that in the
    # root.
    torch.testing.assert_close(ours, theirs, rtol=1e-12 if scale == "none" else 3e-8, atol=1e-12)
    assert ours[4:8].tolist() == [0, 0, 0, 0]
    assert float(ours.abs().max()) > 0.5


def test_rloo_advantages_equal_trl() -> None:
    """Without and with a KL penalty in the rewards: k1, summed over completions of three tokens."""
    theirs = trl_advantages(RLOOTrainer, REWARD_N, 4, normalize_advantages=False, beta=0.0)
    ours = group_advantages(REWARD_N, GROUP_N, baseline="leave_one_out")
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    policy_NT, reference_NT = draw(36, 1).reshape(12, 3), draw(36, 2).reshape(12, 3)
    theirs = trl_advantages(RLOOTrainer, REWARD_N, 4, policy_NT, reference_NT, normalize_advantages=False, beta=0.3)
    kl_P = kl_estimate(policy_NT.flatten(), reference_NT.flatten(), "k1")
    penalised_N = REWARD_N - 0.3 * branch_sum(kl_P, torch.arange(36) // 3, 12)
    ours = group_advantages(penalised_N, GROUP_N, baseline="leave_one_out")
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def test_leave_one_out_by_hand() -> None:
    """Rewards 1, 2, 6: against the means 4, 3.5, 1.5 of the others.

    Groups in any order; a completion alone learns nothing.
    """
    reward_N, group_N = torch.tensor([1.0, 9.0, 2.0, 6.0]).double(), torch.tensor([1, 0, 1, 1])
    assert group_advantages(reward_N, group_N, baseline="leave_one_out").tolist() == [-3.0, 0.0, -1.5, 4.5]
    assert flat_groups(reward_N, group_N).tolist() == [True, False]


@pytest.mark.parametrize("scale", ["none", "group", "batch"])
def test_groups_without_spread_have_no_advantage_at_all(scale: Any) -> None:
    """Seven times 0.1 has a float32 mean that is not 0.1; divided by an epsilon, what is left would be a signal."""
    reward_N = torch.cat([torch.full((7,), 0.1), torch.tensor([0.0, 1.0])])
    group_N = torch.tensor([0] * 7 + [1] * 2)
    for baseline in ("mean", "leave_one_out"):
        advantage_N = group_advantages(reward_N, group_N, baseline=baseline, scale=scale)
        assert advantage_N[:7].tolist() == [0.0] * 7
        assert float(advantage_N[8]) > 0
    assert flat_groups(reward_N, group_N).tolist() == [True, False]


def test_what_group_advantages_refuse() -> None:
    with pytest.raises(ValueError, match="not a finite number"):
        group_advantages(torch.tensor([1.0, torch.nan]), torch.tensor([0, 0]), baseline="mean")
    for settings in ({"baseline": "median"}, {"baseline": "mean", "scale": "all"}):
        with pytest.raises(ValueError, match="unknown baseline"):
            group_advantages(REWARD_N, GROUP_N, **settings)  # type: ignore[arg-type]


def test_places_and_ends_of_branches() -> None:
    """Read off the literal layout at the top of this file."""
    assert places(BRANCH_P).tolist() == [0, 0, 1, 0, 1, 0, 2, 2, 1, 3, 3, 4, 2]
    assert last_tokens(BRANCH_P, 4).tolist() == [9, 3, 11, 12]
    assert places(BRANCH_P[:0]).tolist() == []
    with pytest.raises(ValueError, match="branch 4 of 5 has no token"):
        last_tokens(BRANCH_P, 5)


def test_shares_of_tokens() -> None:
    """Per branch, weights 1, 0, 3 are shares 1/4, 0, 3/4; a branch without learned tokens has none."""
    weight_P, branch_P = torch.tensor([1.0, 2.0, 0.0, 3.0, 0.0]), torch.tensor([0, 1, 0, 0, 2])
    assert token_shares(weight_P, branch_P, 3, "branch").tolist() == [0.25, 1.0, 0.0, 0.75, 0.0]
    assert token_shares(weight_P, branch_P, 3, "token").tolist() == weight_P.tolist()
    with pytest.raises(ValueError, match="per must be"):
        token_shares(weight_P, branch_P, 3, "row")  # type: ignore[arg-type]
