"""What readings of contracts come to under different rules of deciding, as tables. Used by extraction.py."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean
from typing import Any

import cuad

from palmette.data.records import Answer, Document, Question
from palmette.decode.posterior import Decision, SpanPosterior, WindowScores
from palmette.evaluate.calibration import COST_WRONG, Case, PassageCase, fit_min_worth, fit_odds
from palmette.extraction.reading import listed, stated
from palmette.extraction.schema import Field, Schema
from palmette.extraction.thresholds import thresholds_of
from palmette.inference.calibration import CALIBRATION, Calibration
from palmette.inference.names import resolve_answerer

Rules = Callable[[str], Decision]  # of a field


@dataclass(frozen=True)
class Reading:
    """A contract that was read.

    Attributes:
        contract: the contract.
        seconds: of the processor that it took.
        starts: where the own part of each window begins. Empty without windows of the span decoder.
        scores: the scores of each window, by field.
        answers: the values, by field, where scores were not written.
        always: what an encoder would say if it had to give a value.
    """

    contract: cuad.Contract
    seconds: float
    starts: list[int]
    scores: dict[str, list[WindowScores]]
    answers: dict[str, str]
    always: dict[str, str]

    @classmethod
    def of(cls, line: Mapping[str, Any], known: Mapping[str, cuad.Contract]) -> Reading:
        """What a line holds."""
        scores = {
            field: [WindowScores({text: (start, odds) for text, start, odds in one[0]}, *one[1:]) for one in windows]
            for field, windows in line.get("scores", {}).items()
        }
        contract = known[line["contract"]]
        return cls(
            contract,
            line.get("processor", line["seconds"]),
            line.get("windows", []),
            scores,
            line.get("answers", {}),
            line.get("always", {}),
        )

    def posterior(self, field: str, window: int | None = None) -> SpanPosterior:
        """What all windows say about a field, or one of them alone."""
        windows = self.scores[field]
        return SpanPosterior.merge(windows if window is None else [windows[window]])

    def window_of(self, field: str) -> int | None:
        """The window that holds the first marked passage. None without a passage."""
        places = [self.contract.text.find(one) for one in self.contract.known[field]]
        first = min((place for place in places if place >= 0), default=None)
        if first is None:
            return None
        return max((index for index, start in enumerate(self.starts) if start <= first), default=0)


class Accepted(Case):
    """A field of a contract. A value is right if a person would accept it, a part of the marked passage for example."""

    def right(self, text: str) -> bool:
        """Whether a person would accept the value. "" is right where there is none."""
        known = [answer.text for answer in self.question.answers]
        return cuad.accepted(text, known) if text and known else not text and not known


def case(reading: Reading, field: Field) -> Case:
    """A field of a contract as a labelled field, as `palmette extract --labelled` checks it."""
    rows = (row for row in cuad.labels([reading.contract]) if row["field"] == field.name)
    known = tuple(Answer(str(row["value"]), row["start"]) for row in rows if "value" in row)
    return _asked(PassageCase if field.type == "yes/no" else Case, reading, field, known)


def accepted(reading: Reading, field: Field) -> Case:
    """The same, with what a person would accept."""
    known = tuple(Answer(one, 0) for one in reading.contract.known[field.name])
    return _asked(Accepted, reading, field, known)


def _asked(kind: type[Case], reading: Reading, field: Field, known: tuple[Answer, ...]) -> Case:
    question = Question(field.name, field.question, known)
    document = Document(reading.contract.name, reading.contract.text, (question,))
    return kind(document, question, reading.posterior(field.name))


def value(decision: Decision, field: Field, posterior: SpanPosterior) -> str:
    """The value that a rule gives, or the most probable one of a list. "" for none."""
    said = stated(decision, posterior)
    if field.many:
        values = listed(said, field.least_probability).values
        return max(values, key=lambda one: one.probability).text if values else ""
    return said.text


def fitted(readings: Sequence[Reading], schema: Schema, own: Decision) -> dict[str, Rules]:
    """Rules that were fitted on other contracts, at the cost of `palmette calibrate`."""
    by_field = {field.name: [case(one, field) for one in readings] for field in schema.fields}
    everything = [one for cases in by_field.values() for one in cases]
    odds = replace(fit_odds(everything), cost_wrong=COST_WRONG)
    together = replace(odds, min_worth=fit_min_worth(everything, odds))
    found: dict[str, Rules] = {"one threshold": lambda _: together}
    loose = {field.name: [accepted(one, field) for one in readings] for field in schema.fields}
    for name, cases in (("a threshold for each field", by_field), ("the same, parts are right", loose)):
        fit = thresholds_of(schema, cases, COST_WRONG)
        print("\n".join((f"\n{name}:", *fit.explain())))
        rules = fit.rules(schema, own)
        found[name] = lambda field, rules=rules: rules[field].decision  # type: ignore[misc]
    return found


def own_rule(model: str) -> Decision:
    """The calibration that a run comes with, or the most probable outcome."""
    trained = resolve_answerer(model).trained
    if trained is None or not (trained / CALIBRATION).is_file():
        return Decision()
    return Calibration.read(Path(trained)).decision


def figures(pairs: Sequence[tuple[str, list[str]]]) -> dict[str, Any]:
    """The figures of one field, or of all: of (value, marked passages)."""
    present = [pair for pair in pairs if pair[1]]
    absent = [found for found, known in pairs if not known]
    given = [pair for pair in present if pair[0]]
    share = f"{100 * mean(not found for found in absent):.0f} %" if absent else ""
    return {
        "present": len(present),
        "given": len(given),
        "exact": sum(int(cuad.exact(*pair)) for pair in present),
        "inside": sum(cuad.accepted(*pair) for pair in present),
        "F1": f"{100 * mean(cuad.f1(*pair) for pair in present):.1f}" if present else "",
        "absent": len(absent),
        "left empty": share,
    }


def print_table(title: str, rows: Mapping[str, Mapping[str, Any]]) -> None:
    """A table with a row for each name."""
    columns = list(next(iter(rows.values())))
    print(f"\n| {title} | " + " | ".join(columns) + " |\n|---|" + "---:|" * len(columns))
    for name, row in rows.items():
        print(f"| {name} | " + " | ".join(str(one) for one in row.values()) + " |")


def print_tables(
    lines: Sequence[Mapping[str, Any]],
    others: Sequence[Mapping[str, Any]],
    known: Mapping[str, cuad.Contract],
    schema: Schema,
    model: str,
) -> None:
    """Print a table of fields for each rule, and one of the rules."""
    readings = [Reading.of(line, known) for line in lines]
    characters = sum(len(one.contract.text) for one in readings)
    seconds = sum(one.seconds for one in readings)
    print(f"{len(readings)} contracts, {characters:,} characters, {seconds / len(readings):.1f} s a contract, ", end="")
    print(f"{characters / seconds:,.0f} characters a second, of the processor")
    if not any(one.scores for one in readings):
        _print_fields("as it says", schema, lambda one, field: one.answers.get(field.name, ""), readings)
        if any(one.always for one in readings):
            _print_fields("always a value", schema, lambda one, field: one.always.get(field.name, ""), readings)
        return
    own = own_rule(model)
    rules: dict[str, Rules] = {"as it comes": lambda _: own}
    if others:
        rules |= fitted([Reading.of(line, known) for line in others], schema, own)
    rules["always a value"] = lambda _: Decision(always_answer=True)
    totals = {}
    for name, rule in rules.items():
        totals[name] = _print_fields(
            name,
            schema,
            lambda one, field, rule=rule: value(rule(field.name), field, one.posterior(field.name)),
            readings,
        )
    print_table("rule, all fields", totals)
    _print_windows(schema, readings)


def _print_fields(
    name: str, schema: Schema, find: Callable[[Reading, Field], str], readings: Sequence[Reading]
) -> dict[str, Any]:
    """Print the figures of each field. The result is those of all."""
    pairs = {
        field.name: [(find(one, field), one.contract.known[field.name]) for one in readings] for field in schema.fields
    }
    rows = {field: figures(found) for field, found in pairs.items()}
    rows["all"] = figures([pair for found in pairs.values() for pair in found])
    print_table(name, rows)
    return rows["all"]


def _print_windows(schema: Schema, readings: Sequence[Reading]) -> None:
    """What it costs that the value has to be found among windows: always a value, of all or of the right one."""
    forced = Decision(always_answer=True)
    found: dict[str, list[tuple[str, list[str]]]] = {"of all windows": [], "of the window that holds it": []}
    for one in readings:
        for field in schema.fields:
            window = one.window_of(field.name)
            if window is not None:
                known = one.contract.known[field.name]
                found["of all windows"].append((value(forced, field, one.posterior(field.name)), known))
                alone = value(forced, field, one.posterior(field.name, window))
                found["of the window that holds it"].append((alone, known))
    rows = {name: figures(pairs) for name, pairs in found.items()}
    print_table(
        "the most probable value", {name: {key: row[key] for key in list(row)[:5]} for name, row in rows.items()}
    )
