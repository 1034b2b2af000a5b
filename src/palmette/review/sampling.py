"""Random choices of questions, and what they say about the questions that nobody was asked.

Accuracy on questions that a queue picked for being hard is not accuracy. So the audit set is drawn at random before
anything is judged, and a mixed queue knows the probability of each of its draws.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

AUDIT_SHARE, MOST_AUDITED = 0.2, 100
_FEWEST_DOCUMENTS = 2  # in the audit set, since intervals are over documents


def draw_audit(
    questions: Mapping[str, str], seed: int, *, share: float = AUDIT_SHARE, most: int = MOST_AUDITED
) -> tuple[tuple[str, ...], float]:
    """Draw an audit set: whole documents at random, with all of their questions.

    A model that trains on one question of a document has read the document, so no document is on both sides.

    Args:
        questions: the hash of the document of every question, by the question's id.
        seed: random seed.
        share: the share of the questions that is wanted.
        most: the number of questions that is wanted at most.

    Returns:
        The questions in the order of the data, and the probability with which each was drawn. No question at all if
        there are fewer than four documents, of which half at most go to the audit set.

    >>> draw_audit({f"q{i}": f"d{i % 10}" for i in range(40)}, seed=0, share=0.2)[1]
    0.2
    """
    documents = list(dict.fromkeys(questions.values()))
    wanted = min(share * len(questions), most) * len(documents) / max(1, len(questions))
    number = min(max(round(wanted), _FEWEST_DOCUMENTS), len(documents) // 2)
    if share <= 0.0 or most <= 0 or number < _FEWEST_DOCUMENTS:
        return (), 0.0
    drawn = set(random.Random(f"audit {seed}").sample(documents, number))
    return tuple(asked for asked, document in questions.items() if document in drawn), number / len(documents)


def unbiased_mean(values: Sequence[float], probabilities: Sequence[float], pool: int) -> float:
    """The mean over a whole pool, estimated without bias from questions that were drawn one after the other.

    It is R_LURE of Farquhar, Gal and Rainforth (2021), "On statistical bias in active learning", equation 11.

    Args:
        values: a number for each drawn question, in the order of the draws.
        probabilities: the probability that this question was the next, given those before it. Every question that was
            left must have had a chance.
        pool: the number of questions before the first draw.

    >>> round(unbiased_mean([1.0, 0.0], [1 / 4, 1 / 3], pool=4), 9)
    0.5
    """
    drawn = len(values)
    total = 0.0
    for number, (value, probability) in enumerate(zip(values, probabilities, strict=True), start=1):
        weight = 1.0
        if drawn < pool:
            weight += (pool - drawn) / (pool - number) * (1.0 / ((pool - number + 1) * probability) - 1.0)
        total += weight * value
    return total / drawn
