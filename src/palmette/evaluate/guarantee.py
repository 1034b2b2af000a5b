"""A promise about the answers given: at most so many wrong, with so much confidence.

The method is fixed-sequence testing of thresholds (Learn then Test: Angelopoulos et al., 2021). The thresholds and
their order are chosen on one half of the calibration questions. The other half tests them one by one, from strict to
loose, each with an exact binomial test. The first one that fails ends it. The chance that the last threshold to pass
breaks the promise is at most 1 - confidence.

What it rests on: the questions of the testing half, and those answered later, are drawn independently from the same
source. Questions about one document are alike, so a promise from few documents says less than its number of questions
suggests.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from palmette.errors import DataError
from palmette.inference.calibration import Guarantee

_STEPS = 20


@dataclass(frozen=True, slots=True)
class JudgedAnswer:
    """An answer that could be given, and whether it is wrong."""

    confidence: float
    wrong: bool


def check_promise(target_error: float, confidence: float) -> None:
    """Refuse a promise that means nothing.

    Raises:
        DataError: a number that is not between 0 and 1.
    """
    for name, value in (("target error", target_error), ("confidence", confidence)):
        if not 0.0 < value < 1.0:
            raise DataError(f"the {name} is {value}", "Give a number between 0 and 1, such as 0.05.")


def smallest_sample(target_error: float, confidence: float) -> int:
    """The fewest answers, all of them right, that prove the promise: (1 - target_error)^n <= 1 - confidence.

    >>> smallest_sample(0.05, 0.95), smallest_sample(0.1, 0.9)
    (59, 22)
    """
    return math.ceil(math.log1p(-confidence) / math.log1p(-target_error))


def upper_bound(wrong: int, answered: int, confidence: float) -> float:
    """The exact one-sided upper bound (Clopper and Pearson, 1934) of the share of wrong answers.

    >>> round(upper_bound(0, 59, 0.95), 4), upper_bound(3, 3, 0.95)
    (0.0495, 1.0)
    """
    return 1.0 if wrong >= answered else float(stats.beta.ppf(confidence, wrong + 1, answered - wrong))


def choose_threshold(
    chooses: Sequence[JudgedAnswer], tests: Sequence[JudgedAnswer], target_error: float, confidence: float
) -> Guarantee:
    """The loosest threshold that passes.

    Args:
        chooses: answers that could be given to the half that orders the thresholds.
        tests: the same for the half that tests them.
        target_error: the largest share of wrong answers, between 0 and 1.
        confidence: of the promise, between 0 and 1.

    Raises:
        DataError: a number is out of range, there are too few answers to prove anything, or no threshold passes.
    """
    check_promise(target_error, confidence)
    needed = smallest_sample(target_error, confidence)
    if min(len(chooses), len(tests)) < needed:
        raise DataError(
            f"the calibration set is too small: to promise at most {target_error:.1%} wrong with {confidence:.0%} "
            f"confidence, each half needs at least {needed} answers, "
            f"and the halves have {len(chooses)} and {len(tests)}",
            "Calibrate on more documents and questions, or promise less.",
        )
    passed: Guarantee | None = None
    for threshold in _sequence(chooses, len(tests), target_error, confidence):
        given = [judged for judged in tests if judged.confidence >= threshold]
        wrong = sum(judged.wrong for judged in given)
        if upper_bound(wrong, len(given), confidence) > target_error:
            break
        passed = Guarantee(target_error, confidence, threshold, len(given), wrong, len(tests))
    if passed is None:
        raise DataError(
            f"no threshold is shown to keep the promise: at the first one tested {wrong} of {len(given)} answers were "
            f"wrong, which allows up to {upper_bound(wrong, len(given), confidence):.1%}",
            "Promise less, train further, or calibrate on more questions.",
        )
    return passed


def _sequence(chooses: Sequence[JudgedAnswer], num_tests: int, target_error: float, confidence: float) -> list[float]:
    """Thresholds from strict to loose, beginning with the one most likely to pass by what the choosing half shows."""
    ordered = sorted(chooses, key=lambda judged: -judged.confidence)
    num_wrong = np.cumsum([judged.wrong for judged in ordered])
    steps = sorted({math.ceil(len(ordered) * (step + 1) / _STEPS) for step in range(_STEPS)})
    chances = [
        _chance_to_pass(count, int(num_wrong[count - 1]), num_tests / len(ordered), target_error, confidence)
        for count in steps
    ]
    return [ordered[count - 1].confidence for count in steps[int(np.argmax(chances)) :]]


def _chance_to_pass(count: int, wrong: int, scale: float, target_error: float, confidence: float) -> float:
    """The chance that as large a share of the testing half passes, if it has as many errors as the choosing half."""
    expected = round(count * scale)
    allowed = stats.binom.ppf(1 - confidence, expected, target_error)
    # The largest number of errors whose probability under the target is still at most 1 - confidence.
    while allowed >= 0 and stats.binom.cdf(allowed, expected, target_error) > 1 - confidence:
        allowed -= 1
    return float(stats.binom.cdf(allowed, expected, (wrong + 0.5) / (count + 1))) if allowed >= 0 else 0.0
