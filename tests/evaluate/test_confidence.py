"""Measures of probabilities, against closed forms, values worked out by hand, and scipy."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from palmette.evaluate.confidence import (
    ReliabilityBin,
    area_under_risk_coverage,
    auroc,
    expected_calibration_error,
    reliability_bins,
    risk_coverage,
)

# Few distinct values, so that ties are the rule; multiples of 1/8 are exact in floating point.
ROWS = st.lists(st.tuples(st.integers(0, 8).map(lambda eighths: eighths / 8), st.booleans()), min_size=1, max_size=30)


@given(ROWS)
def test_auroc_is_the_share_of_pairs_of_mann_and_whitney(rows: list[tuple[float, bool]]) -> None:
    """U / (n m), as scipy counts it, ties half."""
    high, low = [score for score, positive in rows if positive], [score for score, positive in rows if not positive]
    value = auroc(*zip(*rows, strict=True))
    if not high or not low:
        assert value is None
        return
    expected = stats.mannwhitneyu(high, low, method="asymptotic").statistic / (len(high) * len(low))
    assert value == pytest.approx(expected)


def test_auroc_of_plain_cases() -> None:
    assert auroc([1.0, 2.0, 3.0], [False, False, True]) == 1.0
    assert auroc([1.0, 2.0, 3.0], [True, False, False]) == 0.0
    assert auroc([5.0, 5.0, 5.0], [True, False, False]) == 0.5


def test_reliability_bins() -> None:
    """An edge belongs to the bin above it, 1 to the last one; empty bins are left out."""
    assert reliability_bins([0.0, 0.25, 0.4, 1.0, 0.75], [0, 1, 0, 1, 0], num_bins=4) == (
        ReliabilityBin(0.0, 0.25, 0.0, 0.0, 1),
        ReliabilityBin(0.25, 0.5, pytest.approx(0.325), 0.5, 2),
        ReliabilityBin(0.75, 1.0, pytest.approx(0.875), 0.5, 2),
    )


def test_expected_calibration_error_of_plain_cases() -> None:
    """Said 0.7 and 3 of 4 right: 0.05 off. Two bins of 1 and 3 questions, off by 0.15 and 1/15."""
    assert expected_calibration_error([0.7] * 4, [1, 1, 1, 0]) == pytest.approx(0.05)
    assert expected_calibration_error([0.15, 0.6, 0.6, 0.6], [0, 1, 1, 0]) == pytest.approx(0.15 / 4 + 3 / 4 / 15)
    assert expected_calibration_error([1.0, 0.0, 1.0], [1, 0, 1]) == 0.0
    assert expected_calibration_error([1.0, 0.0, 1.0], [0, 1, 0]) == 1.0


@given(ROWS)
def test_calibration_error_lies_between_its_bounds(rows: list[tuple[float, bool]]) -> None:
    """With one bin it is |mean probability - accuracy|; more bins can only raise it; no question is further off than
    1.
    """
    probability, correct = (np.array(column, dtype=float) for column in zip(*rows, strict=True))
    gap = abs(probability.mean() - correct.mean())
    error = expected_calibration_error(probability, correct)
    assert expected_calibration_error(probability, correct, num_bins=1) == pytest.approx(gap)
    assert gap - 1e-12 <= error <= np.abs(probability - correct).mean() + 1e-12  # rounding


def test_risk_and_coverage() -> None:
    """Kept by falling confidence: right, wrong, right: risks 0, 1/2, 1/3."""
    coverage, risk = risk_coverage([0.7, 0.9, 0.8], [1, 1, 0])
    assert coverage == pytest.approx([1 / 3, 2 / 3, 1])
    assert risk == pytest.approx([0, 1 / 2, 1 / 3])
    assert area_under_risk_coverage([0.7, 0.9, 0.8], [1, 1, 0]) == pytest.approx(5 / 18)
    # Two of four wrong, the wrong ones last: 0, 0, 1/3, 2/4; first: 1, 1, 2/3, 2/4.
    assert area_under_risk_coverage([4, 3, 2, 1], [1, 1, 0, 0]) == pytest.approx((1 / 3 + 1 / 2) / 4)
    assert area_under_risk_coverage([1, 2, 3, 4], [1, 1, 0, 0]) == pytest.approx((1 + 1 + 2 / 3 + 1 / 2) / 4)
    assert area_under_risk_coverage([0.5] * 5, [1, 0, 0, 1, 1]) == pytest.approx(2 / 5)


def test_ties_count_as_the_mean_over_their_orders() -> None:
    """Confidences 3, 2, 2, 2, 1 with 1 of the three in the middle right: the risks of all 3! orders, averaged."""
    orders = [np.array([0, *middle, 1]) for middle in permutations([0, 1, 1])]
    expected = np.mean([np.cumsum(order) / np.arange(1, 6) for order in orders], axis=0)
    _, risk = risk_coverage([2, 3, 2, 1, 2], [1, 1, 0, 0, 0])
    assert risk == pytest.approx(expected)


@given(ROWS, st.randoms())
def test_the_order_of_the_questions_does_not_matter(rows: list[tuple[float, bool]], random) -> None:
    shuffled = random.sample(rows, len(rows))
    for measure in (auroc, expected_calibration_error, area_under_risk_coverage):
        assert measure(*zip(*rows, strict=True)) == pytest.approx(measure(*zip(*shuffled, strict=True)))


def test_what_is_no_probability_is_refused() -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        expected_calibration_error([1.5], [1])
    with pytest.raises(ValueError, match="between 0 and 1"):
        expected_calibration_error([float("nan")], [1])
    with pytest.raises(ValueError, match="N > 0"):
        area_under_risk_coverage([], [])
    with pytest.raises(ValueError, match="N > 0"):
        expected_calibration_error([0.5, 0.5], [1])
