"""Reward metrics: closed forms, and what must not matter."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from palmette.evaluate.reward_metrics import reward_metrics

lists = st.lists(st.lists(st.floats(-20, 20), min_size=2, max_size=4), min_size=1, max_size=6)


def test_by_hand() -> None:
    """Pairs with leads ln 3 (probability 3/4) and -ln 3, and one of three, whose pairs weigh as one: leads 0, 1, 1.

    Accuracy (1 + 0 + (1/2 + 1 + 1) / 3) / 3; log loss (ln 4/3 + ln 4 + (ln 2 + 2 ln(1 + 1/e)) / 3) / 3.
    """
    found = reward_metrics([[math.log(3), 0.0], [0.0, math.log(3)], [1.0, 1.0, 0.0]])
    assert (found.comparisons, found.pairs) == (3, 5)
    assert found.accuracy == pytest.approx((1 + 2.5 / 3) / 3)
    three = (math.log(2) + 2 * math.log(1 + math.exp(-1))) / 3
    assert found.log_loss == pytest.approx((math.log(4 / 3) + math.log(4) + three) / 3)
    assert found.margin == pytest.approx((2 / 3) / 3)
    assert found.reward == pytest.approx((2 * math.log(3) + 2) / 7)


def test_calibration_is_that_of_the_side_held_to_be_better() -> None:
    """Leads of ln 3 either way: three of four pairs as the rewards say, at probability 3/4 each, is perfect."""
    lead = [math.log(3), 0.0]
    perfect = reward_metrics([lead, lead, lead, lead[::-1]])
    assert perfect.calibration_error == pytest.approx(0.0, abs=1e-12)
    (one,) = perfect.reliability
    assert (one.confidence, one.accuracy, one.count) == (pytest.approx(0.75), 0.75, 4)
    assert reward_metrics([lead] * 4).calibration_error == pytest.approx(0.25)


def test_rewards_that_say_nothing_cost_ln_2() -> None:
    found = reward_metrics([[1.0, 1.0]] * 5)
    assert (found.accuracy, found.margin, found.deviation) == (0.5, 0.0, 0.0)
    assert found.log_loss == pytest.approx(math.log(2))
    assert found.intervals["accuracy"] == (0.5, 0.5)


@given(lists, st.floats(-5, 5))
def test_only_differences_matter(rewards: list[list[float]], shift: float) -> None:
    """But for rounding: a lead may be smaller than the rounding of the shifted rewards, so it is kept away from 0."""
    rewards = [[round(value) for value in one] for one in rewards]
    shifted = reward_metrics([[value + round(shift) for value in one] for one in rewards])
    found = reward_metrics(rewards)
    assert shifted.accuracy == found.accuracy
    assert shifted.log_loss == pytest.approx(found.log_loss, rel=1e-9)


def test_intervals_hold_the_value_and_shrink_with_more_comparisons() -> None:
    """The standard error of a share of 1/2 among N is 1 / (2 sqrt N): 95 % lie within 1.96 of these."""
    rewards = [[float(i % 2), 0.5] for i in range(400)]
    low, high = reward_metrics(rewards).intervals["accuracy"]
    assert low < 0.5 < high
    assert high - low == pytest.approx(2 * 1.96 / (2 * 20), rel=0.15)
    assert reward_metrics(rewards[:1]).intervals == {}


@pytest.mark.parametrize("rewards", [[], [[1.0]], [[1.0, float("nan")]]])
def test_what_is_refused(rewards: list[list[float]]) -> None:
    with pytest.raises(ValueError, match="reward"):
        reward_metrics(rewards)


def test_extreme_rewards_stay_finite() -> None:
    found = reward_metrics([[-1e4, 1e4], [1e4, -1e4]])
    assert np.isfinite(found.log_loss)
    assert found.log_loss == pytest.approx(1e4)
