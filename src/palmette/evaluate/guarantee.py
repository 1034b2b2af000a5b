"""A guarantee about the answers given: at most so many wrong, with so much confidence.

The method is fixed-sequence testing of thresholds (Learn then Test: Angelopoulos et al., 2021). The thresholds and
their order are chosen on one half of the calibration documents. The other half tests them one by one, from strict to
loose. The first one that fails ends the sequence. The chance that the last threshold to pass breaks the guarantee is at
most 1 - confidence.

Each test is an upper bound by documents, since the answers of one document are alike (see `clustered`). The guarantee
rests on documents that are drawn independently, from the same source as those answered later, and on a correlation of
at most 0.2 between the errors of a document. At a correlation of 0.4 a guarantee of 95 % holds in 91 to 97 % of the
cases.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from palmette.errors import DataError
from palmette.evaluate.clustered import MIN_DOCUMENTS, clustered_bound, design_effect, effective_size
from palmette.inference.calibration import Guarantee
from palmette.numbers import count, in_percent

_STEPS = 20


@dataclass(frozen=True, slots=True)
class JudgedAnswer:
    """An answer that could be given.

    Attributes:
        confidence: its probability.
        wrong: whether it is wrong.
        document: what tells its document from the others.
    """

    confidence: float
    wrong: bool
    document: str


def check_promise(target_error: float, confidence: float) -> None:
    """Refuse a guarantee that means nothing.

    Raises:
        DataError: a number is not between 0 and 1.
    """
    for name, value in (("target error", target_error), ("confidence", confidence)):
        if not 0.0 < value < 1.0:
            raise DataError(f"the {name} is {value}", "Give a number between 0 and 1, such as 0.05.")


def smallest_sample(target_error: float, confidence: float) -> int:
    """The fewest independent answers, all of them right, that prove it: (1 - target_error)^n <= 1 - confidence.

    >>> smallest_sample(0.05, 0.95), smallest_sample(0.1, 0.9)
    (59, 22)
    """
    return math.ceil(math.log1p(-confidence) / math.log1p(-target_error))


def choose_threshold(
    chooses: Sequence[JudgedAnswer], tests: Sequence[JudgedAnswer], target_error: float, confidence: float
) -> Guarantee:
    """Choose the loosest threshold that passes.

    Args:
        chooses: answers that could be given to the half that orders the thresholds.
        tests: the same for the half that tests them.
        target_error: the largest share of wrong answers, between 0 and 1.
        confidence: confidence level of the guarantee, between 0 and 1.

    Raises:
        DataError: a number is out of range, there are too few answers or documents to prove anything, or no threshold
            passes.
    """
    check_promise(target_error, confidence)
    if missing := shortage(chooses, tests, target_error, confidence):
        raise DataError(
            f"the calibration set is too small: {missing}",
            "Calibrate on more documents and questions, or promise less.",
        )
    choosing, testing = _Half.of(chooses), _Half.of(tests)
    passed: Guarantee | None = None
    failure = ""
    for threshold in _sequence(choosing, len(testing), target_error, confidence):
        wrong_D, answered_D = testing.above(threshold)
        # Which thresholds are skipped depends on the probabilities alone, not on the errors that are tested.
        if len(answered_D) < MIN_DOCUMENTS:
            failure = failure or f"the answers at the first one are from {len(answered_D)} documents only"
            continue
        bound = clustered_bound(wrong_D, answered_D, confidence)
        wrong, answered = int(wrong_D.sum()), int(answered_D.sum())
        if bound > target_error:
            failure = (
                f"at the first one tested {wrong} of {answered} answers were wrong, "
                f"which allows up to {in_percent(bound)} by {len(answered_D)} documents"
            )
            break
        effect = design_effect(wrong_D, answered_D)
        passed = Guarantee(
            target_error, confidence, threshold, answered, wrong, len(tests), len(answered_D), round(effect, 4)
        )
    if passed is None:
        raise DataError(
            f"no threshold is shown to keep the promise: {failure}",
            "Promise less, train further, or calibrate on more documents and questions.",
        )
    return passed


def shortage(
    chooses: Sequence[JudgedAnswer], tests: Sequence[JudgedAnswer], target_error: float, confidence: float
) -> str:
    """What halves lack that prove nothing even if all of their answers are right. "" if they are large enough.

    Which answers are right has no influence, so it may decide what is tested. Arguments as for `choose_threshold`.
    """
    needed = smallest_sample(target_error, confidence)
    sizes = []
    for answers in (chooses, tests):
        _, answered_D = _Half.of(answers).first(len(answers))
        documents = len(answered_D)
        least = design_effect(np.zeros_like(answered_D), answered_D) if documents else 1.0
        size = math.floor(effective_size(len(answers), documents, least, confidence) + 1e-9)
        sizes.append((len(answers), documents, size))
    if all(size >= needed and documents >= MIN_DOCUMENTS for _, documents, size in sizes):
        return ""
    stated = " and ".join(
        f"{number} in {count(documents, 'document')} (worth {size})" for number, documents, size in sizes
    )
    return (
        f"to promise at most {in_percent(target_error)} wrong with {in_percent(confidence)} confidence, each half "
        f"needs answers worth at least {needed} independent ones in at least {MIN_DOCUMENTS} documents, "
        f"and the halves have {stated}"
    )


@dataclass(frozen=True, slots=True)
class _Half:
    """The answers of one half, from the most probable one to the least. A is the number of answers."""

    confidence_A: NDArray[np.float64]
    wrong_A: NDArray[np.int64]
    document_A: NDArray[np.int64]

    @classmethod
    def of(cls, answers: Sequence[JudgedAnswer]) -> _Half:
        ordered = sorted(answers, key=lambda judged: -judged.confidence)
        numbers = {name: number for number, name in enumerate({judged.document: None for judged in ordered})}
        return cls(
            np.array([judged.confidence for judged in ordered], np.float64),
            np.array([judged.wrong for judged in ordered], np.int64),
            np.array([numbers[judged.document] for judged in ordered], np.int64),
        )

    def __len__(self) -> int:
        return len(self.wrong_A)

    def first(self, count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Wrong answers, and answers, of each document among the most probable answers."""
        document_A, wrong_A = self.document_A[:count], self.wrong_A[:count]
        answered_D = np.bincount(document_A)
        wrong_D = np.bincount(document_A, weights=wrong_A, minlength=len(answered_D)).astype(np.int64)
        return wrong_D[answered_D > 0], answered_D[answered_D > 0]

    def above(self, threshold: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The same for the answers at least as probable as a threshold."""
        return self.first(int((self.confidence_A >= threshold).sum()))


def _sequence(chooses: _Half, num_tests: int, target_error: float, confidence: float) -> list[float]:
    """Thresholds from strict to loose, beginning with the one most likely to pass by what the choosing half shows."""
    steps = sorted({math.ceil(len(chooses) * (step + 1) / _STEPS) for step in range(_STEPS)})
    scale = num_tests / len(chooses)
    chances = [_chance_to_pass(*chooses.first(count), scale, target_error, confidence) for count in steps]
    return [float(chooses.confidence_A[count - 1]) for count in steps[int(np.argmax(chances)) :]]


def _chance_to_pass(
    wrong_D: NDArray[np.int64], answered_D: NDArray[np.int64], scale: float, target_error: float, confidence: float
) -> float:
    """The chance that as large a share of the testing half passes, if it has as many errors as the choosing half."""
    answers, documents = int(answered_D.sum()), round(len(answered_D) * scale)
    if documents < MIN_DOCUMENTS:
        return 0.0
    effect = design_effect(wrong_D, answered_D)
    size = round(effective_size(round(answers * scale), documents, effect, confidence))
    allowed = float(special.bdtrik(1 - confidence, size, target_error))
    # The largest number of errors whose probability under the target is still at most 1 - confidence.
    allowed = -1.0 if math.isnan(allowed) else math.ceil(allowed)
    while allowed >= 0 and special.bdtr(allowed, size, target_error) > 1 - confidence:
        allowed -= 1
    share = (int(wrong_D.sum()) + 0.5) / (answers + 1)
    return float(special.bdtr(allowed, size, share)) if allowed >= 0 else 0.0
