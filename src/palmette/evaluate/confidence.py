"""How well probabilities tell right answers from wrong ones: pure functions of arrays, on the scale 0 to 1.

Letters: N questions. None of these depends on the order of the questions, ties included.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """The questions whose probability lies in one bin of a reliability diagram.

    Attributes:
        low, high: the bin's edges. `low` is inside, and `high` is outside except in the last bin.
        confidence: their mean probability.
        accuracy: their mean score.
        count: how many they are.
    """

    low: float
    high: float
    confidence: float
    accuracy: float
    count: int


def auroc(scores: npt.ArrayLike, positive: npt.ArrayLike) -> float | None:
    """Area under the receiver operating characteristic.

    That is the probability that a positive has a higher score than a negative, both drawn at random. A tie counts half
    (Hanley and McNeil, 1982).

    >>> auroc([0.9, 0.4, 0.4, 0.1], [True, True, False, False])
    0.875

    Args:
        scores: (N,) any real numbers.
        positive: (N,) which of them should be high.

    Returns:
        0 to 1. None if there are only positives, or only negatives.
    """
    scores_N, positive_N = np.asarray(scores, dtype=np.float64), np.asarray(positive, dtype=np.bool_)
    high, low = scores_N[positive_N], np.sort(scores_N[~positive_N])
    if not high.size or not low.size:
        return None
    below, not_above = np.searchsorted(low, high, side="left"), np.searchsorted(low, high, side="right")
    return float(np.mean(below + not_above) / (2 * low.size))


def reliability_bins(
    probability: npt.ArrayLike, correct: npt.ArrayLike, *, num_bins: int = 10
) -> tuple[ReliabilityBin, ...]:
    """The bins of a reliability diagram: equally wide, in rising order, empty ones left out.

    Args:
        probability: (N,) of being right, 0 to 1.
        correct: (N,) scores, 0 or 1.
        num_bins: bins between 0 and 1.

    Raises:
        ValueError: no questions, shapes that differ, or a probability outside 0 to 1.
    """
    probability_N, correct_N = _checked(probability, correct)
    bin_N = np.minimum(np.floor(probability_N * num_bins).astype(np.int64), num_bins - 1)
    count = np.bincount(bin_N, minlength=num_bins)
    confidence = np.bincount(bin_N, weights=probability_N, minlength=num_bins)
    accuracy = np.bincount(bin_N, weights=correct_N, minlength=num_bins)
    return tuple(
        ReliabilityBin(
            index / num_bins,
            (index + 1) / num_bins,
            float(confidence[index] / count[index]),
            float(accuracy[index] / count[index]),
            int(count[index]),
        )
        for index in np.flatnonzero(count).tolist()
    )


def expected_calibration_error(probability: npt.ArrayLike, correct: npt.ArrayLike, *, num_bins: int = 10) -> float:
    """Mean distance of confidence and accuracy over equally wide bins, weighted by their counts (Guo et al., 2017).

    It is no less than |mean probability - mean score|, and rises above 0 by chance alone in small samples.

    >>> round(expected_calibration_error([0.8, 0.8, 0.8, 0.8], [1, 1, 1, 0]), 6)
    0.05

    Args:
        probability: (N,) of being right, 0 to 1.
        correct: (N,) scores, 0 or 1.
        num_bins: bins between 0 and 1.

    Raises:
        ValueError: no questions, shapes that differ, or a probability outside 0 to 1.
    """
    bins = reliability_bins(probability, correct, num_bins=num_bins)
    return sum(bin_.count * abs(bin_.confidence - bin_.accuracy) for bin_ in bins) / sum(bin_.count for bin_ in bins)


def risk_coverage(confidence: npt.ArrayLike, correct: npt.ArrayLike) -> tuple[Values, Values]:
    """The risk-coverage curve of keeping the most confident answers only (El-Yaniv and Wiener, 2010).

    Point k has coverage k / N and as risk the mean of 1 - score over the k most confident. Among equal confidences each
    order is as good as any other, so the risk is its expectation over all of them: each counts as their mean.

    Args:
        confidence: (N,) any real numbers, high for answers to keep.
        correct: (N,) scores, 0 to 1.

    Returns:
        (coverage, risk), each (N,), 0 to 1, by rising coverage.

    Raises:
        ValueError: no questions, or shapes that differ.
    """
    confidence_N, correct_N = _pair(confidence, correct)
    _, level_N, size = np.unique(-confidence_N, return_inverse=True, return_counts=True)
    risk_of_level = np.bincount(level_N, weights=1.0 - correct_N) / size
    kept_N = np.arange(1, confidence_N.size + 1, dtype=np.float64)
    return kept_N / confidence_N.size, np.cumsum(np.repeat(risk_of_level, size)) / kept_N


def area_under_risk_coverage(confidence: npt.ArrayLike, correct: npt.ArrayLike) -> float:
    """The mean risk over the N coverages of `risk_coverage` (AURC, Geifman et al., 2019): 0 is best.

    Confidence that says nothing, the same for all, earns the mean of 1 - score.

    Args:
        confidence: (N,) any real numbers, high for answers to keep.
        correct: (N,) scores, 0 to 1.

    Raises:
        ValueError: no questions, or shapes that differ.
    """
    return float(np.mean(risk_coverage(confidence, correct)[1]))


def _checked(probability: npt.ArrayLike, correct: npt.ArrayLike) -> tuple[Values, Values]:
    probability_N, correct_N = _pair(probability, correct)
    if not np.all((probability_N >= 0) & (probability_N <= 1)):
        raise ValueError("a probability is not between 0 and 1")
    return probability_N, correct_N


def _pair(first: npt.ArrayLike, second: npt.ArrayLike) -> tuple[Values, Values]:
    first_N, second_N = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if first_N.ndim != 1 or first_N.shape != second_N.shape or not first_N.size:
        raise ValueError(
            f"shapes {first_N.shape} and {second_N.shape}: two arrays of the same N > 0 questions are needed"
        )
    return first_N, second_N
