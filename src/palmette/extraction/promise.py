"""A promise about extracted values: at most so many of them wrong, tested on labelled documents.

The test is that of `palmette calibrate` (see `evaluate/guarantee.py`). The probabilities are calibrated on half of the
labelled documents, over all fields. Then a field with enough labels gets a threshold and a promise of its own, and the
other fields share one. If the others are too few for that, all fields share one. Which of these it is depends on how
many answers there are, never on how many of them are right.

A value is right if it equals a labelled one after SQuAD's normalisation. Of yes/no, it is right if one of the two
passages holds the other. Of a list, every value counts as an answer.
Choices are not covered: a label is a passage, and does not say which option it means.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from palmette.decode.effort import Effort
from palmette.decode.posterior import Decision
from palmette.errors import DataError
from palmette.evaluate.calibration import Case, check_data, fit_odds, judge, split
from palmette.evaluate.guarantee import JudgedAnswer, choose_threshold, shortage
from palmette.extraction.labelled import check_not_learned, covered_documents, labelled_cases
from palmette.extraction.labels import Labels
from palmette.extraction.reading import Rule, listed, stated
from palmette.extraction.schema import Field, Schema
from palmette.inference.answerer import Answerer
from palmette.inference.calibration import Guarantee, text_hash, warn_of_windows

Halves = tuple[list[JudgedAnswer], list[JudgedAnswer]]


@dataclass(frozen=True)
class Promise:
    """Thresholds that were tested.

    Attributes:
        odds: the temperature, and the power of the number of windows.
        groups: names of fields, and what is guaranteed about their values taken together.
        uncovered: fields about which nothing is promised: choices, and fields without labels.
        max_windows: the most windows of a document that they were tested on.
    """

    odds: Decision
    groups: tuple[tuple[tuple[str, ...], Guarantee], ...]
    uncovered: tuple[str, ...]
    max_windows: int

    def rules(self, schema: Schema, otherwise: Decision) -> dict[str, Rule]:
        """The rule of each field.

        Args:
            schema: the fields.
            otherwise: how fields that are not covered are decided.
        """
        found = {name: Rule(otherwise) for name in self.uncovered}
        many = {field.name for field in schema.fields if field.many}
        for names, guarantee in self.groups:
            least = guarantee.min_confidence
            for name in names:
                in_list = Rule(self.odds, least)
                found[name] = in_list if name in many else Rule(replace(self.odds, min_confidence=least))
        return found

    def settings(self) -> dict[str, Any]:
        """What the values depend on, as a map of plain values."""
        thresholds = {name: one.min_confidence for names, one in self.groups for name in names}
        return {"promise": {"odds": asdict(self.odds), "min_confidence": thresholds}}

    def explain(self) -> Iterator[str]:
        """Lines that say what is guaranteed about which fields."""
        for names, guarantee in self.groups:
            together = " together" if len(names) > 1 else ""
            yield f"{', '.join(names)}{together}: values with a probability of at least {guarantee.min_confidence:.3f}"
            yield from guarantee.explain()
        if self.uncovered:
            yield f"nothing is promised about {', '.join(self.uncovered)}: choices, and fields without labels"

    def warn_of_windows(self, num_windows: Iterable[int]) -> str | None:
        """A line about documents that were read in more windows than any that was tested. None if there are none."""
        covered = "The guarantee does not cover that."
        return warn_of_windows(num_windows, self.max_windows, "the promise was tested on", covered)


def make_promise(
    answerer: Answerer, schema: Schema, labels: Labels, effort: Effort, *, target_error: float, confidence: float
) -> Promise:
    """Ask labelled documents for the fields, and find the thresholds that keep a promise.

    Args:
        answerer: what reads.
        schema: the fields.
        labels: what documents hold that the model was not trained on.
        effort: how far the decoder looks.
        target_error: the largest share of wrong values, between 0 and 1.
        confidence: confidence level of each promise, between 0 and 1.

    Raises:
        DataError: the model was trained on these labels, there are too few of them, or no threshold keeps the promise.
    """
    check_not_learned(answerer, labels, schema)
    documents = covered_documents(labels, schema)
    check_data(documents, labels.source, target_error=target_error, confidence=confidence)
    by_field = labelled_cases(answerer, schema, documents, effort, "testing the promise")
    return promise_of(schema, by_field, target_error, confidence)


def promise_of(schema: Schema, by_field: dict[str, list[Case]], target_error: float, confidence: float) -> Promise:
    """The promise that questions with known answers allow.

    Args:
        schema: the fields.
        by_field: the questions of each field that is covered, with the best span proved.
        target_error: as for `make_promise`.
        confidence: as for `make_promise`.

    Raises:
        DataError: there are too few questions, or no threshold keeps the promise.
    """
    fits, tests = split([case for cases in by_field.values() for case in cases])
    odds = fit_odds(fits)
    fields = {field.name: field for field in schema.fields if field.name in by_field}
    kinds = {field.question: field for field in fields.values()}
    judged: dict[str, Halves] = {name: ([], []) for name in fields}
    for half, cases in enumerate((fits, tests)):
        for case in cases:
            field = kinds[case.question.text]
            judged[field.name][half].extend(_answers(case, field, odds))
    groups = []
    for names in _groups(judged, target_error, confidence):
        try:
            guarantee = choose_threshold(*_together(judged, names), target_error, confidence)
        except DataError as error:
            raise DataError(f"{', '.join(names)}: {error.problem}", error.way_out) from error
        groups.append((names, guarantee))
    uncovered = tuple(field.name for field in schema.fields if field.name not in fields)
    most = max(case.posterior.num_windows for case in (*fits, *tests))
    return Promise(odds, tuple(groups), uncovered, most)


def _groups(judged: dict[str, Halves], target_error: float, confidence: float) -> list[tuple[str, ...]]:
    """The fields that are tested together."""
    own = [name for name, halves in judged.items() if not shortage(*halves, target_error, confidence)]
    others = tuple(name for name in judged if name not in own)
    if others and shortage(*_together(judged, others), target_error, confidence):
        return [tuple(judged)]
    return [*((name,) for name in own), *([others] if others else [])]


def _together(judged: dict[str, Halves], names: Sequence[str]) -> Halves:
    return [one for name in names for one in judged[name][0]], [one for name in names for one in judged[name][1]]


def _answers(case: Case, field: Field, odds: Decision) -> list[JudgedAnswer]:
    """The values that could be given, before any minimum of confidence."""
    if not field.many:
        judged = judge(case, odds)
        return [] if judged is None else [judged]
    values = listed(stated(odds, case.posterior), field.least_probability).values
    document = text_hash(case.document)
    return [JudgedAnswer(one.probability, not case.right(one.text), document) for one in values]
