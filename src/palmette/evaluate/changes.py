"""Which answers changed between two evaluations of the same questions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from palmette.evaluate.squad_metrics import ScoredAnswer

Pair = tuple[ScoredAnswer, ScoredAnswer]


@dataclass(frozen=True)
class Changes:
    """The answers to the same questions in A and B that differ.

    Attributes:
        won: pairs of answers that are right in B only.
        lost: pairs of answers that are right in A only.
        num_other: other answers that differ, as right or as wrong in B as in A.
    """

    won: tuple[Pair, ...]
    lost: tuple[Pair, ...]
    num_other: int


def changed_answers(a: Sequence[ScoredAnswer], b: Sequence[ScoredAnswer]) -> Changes:
    """Compare two evaluations answer by answer.

    Args:
        a: the answers of the one.
        b: the answers of the other, to the same questions in any order.
    """
    of_b = {answer.question.id: answer for answer in b}
    pairs = [(answer, of_b[answer.question.id]) for answer in a]
    return Changes(
        won=tuple((x, y) for x, y in pairs if x.exact < y.exact),
        lost=tuple((x, y) for x, y in pairs if x.exact > y.exact),
        num_other=sum(x.exact == y.exact and x.prediction.text != y.prediction.text for x, y in pairs),
    )
