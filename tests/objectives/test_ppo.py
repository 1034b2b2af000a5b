"""PPO: hand-derived values, closed forms over a whole vocabulary, and the classic bugs, each of which gives another
number.
"""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from palmette.objectives.advantages import gae, whiten
from palmette.objectives.branches import branch_sum
from palmette.objectives.kl import AdaptiveKL, kl_estimate, kl_ran_away, mean_completion_kl
from palmette.objectives.ppo import (
    check_ends_learned,
    clipped_policy_loss,
    clipped_value_loss,
    completions_ended,
    explained_variance,
    score_completions,
    shape_rewards,
)
from palmette.tree.batch import PackedBatch
from palmette.tree.prefix_tree import Node, PrefixTree
from palmette.tree.segments import Segment


def double(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def draws(num: int, seed: int) -> torch.Tensor:
    """Rows of 12 tokens."""
    return torch.randn(num, 12, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


WEIGHT_P = (torch.arange(12) % 4 != 1).double()


def test_two_steps_by_hand() -> None:
    """The example of the docstring of `ppo`, number by number."""
    old_P, value_P, branch_P = double(-0.5, -1.0), double(0.2, 0.6), torch.tensor([0, 0])
    reward_P = shape_rewards(double(1.0), old_P, double(-0.7, -0.9), branch_P, kl_coefficient=0.1)
    torch.testing.assert_close(reward_P, double(-0.02, 1.01), rtol=1e-12, atol=0)
    advantage_P, return_P = gae(reward_P, value_P, branch_P, 1)
    torch.testing.assert_close(advantage_P, double(0.7695, 0.41), rtol=1e-12, atol=0)
    torch.testing.assert_close(return_P, double(0.9695, 1.01), rtol=1e-12, atol=0)
    white_P = whiten(advantage_P, torch.ones(2))
    # sqrt(variance / (variance + 1e-8)) with a variance of 0.0323 is 1 - 1.5e-7
    torch.testing.assert_close(white_P, double(1, -1), rtol=2e-7, atol=0)
    policy_P = (old_P + double(1.3, 0.9).log()).requires_grad_()
    step = clipped_policy_loss(policy_P, old_P, double(1, -1), torch.ones(2), 2)
    step.loss.backward()
    assert float(step.loss.detach()) == pytest.approx(-0.15, rel=1e-12)
    assert float(step.clip_share) == 0.5
    torch.testing.assert_close(policy_P.grad, double(0, 0.45), rtol=1e-12, atol=0)
    # k3 of old to policy: ratio - 1 - log ratio, a mean over both tokens
    assert float(step.old_kl) == pytest.approx((0.3 - math.log(1.3) - 0.1 - math.log(0.9)) / 2, rel=1e-12)
    now_P = double(0.5, 0.7).requires_grad_()
    loss = clipped_value_loss(now_P, value_P, return_P, torch.ones(2), 2)
    loss.backward()
    assert float(loss.detach()) == pytest.approx(0.1051075625, rel=1e-12)
    torch.testing.assert_close(now_P.grad, double(0, -0.155), rtol=1e-12, atol=0)


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "gradient", "clipped"),
    [
        (1.5, 2.0, -2.4, 0.0, 1.0),  # gone far enough
        (0.5, 2.0, -1.0, -1.0, 0.0),  # gone the wrong way: pulled back in full
        (1.5, -2.0, 3.0, 3.0, 0.0),  # the same, down
        (0.5, -2.0, 1.6, 0.0, 1.0),  # gone far enough, down
        (1.1, 2.0, -2.2, -2.2, 0.0),  # within the range
    ],
)
def test_the_clip_by_cases(ratio: float, advantage: float, loss: float, gradient: float, clipped: float) -> None:
    """-min(r A, clip(r, 0.8, 1.2) A); its gradient by log r is -r A, or 0 where the clipped side is the smaller."""
    policy_P = double(ratio).log().requires_grad_()
    step = clipped_policy_loss(policy_P, double(0.0), double(advantage), double(1), 1)
    step.loss.backward()
    assert policy_P.grad is not None
    assert float(step.loss.detach()) == pytest.approx(loss, rel=1e-12)
    assert float(policy_P.grad) == pytest.approx(gradient, rel=1e-12)
    assert float(step.clip_share) == clipped


@pytest.mark.parametrize(("value", "error"), [(0.5, 1.5), (1.9, 0.8), (2.5, 0.8), (-0.3, 2.3), (1.0, 1.0)])
def test_the_value_clip_by_cases(value: float, error: float) -> None:
    """Old value 1, return 2, clip 0.2: towards the return only 1.2 counts, also beyond it; away from it everything
    counts.
    """
    found = clipped_value_loss(double(value), double(1.0), double(2.0), double(1), 1)
    assert float(found) == pytest.approx(error**2 / 2, rel=1e-12)
    free = clipped_value_loss(double(value), double(1.0), double(2.0), double(1), 1, clip=None)
    assert float(free) == pytest.approx((value - 2) ** 2 / 2, rel=1e-12)


def test_the_kl_penalty_costs_what_leaves_the_reference() -> None:
    """Over a whole vocabulary: the mean of k1 and of k3 under the policy is the KL divergence, so the mean reward is
    -coefficient * KL.

    With the sign turned round, or policy and reference exchanged, it is not.
    """
    logprob_PV = torch.log_softmax(draws(2, 0), dim=-1)
    policy_P, reference_P = logprob_PV
    kl = float(torch.nn.functional.kl_div(reference_P, policy_P, reduction="sum", log_target=True))
    branch_P, score_N = torch.arange(12), torch.zeros(12).double()
    for estimator in ("k1", "k3"):
        reward_P = shape_rewards(score_N, policy_P, reference_P, branch_P, kl_coefficient=0.3, estimator=estimator)
        assert float((policy_P.exp() * reward_P).sum()) == pytest.approx(-0.3 * kl, rel=1e-9)
    exchanged_P = shape_rewards(score_N, reference_P, policy_P, branch_P, kl_coefficient=0.3)
    assert float((policy_P.exp() * exchanged_P).sum()) == pytest.approx(0.3 * kl, rel=1e-9)
    assert kl > 0.1


def test_kl_estimates_by_hand() -> None:
    """Policy twice as likely as the reference: k1 = ln 2, k2 = (ln 2)^2 / 2, k3 = 1/2 - 1 + ln 2."""
    policy_P, reference_P = double(0.5).log(), double(0.25).log()
    two = math.log(2)
    for estimator, expected in (("k1", two), ("k2", two**2 / 2), ("k3", two - 0.5)):
        assert float(kl_estimate(policy_P, reference_P, estimator)) == pytest.approx(expected, rel=1e-12)  # type: ignore[arg-type]
    apart_P = torch.linspace(-3, 3, 12).double()
    assert bool((kl_estimate(apart_P, torch.zeros(12).double(), "k3") >= 0).all())
    with pytest.raises(ValueError, match="estimator must be"):
        kl_estimate(policy_P, reference_P, "k4")  # type: ignore[arg-type]


def test_the_score_goes_to_the_last_token_of_its_own_completion() -> None:
    """Branches that alternate, of 3, 1 and 2 tokens; policy and reference agree."""
    branch_P = torch.tensor([0, 2, 0, 1, 0, 2])
    same_P = torch.zeros(6).double()
    reward_P = shape_rewards(double(5, 6, 7), same_P, same_P, branch_P, kl_coefficient=1.0)
    assert reward_P.tolist() == [0, 0, 0, 6, 5, 7]
    with pytest.raises(ValueError, match="kl_coefficient must be"):
        shape_rewards(double(5, 6, 7), same_P, same_P, branch_P, kl_coefficient=-1.0)


def test_unlearned_tokens_have_no_part() -> None:
    """Whatever stands there, losses and gradients stay.

    Learned by mistake, or counted in the denominator, the numbers are others.
    """
    policy_P, old_P, advantage_P, value_P, old_value_P, return_P = draws(6, 0) / 3
    noise_P = torch.where(WEIGHT_P > 0, 0.0, 3.0)

    def losses(weight_P: torch.Tensor, denominator: float, noise_P: torch.Tensor) -> list[float]:
        policy = clipped_policy_loss(policy_P, old_P - noise_P, advantage_P + noise_P, weight_P, denominator)
        value = clipped_value_loss(value_P, old_value_P + noise_P, return_P + noise_P, weight_P, denominator)
        share = explained_variance(value_P, return_P + noise_P, weight_P)
        assert share is not None
        return [float(x) for x in (policy.loss, policy.clip_share, policy.old_kl, value)] + [share]

    right = losses(WEIGHT_P, 9, 0 * noise_P)
    assert losses(WEIGHT_P, 9, noise_P) == right
    assert all(x != y for x, y in zip(losses(torch.ones(12), 9, noise_P), right, strict=True))
    assert all(x != y for x, y in zip(losses(WEIGHT_P, 12, noise_P)[:4], right[:4], strict=True))


def test_values_are_read_at_predictors() -> None:
    """A prompt with two completions, one worth 1, the other 0; a critic that knows them after their first token, and
    1/2 before.

    So only first tokens have an advantage, +1/2 and -1/2. Read at the tokens themselves, values are one position late.
    """
    completions = tuple(Node((Segment(tokens, learn=1.0),)) for tokens in ((7, 8, 2), (9, 2)))
    tree = PrefixTree(Node((Segment((5, 6)),), completions))
    batch = PackedBatch.from_trees([[tree]])
    row_P, column_P = (batch.learn_BT != 0).nonzero(as_tuple=True)
    assert batch.token_BT[row_P, column_P].tolist() == [7, 8, 2, 9, 2]
    critic_BT = torch.zeros(batch.token_BT.shape, dtype=torch.float64)
    critic_BT[0, :7] = double(0.1, 0.5, 1, 1, 0, 0, 0)  # after 5, 6, 7, 8, 2 (over), 9, 2 (over)
    branch_P, weight_P = torch.tensor([0, 0, 0, 1, 1]), torch.ones(5)
    same_P = torch.zeros(5).double()
    reward_P = shape_rewards(double(1, 0), same_P, same_P, branch_P, kl_coefficient=0.1)
    value_P = critic_BT[row_P, batch.predictor_BT[row_P, column_P]]
    advantage_P, return_P = gae(reward_P, value_P, branch_P, 2, lam=0.0)
    assert advantage_P.tolist() == [0.5, 0, 0, -0.5, 0]
    assert return_P.tolist() == [1, 1, 1, 0, 0]
    late_P = critic_BT[row_P, column_P]
    assert gae(reward_P, late_P, branch_P, 2, lam=0.0)[0].tolist() == [0, -1, 1, 0, 0]
    right, wrong = (float(clipped_value_loss(x, x, return_P, weight_P, 5)) for x in (value_P, late_P))
    assert right == pytest.approx((0.5**2 + 0.5**2) / 2 / 5, rel=1e-12)
    assert wrong == pytest.approx(1 / 2 / 5, rel=1e-12)


def test_a_rewarded_end_is_learned() -> None:
    """A policy that ends with probability 0.1 at every place, and a completion [word, end] with advantage 1 a token.

    d log p(end) / d logit = 0.9 and d log p(word) / d logit = -0.1, so the logit's gradient is -(0.9 - 0.1) / 2 and the
    policy ends sooner. Without the end token in the loss it is +0.1 / 2, and the policy forgets how to end; that is
    refused.
    """
    logit = torch.tensor(math.log(0.1 / 0.9), dtype=torch.float64, requires_grad=True)
    token_P, branch_P = torch.tensor([4, 2]), torch.tensor([0, 0])
    whole_P, lost_P = double(1, 1), double(1, 0)

    def gradient(weight_P: torch.Tensor) -> float:
        policy_P = torch.nn.functional.logsigmoid(torch.stack([-logit, logit]))
        loss = clipped_policy_loss(policy_P, policy_P.detach(), double(1, 1), weight_P, 2).loss
        return float(torch.autograd.grad(loss, logit)[0])

    assert gradient(whole_P) == pytest.approx(-0.4, rel=1e-12)
    assert gradient(lost_P) == pytest.approx(0.05, rel=1e-12)
    ended = torch.tensor([True])
    check_ends_learned(token_P, whole_P, branch_P, ended, {2})
    for tokens, weights in ((token_P, lost_P), (token_P[:1], whole_P[:1])):
        with pytest.raises(ValueError, match="branch 0 ended, but its end token is not learned"):
            check_ends_learned(tokens, weights, branch_P[: len(tokens)], ended, {2})
    check_ends_learned(token_P[:1], whole_P[:1], branch_P[:1], ~ended, {2})  # cut off: there is no end to learn


def test_the_end_of_sequence_rule() -> None:
    token_P, branch_P = torch.tensor([4, 2, 4, 2, 4, 3]), torch.tensor([0, 0, 1, 2, 2, 1])
    ended_N = completions_ended(token_P, branch_P, 3, {2, 3})
    assert ended_N.tolist() == [True, True, False]
    score_N = double(1, 2, 3)
    assert score_completions(score_N, ended_N, rule="penalty", amount=1.5).tolist() == [1, 2, 1.5]
    assert score_completions(score_N, ended_N, rule="score", amount=-1).tolist() == [1, 2, -1]
    with pytest.raises(ValueError, match="rule must be"):
        score_completions(score_N, ended_N, rule="none", amount=0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="penalty must be"):
        score_completions(score_N, ended_N, rule="penalty", amount=-1)
    with pytest.raises(ValueError, match="must be an end token"):
        completions_ended(token_P, branch_P, 3, ())


@given(cut=st.integers(0, 12), seed=st.integers(0, 99))
def test_micro_batches_add_up(cut: int, seed: int) -> None:
    policy_P, old_P, advantage_P, value_P, old_value_P, return_P = draws(6, seed) / 3

    def part(here: slice) -> torch.Tensor:
        weight_P = WEIGHT_P[here]
        step = clipped_policy_loss(policy_P[here], old_P[here], advantage_P[here], weight_P, 9)
        value = clipped_value_loss(value_P[here], old_value_P[here], return_P[here], weight_P, 9)
        return torch.stack([step.loss, step.clip_share, step.old_kl, value])

    parts = part(slice(0, cut)) + part(slice(cut, 12))
    torch.testing.assert_close(parts, part(slice(0, 12)), rtol=1e-12, atol=1e-15)


def test_finite_differences() -> None:
    policy_P, old_P, advantage_P, value_P, old_value_P, return_P = draws(6, 5) / 3
    assert 0 < float(clipped_policy_loss(policy_P, old_P, advantage_P, WEIGHT_P, 9).clip_share) < 1
    assert torch.autograd.gradcheck(
        lambda x: clipped_policy_loss(x, old_P, advantage_P, WEIGHT_P, 9).loss, (policy_P.requires_grad_(),)
    )
    assert torch.autograd.gradcheck(
        lambda x: clipped_value_loss(x, old_value_P, return_P, WEIGHT_P, 9), (value_P.requires_grad_(),)
    )


def test_nothing_but_the_policy_and_the_values_gets_a_gradient() -> None:
    inputs = (draws(6, 0) / 3).requires_grad_()
    policy_P, old_P, advantage_P, value_P, old_value_P, return_P = inputs
    loss = clipped_policy_loss(policy_P, old_P, advantage_P, WEIGHT_P, 9).loss
    (loss + clipped_value_loss(value_P, old_value_P, return_P, WEIGHT_P, 9)).backward()
    assert inputs.grad is not None
    assert inputs.grad.abs().sum(dim=1).gt(0).tolist() == [True, False, False, True, False, False]


@pytest.mark.parametrize(
    ("value", "expected"),
    [((1, 2, 3, 4), 1.0), ((11, 12, 13, 14), 1.0), ((7, 7, 7, 7), 0.0), ((-1, -2, -3, -4), -3.0)],
)
def test_explained_variance(value: tuple[float, ...], expected: float) -> None:
    """Of returns 1 to 4. Values of the wrong sign miss by twice the return: 1 - 4."""
    target_P = double(1, 2, 3, 4)
    assert explained_variance(double(*value), target_P, torch.ones(4)) == pytest.approx(expected, abs=1e-12)
    assert explained_variance(double(*value), 0 * target_P, torch.ones(4)) is None
    assert explained_variance(double(*value), target_P, torch.zeros(4)) is None


def test_the_adaptive_coefficient() -> None:
    """Target 6, gain 0.1: 10 % over gives +1 %; errors count up to 20 %, so the most is 2 % a step, both ways."""
    controller = AdaptiveKL(target=6.0)
    for kl, factor in ((6.6, 1.01), (6.0, 1.0), (5.4, 0.99), (60.0, 1.02), (0.0, 0.98), (-3.0, 0.98)):
        assert controller.next_coefficient(0.2, kl) == pytest.approx(0.2 * factor, rel=1e-12)
    for settings in ({"target": 0.0}, {"target": 1.0, "gain": -1.0}, {"target": 1.0, "limit": 0.0}):
        with pytest.raises(ValueError, match="must be positive"):
            AdaptiveKL(**settings)


def test_kl_of_completions_and_when_it_ran_away() -> None:
    """Completions of 1 and 3 tokens, 0.5 nats each: 2 nats over two completions, whatever the order or the cut."""
    kl_P = torch.full((4,), 0.5)
    assert mean_completion_kl(kl_P, 2) == 1.0 == mean_completion_kl(kl_P[:1], 2) + mean_completion_kl(kl_P[1:], 2)
    assert float(branch_sum(kl_P, torch.tensor([0, 1, 1, 1]), 2).mean()) == 1.0
    assert [kl_ran_away(kl, 10.0) for kl in (-1.0, 10.0, 10.1, math.inf, math.nan)] == [False, False, True, True, True]
    with pytest.raises(ValueError, match="number of completions"):
        mean_completion_kl(kl_P, 0)


@pytest.mark.parametrize("settings", [{"denominator": 0}, {"clip": -0.1}])
def test_what_is_refused(settings: dict[str, Any]) -> None:
    rows = draws(3, 0)
    for loss, inputs in ((clipped_policy_loss, rows), (clipped_value_loss, rows)):
        with pytest.raises(ValueError, match=r"positive|clip"):
            loss(*inputs, WEIGHT_P, **{"denominator": 9, **settings})
