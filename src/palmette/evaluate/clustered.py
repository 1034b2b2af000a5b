"""An upper bound of the share of wrong answers, where the answers of one document are alike.

The bound is the one of Korn and Graubard (1998), "Confidence intervals for proportions with small expected number of
positive counts estimated from survey data": a Clopper-Pearson bound for as many independent answers as the clustered
ones are worth. That number is n / deff * (t_{n-1} / t_{m-1})^2, for n answers of m documents. The design effect deff is
the variance of the share by documents, linearised as that of a ratio, over its variance for independent answers.

Deviation: with few documents the estimate of deff is noisy, and without a wrong answer there is none. So deff is at
least 1 + (n / m - 1) * 0.1, which is the design effect of a correlation of 0.1 within documents. Simulated with beta-
binomial errors at a true share of wrong answers just above the target, 1,000 calibrations as a whole with 20 to 100
documents of 2, 5 or 15 answers on average broke a guarantee of 95 % in 0 to 5.3 % of the cases up to a correlation of
0.2, and in 3 to 9 % at 0.4. Fewer than `MIN_DOCUMENTS` documents are refused, mainly because they seldom suffice: at a
quarter of the target's errors, 10 documents of 5 answers gave a guarantee of 10 % wrong in 7 % of the cases, and 20 in
64 %. The simulations with 10 and 15 documents did not break the guarantee more often up to a correlation of 0.2.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import special

MIN_DOCUMENTS = 20
MIN_CORRELATION = 0.1


def design_effect(wrong_D: NDArray[np.int64], answered_D: NDArray[np.int64]) -> float:
    """The factor by which clustering raises the variance of the share of wrong answers.

    Args:
        wrong_D: wrong answers of each document.
        answered_D: answers of each document, at least 1.

    >>> round(design_effect(np.array([4, 0, 0, 0]), np.array([4, 4, 4, 4])), 3)
    5.0
    >>> design_effect(np.array([1, 0, 0]), np.array([1, 1, 1]))
    1.0
    """
    documents, answers = len(answered_D), int(answered_D.sum())
    least = 1.0 + (answers / documents - 1.0) * MIN_CORRELATION
    share = wrong_D.sum() / answers
    if documents < 2 or not 0.0 < share < 1.0:
        return float(least)
    residual_D = wrong_D - share * answered_D
    clustered = documents / (documents - 1) * (residual_D**2).sum() / answers**2
    independent = share * (1.0 - share) / (answers - 1)
    return float(max(least, clustered / independent))


def effective_size(answers: int, documents: int, effect: float, confidence: float) -> float:
    """How many independent answers the answers of some documents are worth. It is 0 for fewer than two documents.

    Args:
        answers: the number of answers.
        documents: the number of documents that they are from.
        effect: the design effect.
        confidence: confidence level of the bound.
    """
    if documents < 2:
        return 0.0
    shrink = special.stdtrit(answers - 1, confidence) / special.stdtrit(documents - 1, confidence)
    return min(float(answers), float(answers / effect * shrink**2))


def upper_bound(wrong: float, answered: float, confidence: float) -> float:
    """The exact one-sided upper bound of the share of wrong answers (Clopper and Pearson, 1934).

    Args:
        wrong: wrong answers. It need not be a whole number.
        answered: independent answers.
        confidence: confidence level of the bound.

    >>> round(upper_bound(0, 59, 0.95), 4), upper_bound(3, 3, 0.95)
    (0.0495, 1.0)
    """
    return 1.0 if wrong >= answered else float(special.betaincinv(wrong + 1, answered - wrong, confidence))


def clustered_bound(wrong_D: NDArray[np.int64], answered_D: NDArray[np.int64], confidence: float) -> float:
    """The one-sided upper bound of the share of wrong answers of clustered answers.

    Args:
        wrong_D: wrong answers of each document.
        answered_D: answers of each document, at least 1.
        confidence: confidence level of the bound.
    """
    answers = int(answered_D.sum())
    size = effective_size(answers, len(answered_D), design_effect(wrong_D, answered_D), confidence)
    return upper_bound(float(wrong_D.sum()) / answers * size, size, confidence)
