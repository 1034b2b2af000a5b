"""Thresholds of extracted values: for each field, what the value must be worth, fitted to a stated cost.

Fields differ. Where a model spreads its probability over "Iowa" and "the State of Iowa", each of them is less probable
than a sure value of another field, and both are right. So a field with enough labels gets a threshold of its own
(`Decision.min_worth`), and the others share one. The temperature and the power of the number of windows are fitted over
all fields. Which fields have thresholds of their own depends on how many labels there are, never on how many values are
right.

A value is right if it equals a labelled one after SQuAD's normalisation. Of yes/no, it is right if one of the two
passages holds the other. Lists keep their `least_probability`, and choices are not covered.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from palmette.decode.effort import Effort
from palmette.decode.posterior import Decision
from palmette.evaluate.calibration import Case, check_data, fit_min_worth, fit_odds, mean_cost
from palmette.extraction.labelled import check_not_learned, covered_documents, labelled_cases
from palmette.extraction.labels import Labels
from palmette.extraction.reading import Rule
from palmette.extraction.schema import Schema
from palmette.inference.answerer import Answerer
from palmette.inference.calibration import COST_WRONG, check_cost, warn_of_windows
from palmette.numbers import count

ENOUGH = 10  # labels with a value, for a threshold of its own


@dataclass(frozen=True)
class Threshold:
    """What the values of some fields must be worth.

    Attributes:
        fields: the names of the fields.
        min_worth: the least worth of a value that is given. See `Decision`.
        num_labels: labels that it was fitted on.
        before: the mean cost of a label if the most probable outcome is given.
        after: the mean cost with the threshold, on the labels that it was fitted on.
        refusing: the mean cost if no value is given.
    """

    fields: tuple[str, ...]
    min_worth: float
    num_labels: int
    before: float
    after: float
    refusing: float


@dataclass(frozen=True)
class Thresholds:
    """Thresholds that were fitted.

    Attributes:
        odds: the temperature, the power of the number of windows, and the cost of a wrong value.
        groups: the thresholds.
        lists: lists, of which `least_probability` decides.
        uncovered: choices, and fields without labels. They are decided as without thresholds.
        max_windows: the most windows of a document that they were fitted on.
    """

    odds: Decision
    groups: tuple[Threshold, ...]
    lists: tuple[str, ...]
    uncovered: tuple[str, ...]
    max_windows: int

    def rules(self, _: Schema, otherwise: Decision) -> dict[str, Rule]:
        """The rule of each field.

        Args:
            otherwise: how fields that are not covered are decided.
        """
        found = {name: Rule(otherwise) for name in self.uncovered} | {name: Rule(self.odds) for name in self.lists}
        for group in self.groups:
            found |= {name: Rule(replace(self.odds, min_worth=group.min_worth)) for name in group.fields}
        return found

    def settings(self) -> dict[str, Any]:
        """What the values depend on, as a map of plain values."""
        thresholds = {name: one.min_worth for one in self.groups for name in one.fields}
        return {"thresholds": {"odds": asdict(self.odds), "min_worth": thresholds}}

    def explain(self) -> Iterator[str]:
        """Lines that say what is given of which fields, and what that costs."""
        cost = self.odds.cost_wrong
        yield f"a wrong value costs {cost:g}, and leaving out one that a document holds costs 1"
        for one in self.groups:
            yield (
                f"{', '.join(one.fields)}: given if P(the value) + P(any value) / {cost:g} is at least "
                f"{one.min_worth:.3f}. Mean cost of {count(one.num_labels, 'label')}: {one.before:.3f} without "
                f"thresholds, {one.after:.3f} with them, {one.refusing:.3f} if all are left empty"
            )
        if self.lists:
            yield f"{', '.join(self.lists)}: given from least_probability on, as lists are"
        if self.uncovered:
            yield f"nothing is fitted for {', '.join(self.uncovered)}: choices, and fields without labels"

    def warn_of_windows(self, num_windows: Iterable[int]) -> str | None:
        """A line about documents that were read in more windows than any of the labelled ones. None if none were."""
        return warn_of_windows(
            num_windows, self.max_windows, "the thresholds were fitted on", "They may not suit that."
        )


def fit_thresholds(
    answerer: Answerer, schema: Schema, labels: Labels, effort: Effort, *, cost_wrong: float = COST_WRONG
) -> Thresholds:
    """Ask labelled documents for the fields, and fit the thresholds.

    Args:
        answerer: what reads.
        schema: the fields.
        labels: what documents hold that the model was not trained on.
        effort: how far the decoder looks.
        cost_wrong: what a wrong value costs, if leaving out one that is there costs 1.

    Raises:
        DataError: the model was trained on these labels, no label has a value or none is absent, or the cost is below
            1.
    """
    check_cost(cost_wrong)
    check_not_learned(answerer, labels, schema)
    documents = covered_documents(labels, schema)
    check_data(documents, labels.source)
    by_field = labelled_cases(answerer, schema, documents, effort, "fitting thresholds")
    return thresholds_of(schema, by_field, cost_wrong)


def thresholds_of(schema: Schema, by_field: Mapping[str, Sequence[Case]], cost_wrong: float) -> Thresholds:
    """The thresholds that questions with known answers lead to.

    Args:
        schema: the fields.
        by_field: the questions of each field that is covered, with the best span proved.
        cost_wrong: as for `fit_thresholds`.
    """
    odds = replace(fit_odds([case for cases in by_field.values() for case in cases]), cost_wrong=cost_wrong)
    lists = tuple(field.name for field in schema.fields if field.many and field.name in by_field)
    single = [field.name for field in schema.fields if field.name in by_field and not field.many]
    known = {name: sum(case.question.answerable for case in by_field[name]) for name in single}
    own = [name for name in single if known[name] >= ENOUGH]
    others = tuple(name for name in single if name not in own)
    if others and sum(known[name] for name in others) < ENOUGH:  # too few even together
        own, others = [], tuple(single)
    groups = [_threshold((name,), by_field, odds) for name in own]
    if others:
        groups.append(_threshold(others, by_field, odds))
    uncovered = tuple(field.name for field in schema.fields if field.name not in by_field)
    most = max(case.posterior.num_windows for cases in by_field.values() for case in cases)
    return Thresholds(odds, tuple(groups), lists, uncovered, most)


def _threshold(names: tuple[str, ...], by_field: Mapping[str, Sequence[Case]], odds: Decision) -> Threshold:
    cases = [case for name in names for case in by_field[name]]
    worth, cost = fit_min_worth(cases, odds), odds.cost_wrong
    refusing = sum(case.cost("", cost) for case in cases) / len(cases)
    before, after = (mean_cost(cases, one, cost) for one in (Decision(), replace(odds, min_worth=worth)))
    return Threshold(names, worth, len(cases), before, after, refusing)
