"""Losses of a reward model: against TRL's own code, hand values, and probabilities that must add up to one."""

from __future__ import annotations

import math
from itertools import permutations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from palmette.objectives.reward import bradley_terry_loss, pair_accuracy, plackett_luce_loss, ranked_pairs
from tests.support.trl_losses import trl_reward_loss

CHOSEN, REJECTED = torch.tensor([0, 3, 2, 0]), torch.tensor([1, 1, 4, 3])


def rewards(num: int = 5, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (3 * torch.randn(num, generator=generator, dtype=torch.float64)).requires_grad_()


@pytest.mark.parametrize("centring", [0.0, 0.01])
@pytest.mark.parametrize("with_margin", [False, True])
def test_pairs_equal_trl(with_margin: bool, centring: float) -> None:
    """Four pairs over five branches, some of which stand in several pairs: value, gradient, accuracy."""
    reward_N = rewards()
    margin_M = torch.tensor([0.3, 0.0, 1.5, 2.0], dtype=torch.float64) if with_margin else None
    ours = bradley_terry_loss(reward_N, CHOSEN, REJECTED, 4, margin_M=margin_M, centring=centring)
    theirs, accuracy = trl_reward_loss(reward_N[CHOSEN], reward_N[REJECTED], margin_M, centring or None)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=0)
    gradients = [torch.autograd.grad(loss, reward_N)[0] for loss in (ours, theirs)]
    torch.testing.assert_close(*gradients, rtol=1e-12, atol=1e-15)
    lead_M = (reward_N[CHOSEN] - reward_N[REJECTED]).detach()
    assert 0 < accuracy < 1
    assert float(pair_accuracy(lead_M)) == pytest.approx(accuracy)


def test_pairs_by_hand() -> None:
    """Rewards 2 and 1: -log sigmoid(1 - 0.5) = log(1 + exp(-0.5)); the centring term is 0.1 * 3^2.

    Equal rewards: ln 2.
    """
    reward_N, one, two = torch.tensor([2.0, 1.0, 1.0], dtype=torch.float64), torch.tensor([0]), torch.tensor([1])
    margin_M = torch.tensor([0.5], dtype=torch.float64)
    loss = bradley_terry_loss(reward_N, one, two, 1, margin_M=margin_M, centring=0.1)
    assert float(loss) == pytest.approx(math.log1p(math.exp(-0.5)) + 0.9, rel=1e-12)
    assert float(bradley_terry_loss(reward_N, two, torch.tensor([2]), 1)) == pytest.approx(math.log(2), rel=1e-12)
    assert float(pair_accuracy(torch.tensor([1.0, -1.0, 0.0, 2.0]))) == 2.5 / 4


def test_the_greater_reward_wins() -> None:
    """Gradient descent raises what was chosen. With the sign of the lead turned round it would go down."""
    reward_N = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    bradley_terry_loss(reward_N, torch.tensor([0]), torch.tensor([1]), 1).backward()
    assert reward_N.grad is not None
    assert reward_N.grad.tolist() == [-0.5, 0.5]


def test_ranked_lists_are_a_distribution_over_orders() -> None:
    """exp(-loss) over the 24 orders of four branches adds up to 1, and the orders differ."""
    reward_N, lists = rewards(4).detach(), torch.zeros(4, dtype=torch.long)
    chances = [
        math.exp(-float(plackett_luce_loss(reward_N, torch.tensor(rank), lists, 1))) for rank in permutations(range(4))
    ]
    assert sum(chances) == pytest.approx(1, rel=1e-12)
    assert len({f"{chance:.6e}" for chance in chances}) == 24


def test_ranked_lists_by_hand() -> None:
    """exp(reward) = 3, 2, 1 in this order: 3/6 * 2/3 * 1 = 1/3. Equal rewards: ln 4!.

    Lists do not mix, whatever their order.
    """
    reward_N = torch.tensor([2.0, 5.0, 3.0, 5.0, 1.0, 5.0, 5.0], dtype=torch.float64).log()
    rank_N, list_N = torch.tensor([2, 40, 1, 20, 3, 10, 30]), torch.tensor([7, 2, 7, 2, 7, 2, 2])
    loss = plackett_luce_loss(reward_N, rank_N, list_N, 2)
    assert float(loss) == pytest.approx((math.log(3) + math.log(24)) / 2, rel=1e-12)


def test_a_list_of_two_is_a_pair() -> None:
    reward_N = rewards()
    for better, worse in zip(CHOSEN.tolist(), REJECTED.tolist(), strict=True):
        both = reward_N[[worse, better]]
        listed = plackett_luce_loss(both, torch.tensor([2, 1]), torch.zeros(2, dtype=torch.long), 1)
        theirs, _ = trl_reward_loss(both[1:], both[:1], None, None)
        torch.testing.assert_close(listed, theirs, rtol=1e-12, atol=1e-15)


def test_pairs_of_ranked_lists() -> None:
    """A list of three: three pairs of a third each; a list with a tie: two pairs of a half; a list of ties alone:
    none.
    """
    rank_N, list_N = torch.tensor([1, 2, 3, 1, 1, 2, 9, 9]), torch.tensor([0, 0, 0, 1, 1, 1, 2, 2])
    chosen_M, rejected_M, weight_M = ranked_pairs(rank_N, list_N)
    assert list(zip(chosen_M.tolist(), rejected_M.tolist(), strict=True)) == [(0, 1), (0, 2), (1, 2), (3, 5), (4, 5)]
    assert weight_M.tolist() == [1 / 3, 1 / 3, 1 / 3, 0.5, 0.5]
    reward_N = rewards(8)
    together = bradley_terry_loss(reward_N, chosen_M, rejected_M, 2, weight_M=weight_M)
    one = bradley_terry_loss(reward_N, chosen_M[:3], rejected_M[:3], 3)
    two = bradley_terry_loss(reward_N, chosen_M[3:], rejected_M[3:], 2)
    torch.testing.assert_close(together, (one + two) / 2, rtol=1e-12, atol=0)


@given(cut=st.integers(0, 12), seed=st.integers(0, 99))
def test_micro_batches_add_up(cut: int, seed: int) -> None:
    """Twelve pairs cut anywhere; four lists of three cut anywhere between lists."""
    reward_N, pairs_M2 = rewards(12, seed), torch.randint(12, (12, 2), generator=torch.Generator().manual_seed(seed))
    parts = [
        bradley_terry_loss(reward_N, part[:, 0], part[:, 1], 12, centring=0.1)
        for part in (pairs_M2[:cut], pairs_M2[cut:], pairs_M2)
    ]
    torch.testing.assert_close(parts[0] + parts[1], parts[2], rtol=1e-12, atol=0)
    at, rank_N, list_N = 3 * (cut // 3), torch.arange(12), torch.arange(12) // 3
    cuts = (slice(0, at), slice(at, 12), slice(0, 12))
    parts = [plackett_luce_loss(reward_N[part], rank_N[part], list_N[part], 4) for part in cuts]
    torch.testing.assert_close(parts[0] + parts[1], parts[2], rtol=1e-12, atol=0)


def test_finite_differences() -> None:
    margin_M, list_N = torch.tensor([0.3, 0.0, 1.5, 2.0], dtype=torch.float64), torch.tensor([0, 1, 0, 1, 0])
    assert torch.autograd.gradcheck(
        lambda x: bradley_terry_loss(x, CHOSEN, REJECTED, 4, margin_M=margin_M, centring=0.1), (rewards(),)
    )
    assert torch.autograd.gradcheck(lambda x: plackett_luce_loss(x, torch.arange(5), list_N, 2), (rewards(),))


def test_what_is_refused() -> None:
    reward_N, ones = rewards(), torch.zeros(5, dtype=torch.long)
    for denominator in (0, -1, math.nan, math.inf):
        with pytest.raises(ValueError, match="number of pairs of a step must be positive"):
            bradley_terry_loss(reward_N, CHOSEN, REJECTED, denominator)
    with pytest.raises(ValueError, match="centring must be 0 or more"):
        bradley_terry_loss(reward_N, CHOSEN, REJECTED, 4, centring=-1)
    with pytest.raises(ValueError, match="same rank"):
        plackett_luce_loss(reward_N, torch.tensor([1, 2, 3, 4, 1]), ones, 1)
    with pytest.raises(ValueError, match="at least one pair"):
        pair_accuracy(torch.empty(0))
