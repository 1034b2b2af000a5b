"""A report's comparison with another model's answers to the same questions, such as those of the untouched model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from palmette.evaluate.compare import PERCENT, Compared, compare_evaluations
from palmette.evaluate.squad_metrics import ScoredAnswer
from palmette.numbers import fixed, interval, places_of

SHOWN = ("exact", "f1", "HasAns_exact", "NoAns_exact", "answered", "verbatim", "auroc_answerable", "ece")


@dataclass(frozen=True)
class Before:
    """Answers to compare a report's own with.

    Attributes:
        name: what the page calls the model that gave them.
        own: what it calls the model of the report.
        scored: the answers, to the same questions in any order.
    """

    name: str
    own: str
    scored: Sequence[ScoredAnswer]


def comparison_rows(before: Before, after: Sequence[ScoredAnswer]) -> Iterator[Mapping[str, Any]]:
    """The measures of both models, as text, with the difference and which of them is better."""
    for one in compare_evaluations(before.scored, after):
        if one.measure.key in SHOWN:
            yield measure_row(one, before.name, before.own)


def measure_row(one: Compared, a: str, b: str) -> Mapping[str, Any]:
    """A measure of two models, as text.

    Args:
        one: the measure.
        a: what the page calls the first model.
        b: what it calls the second one.
    """
    ends = (one.difference.low, one.difference.high) if one.difference else None
    places, unit = places_of(ends, one.measure.places), " %" if one.measure.unit == PERCENT else ""
    words = {"A": f"{a} is better", "B": f"{b} is better", "unclear": "unclear"}
    return {
        "name": one.measure.label[0].upper() + one.measure.label[1:],
        "before": fixed(one.a, places) + unit,
        "after": fixed(one.b, places) + unit,
        "difference": "equal" if one.equal else fixed(one.b - one.a, places, sign=True),
        "interval": interval(ends, places, sign=True),
        "verdict": words.get(one.verdict, ""),
    }


def changes(before: Before, after: Sequence[ScoredAnswer]) -> list[tuple[str, str]]:
    """For each answer: what the other model answered to its question, and whether that makes it "better" or "worse".

    An answer that is as right as the other one is neither, and gets "".
    """
    of_question = {answer.question.id: answer for answer in before.scored}
    found = []
    for answer in after:
        other = of_question[answer.question.id]
        label = "better" if answer.exact > other.exact else "worse" if answer.exact < other.exact else ""
        found.append((other.prediction.text, label))
    return found
