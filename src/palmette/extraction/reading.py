"""Fields asked of documents: one tree a document, with all fields as its branches."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Protocol

from palmette.data.records import Document
from palmette.data.stream import Row
from palmette.decode.posterior import Decision, SpanPosterior, log_sum_exp
from palmette.decode.prediction import Candidate, Prediction, find_span
from palmette.decode.span_decoder import options_of
from palmette.extraction.schema import Field, Schema
from palmette.inference.job import answer_record, rounded

# While decoding for rules that were fitted to labels: the best span is found in any case, as where they were fitted.
WHOLE_SEARCH = Decision(always_answer=True)


@dataclass(frozen=True, slots=True)
class FieldPrediction(Prediction):
    """What a document says about a field. The first value is the answer.

    Attributes:
        values: the spans that are values, in the order of the document. One at most without `many`.
        options: (option, probability) of a choice, the most probable first. With the probability of no answer they sum
            to 1.
    """

    values: tuple[Candidate, ...] = ()
    options: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Rule:
    """By which rule a field gets values.

    Attributes:
        decision: how its probabilities become a value.
        least: with `many`, the least probability of a value that is listed, where that of the field is lower.
    """

    decision: Decision
    least: float = 0.0


class Fields(Protocol):
    """What reads fields, such as a `SpanDecoder`."""

    @property
    def decision(self) -> Decision:
        """How the posterior becomes an answer."""

    def read_fields(
        self, documents: Iterable[Document], options: Mapping[str, Sequence[str]], least: Mapping[str, float]
    ) -> Iterator[tuple[str, SpanPosterior]]:
        """As `SpanDecoder.read_fields`."""


class FittedRules(Protocol):
    """Rules of fields that were fitted to labelled documents: a promise, or thresholds."""

    def rules(self, schema: Schema, otherwise: Decision, /) -> dict[str, Rule]:
        """The rule of each field. `otherwise` decides fields that are not covered."""

    def settings(self) -> dict[str, Any]:
        """What the values depend on, as a map of plain values."""

    def warn_of_windows(self, num_windows: Iterable[int], /) -> str | None:
        """A line about documents longer than those that the rules were fitted to. None if there are none."""


class FieldDecoder:
    """Reads the fields of a schema out of documents.

    Args:
        decoder: what reads them.
        schema: the fields. A question that a document is asked is that of one of them.
        rules: the rule of each field, by its name. That of the decoder for all if None.
    """

    def __init__(self, decoder: Fields, schema: Schema, rules: Mapping[str, Rule] | None = None) -> None:
        self._decoder = decoder
        self._fields = {field.question: field for field in schema.fields}
        self._rules = rules or {field.name: Rule(decoder.decision) for field in schema.fields}

    def predict(self, documents: Sequence[Document]) -> Iterator[tuple[str, FieldPrediction]]:
        """(question id, what it says) for every question of the documents, as soon as each is known."""
        by_id = {one.id: self._fields[one.text] for document in documents for one in document.questions}
        options = {question: field.options for question, field in by_id.items() if field.type == "choice"}
        least = {question: field.least_probability for question, field in by_id.items() if field.many}
        waiting: dict[str, SpanPosterior] = {}
        for name, posterior in self._decoder.read_fields(documents, options, least):
            waiting[name] = posterior
            question = name.removeprefix(options_of(""))
            needed = [question, *([options_of(question)] if question in options else [])]
            if all(one in waiting for one in needed):
                yield question, self._prediction(by_id[question], *(waiting.pop(one) for one in needed))

    def _prediction(
        self, field: Field, posterior: SpanPosterior, options: SpanPosterior | None = None
    ) -> FieldPrediction:
        rule = self._rules[field.name]
        said = stated(rule.decision, posterior)
        if field.many:
            return listed(said, max(field.least_probability, rule.least))
        if options is not None:
            shares = _shares(field, options, 1.0 - (said.no_answer_probability or 0.0))
            return chosen(said, shares, rule.decision)
        return replace(said, values=said.candidates[:1]) if said.text else said


def stated(decision: Decision, posterior: SpanPosterior) -> FieldPrediction:
    """What a document says about a question, with every scored span as a candidate, and without values yet."""
    whole = decision.decide(posterior, None)
    return FieldPrediction(**{one.name: getattr(whole, one.name) for one in fields(Prediction)})


def chosen(said: FieldPrediction, options: tuple[tuple[str, float], ...], decision: Decision) -> FieldPrediction:
    """A prediction with a choice. The value is a passage, with the probability of the best option.

    The passage is the most probable one that holds the words of the option, or else the most probable one.

    Where no passage is likely enough to be an answer, an option still may be: several passages may say the same. It is
    held to the rules of answers. It is given without a proof then.

    Args:
        said: what the document says about the question.
        options: the options with their probabilities, the most probable first.
        decision: the rules of answers.
    """
    said, best, no_answer = replace(said, options=options), options[0][1], said.no_answer_probability or 0.0
    passages = [one for one in said.candidates if find_span(one.text.lower(), options[0][0].lower()) >= 0]
    passages = passages or list(said.candidates[:1])
    worth = best + (1.0 - no_answer) / decision.cost_wrong
    refused = best <= no_answer or worth < decision.min_worth or best < decision.min_confidence
    if not passages or (not said.text and refused):
        return said
    passage = replace(passages[0], probability=best)
    certified = said.certified and passage.text == said.text
    given = replace(said, text=passage.text, start=passage.start, end=passage.end, probability=best, refusal="")
    return replace(given, certified=certified, values=(passage,))


def listed(said: FieldPrediction, least: float) -> FieldPrediction:
    """A prediction with a list of values: the spans with a probability of at least `least` that do not overlap.

    Of overlapping spans the most probable one is taken. The list is empty where a document more likely than not holds
    no answer. It is certified where the decision is proved, the document has one window, and no span that is left out
    can have a probability of `least`.
    """
    likely = said.no_answer_probability is not None and said.no_answer_probability < 0.5
    values: list[Candidate] = []
    for one in said.candidates if likely and said.refusal != "absent" else ():
        if one.probability >= least and all(one.end <= other.start or other.end <= one.start for other in values):
            values.append(one)
    searched = max(1.0 - said.unscored, 1e-9)
    doubtful = any(one.probability < least <= one.probability / searched for one in said.candidates)
    complete = said.num_windows == 1 and said.unscored < least and not doubtful
    said = replace(said, certified=said.certified and (complete or not likely))
    if not values:
        return replace(said, text="", start=None, end=None, refusal="unsure" if likely else "absent")
    best = values[0]
    given = replace(said, text=best.text, start=best.start, end=best.end, probability=best.probability, refusal="")
    return replace(given, values=tuple(sorted(values, key=lambda one: one.start)))


def _shares(field: Field, posterior: SpanPosterior, answered: float) -> tuple[tuple[str, float], ...]:
    """The probability of each option: its share among the options of the probability that there is an answer."""
    odds = {text: value for text, _, value in posterior.spans}
    total = log_sum_exp(odds.values())
    shares = [(option, answered * math.exp(odds[option] - total)) for option in field.options]
    return tuple(sorted(shares, key=lambda one: -one[1]))


def field_record(said: FieldPrediction, row: Row) -> dict[str, Any]:
    """What a line says about a field: an answer as `palmette predict` writes it, and all values with their places."""
    values = []
    for one in said.values:
        place = {} if row.extracted is None else {"place": row.extracted.place_record(one.start, one.end)}
        value = {"text": one.text, "start": one.start, "end": one.end, **place}
        values.append({**value, "probability": rounded(one.probability)})
    options = {option: rounded(probability) for option, probability in said.options}
    return {**answer_record(said, row), "values": values, **({"options": options} if options else {})}
