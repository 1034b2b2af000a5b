"""Finds the answers that changed between two evaluations of the same questions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from palmette.evaluate.squad_metrics import ScoredAnswer

Pair = tuple[ScoredAnswer, ScoredAnswer]


@dataclass(frozen=True)
class Changes:
    """The answers that differ between two evaluations A and B of the same questions.

    Attributes:
        won: pairs of answers that are right in B only.
        lost: pairs of answers that are right in A only.
        num_other: the number of other answers that differ. They are right in both, or wrong in both.
    """

    won: tuple[Pair, ...]
    lost: tuple[Pair, ...]
    num_other: int


def changed_answers(a: Sequence[ScoredAnswer], b: Sequence[ScoredAnswer]) -> Changes:
    """Compare two evaluations answer by answer.

    Args:
        a: the answers of the first evaluation.
        b: the answers of the second one, to the same questions in any order.
    """
    of_b = {answer.question.id: answer for answer in b}
    pairs = [(answer, of_b[answer.question.id]) for answer in a]
    return Changes(
        won=tuple((x, y) for x, y in pairs if x.exact < y.exact),
        lost=tuple((x, y) for x, y in pairs if x.exact > y.exact),
        num_other=sum(x.exact == y.exact and x.prediction.text != y.prediction.text for x, y in pairs),
    )
