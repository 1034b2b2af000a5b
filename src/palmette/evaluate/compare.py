"""Two evaluations of the same questions compared: each measure under both, which value is better, and how sure that is.

Three official measures of unanswerable questions are one number by definition (exact match, F1, and the share refused).
Only the first is compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from palmette.errors import DataError
from palmette.evaluate.bootstrap import Difference, document_of, paired_difference
from palmette.evaluate.squad_metrics import ScoredAnswer, summarize

PERCENT, SHARE, PASSES = "%", "0 to 1", "a question"
Verdict = Literal["A", "B", "unclear", ""]


@dataclass(frozen=True, slots=True)
class Measure:
    """A measure that two evaluations are compared by.

    Attributes:
        key: its name in metrics.json.
        label: its name in words.
        unit: its unit.
        better: which values are better. "" if that depends on the purpose.
        places: the most decimals that are shown.
    """

    key: str
    label: str
    unit: str = PERCENT
    better: Literal["higher", "lower", ""] = "higher"
    places: int = 1

    @property
    def heading(self) -> str:
        """Its name with its unit. Shares of 0 to 1 have none, since their figures show it.

        >>> [Measure("", *given).heading for given in (("F1",), ("Brier score", SHARE), ("forward passes", PASSES))]
        ['F1, %', 'Brier score', 'forward passes a question']
        """
        return self.label + {PERCENT: f", {PERCENT}", SHARE: "", PASSES: f" {PASSES}"}[self.unit]


MEASURES = (
    Measure("exact", "exact match (EM)"),
    Measure("f1", "F1"),
    Measure("HasAns_exact", "EM, answerable"),
    Measure("HasAns_f1", "F1, answerable"),
    Measure("correct_has_answer", "letter for letter, answerable"),
    Measure("correct_no_answer", "refused, unanswerable"),
    Measure("answered", "answered", better=""),
    Measure("verbatim", "verbatim in the document"),
    Measure("valid_json", "valid JSON"),
    Measure("exact_of_valid_json", "EM of valid JSON"),
    Measure("certified", "proved most probable"),
    Measure("auroc_answerable", "AUROC, answerable", SHARE, places=3),
    Measure("ece", "calibration error", SHARE, "lower", 3),
    Measure("brier", "Brier score", SHARE, "lower", 3),
    Measure("aurc", "risk over coverage", SHARE, "lower", 3),
    Measure("mean_passes", "forward passes", PASSES, "lower"),
)


@dataclass(frozen=True, slots=True)
class Compared:
    """A measure under two evaluations.

    Attributes:
        measure: the measure.
        a, b: its values, in its unit.
        difference: b less a, with its interval. None if there are fewer than two documents.
    """

    measure: Measure
    a: float
    b: float
    difference: Difference | None

    @property
    def equal(self) -> bool:
        """Whether both values are the same, and would be on other documents drawn from these."""
        found = self.difference
        return self.a == self.b and (found is None or found.low == found.high == 0.0)

    def repeats(self, other: Compared) -> bool:
        """Whether it says what another measure says: both have the same values and the same interval."""
        return (self.a, self.b, self.difference) == (other.a, other.b, other.difference)

    @property
    def verdict(self) -> Verdict:
        """Which evaluation is better. "unclear" if the interval of the difference holds 0, "" if neither can be."""
        found = self.difference
        if not self.measure.better or self.equal or found is None:
            return ""
        if found.low <= 0.0 <= found.high:
            return "unclear"
        return "B" if (found.low > 0.0) is (self.measure.better == "higher") else "A"


def compare_evaluations(a: Sequence[ScoredAnswer], b: Sequence[ScoredAnswer]) -> list[Compared]:
    """Compare two evaluations by the measures that both have.

    Args:
        a: the answers of the first evaluation.
        b: the answers of the second one, to the same questions in any order.

    Raises:
        DataError: the questions differ, or there are none.
    """
    several = len({document_of(answer) for answer in a}) > 1
    if not several and {answer.question.id for answer in a} != {answer.question.id for answer in b}:
        raise DataError("the two evaluations answer other questions", "Compare evaluations of the same data.")
    differences = paired_difference(b, a) if several else {}
    of_a, of_b = summarize(a), summarize(b)
    found = []
    for measure in MEASURES:
        one, other = of_a.get(measure.key), of_b.get(measure.key)
        if one is not None and other is not None:
            found.append(Compared(measure, float(one), float(other), differences.get(measure.key)))
    return found
