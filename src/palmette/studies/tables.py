"""Tables of figures for pages and terminals, with means, spreads over seeds, and intervals."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from palmette.evaluate.bootstrap import Difference
from palmette.numbers import NONE, fixed, interval, places_of, readable, with_interval
from palmette.studies.sweep.recipe import format_value, short_keys

# Columns in percent, then the loss in nats per learned token, a ratio, the KL divergence in nats per token, seconds.
ANSWERS = {
    "valid_json": "valid JSON",
    "exact": "EM",
    "exact_of_valid_json": "EM of valid JSON",
    "correct_no_answer": "refused, unanswerable",
    "correct_has_answer": "letter for letter, answerable",
    "f1": "F1",
}
COSTS = {
    "final_loss": "final loss",
    "perplexity_ratio": "perplexity, retention",
    "kl": "KL, retention",
    "training_seconds": "training s",
    "answering_seconds": "answering s",
}
# Figures of sampled completions in percent, and the KL divergence from the reference model in nats.
SAMPLED = {
    "sampled_exact": "EM sampled",
    "sampled_f1": "F1 sampled",
    "sampled_valid_json": "valid JSON sampled",
    "sampled_abstained": "abstained sampled",
    "completion_kl": "KL a completion",
    "entropy": "entropy a token",
}
# What the words of a page of results mean.
MEANINGS = {
    "figures of answers": "percent. With several seeds, the mean ± the sample standard deviation",
    "in brackets": "95 % intervals by bootstrap over documents, all seeds together",
    ANSWERS["correct_no_answer"]: "of the questions without an answer, those that were refused",
    ANSWERS["correct_has_answer"]: "of the others, those answered letter for letter with an accepted answer",
    "final loss": "nats per learned token, as a mean over the last tenth of the steps",
    "perplexity, retention": "of general text, as a multiple of the untouched model's (`palmette eval retention`)",
    "KL, retention": "on chat prompts, from the untouched model, in nats per token",
}
GROUPS = (ANSWERS, SAMPLED, COSTS)
MEASURES = {name: label for group in GROUPS for name, label in group.items()}
SEEDS = "seeds"  # heading of the last column that names a row
_WITH_INTERVAL, _SECONDS = ("exact", "f1"), ("training_seconds", "answering_seconds")
Table = tuple[list[str], list[list[str]]]  # headings, lines
_DIGITS = {"final_loss": 3, "perplexity_ratio": 3, "kl": 3, "completion_kl": 3, "entropy": 3}


@dataclass(frozen=True)
class Spread:
    """Mean and sample standard deviation of `count` values. A single value has no deviation."""

    mean: float
    deviation: float | None
    count: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """The spread of one value or more.

        >>> Spread.of([1.0, 3.0])
        Spread(mean=2.0, deviation=1.4142135623730951, count=2)
        """
        return cls(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None, len(values))

    def format(self, digits: int) -> str:
        """The mean, and the deviation if there is one. Two digits of the deviation are shown, but no more decimals than
        `digits`.

        >>> Spread(2.0, 1.414, 2).format(1), Spread(61.2, 14.14, 2).format(1), Spread(2.0, None, 1).format(0)
        ('2.0 ± 1.4', '61 ± 14', '2')
        """
        if self.deviation is None:
            return fixed(self.mean, digits)
        places = places_of((self.mean - self.deviation, self.mean + self.deviation), digits)
        return f"{fixed(self.mean, places)} ± {fixed(self.deviation, places)}"


@dataclass(frozen=True)
class CellFigures:
    """The figures of one cell under one decoder, over its seeds.

    Attributes:
        name: the cell's name.
        varied: its settings.
        learning_rate: its learning rate.
        decoder: the decoder.
        seeds: the seeds that were measured. None if the decoder refused the model.
        spreads: mean and spread of each measure over the seeds.
        intervals: 95 % intervals of the means over questions, from `pooled_intervals`.
        difference: EM minus that of the reference, over the seeds that both have. None if there is nothing to compare.
    """

    name: str
    varied: Mapping[str, Any]
    learning_rate: float
    decoder: str
    seeds: tuple[int, ...]
    spreads: Mapping[str, Spread]
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    difference: Difference | None = None


def tables_of(
    rows: Sequence[CellFigures], keys: Sequence[str] | None, reference: str | None, *, intervals: bool = True
) -> list[Table]:
    """Tables of answers, of sampled completions if there are any, and of costs.

    Each line begins with the settings that vary, the decoder, and the number of seeds.

    Args:
        rows: the rows.
        keys: the settings that vary. None if the cells have names.
        reference: the cell that the others are compared with.
        intervals: whether intervals are shown. Without them, and with settings under their last name, a line fits a
            terminal.
    """
    named = ["cell"] if keys is None else list(keys) if intervals else short_keys(keys)
    first = [*named, "decoder", SEEDS]
    begin = [
        [
            *([row.name] if keys is None else [format_value(row.varied[key]) for key in keys]),
            row.decoder,
            str(len(row.seeds)),
        ]
        for row in rows
    ]
    tables = []
    for measures in GROUPS:
        used = {measure: label for measure, label in measures.items() if any(measure in row.spreads for row in rows)}
        if not used and measures is SAMPLED:
            continue
        headings = [*first, *used.values()]
        lines = [
            [*start, *(_figure(row, key, intervals) for key in used)] for start, row in zip(begin, rows, strict=True)
        ]
        if measures is ANSWERS and reference is not None:
            headings.append(f"EM - {reference}")
            lines = [[*line, _difference(row, intervals)] for line, row in zip(lines, rows, strict=True)]
        tables.append((headings, lines))
    return tables


def _figure(row: CellFigures, measure: str, ends_too: bool) -> str:
    shown = format_measure(measure, row.spreads.get(measure))
    if not ends_too or measure not in _WITH_INTERVAL or measure not in row.intervals:
        return shown
    ends = row.intervals[measure]
    if (spread := row.spreads.get(measure)) and spread.deviation is None:
        return with_interval(spread.mean, ends)
    between = interval(ends, places_of(ends))
    return f"{shown} ({between})" if between else shown


def _difference(row: CellFigures, ends_too: bool) -> str:
    """A row's EM minus that of the reference."""
    found = row.difference
    if found is None:
        return "-"
    ends = (found.low, found.high)
    places = places_of(ends)
    between = interval(ends, places, sign=True) if ends_too else ""
    return fixed(found.value, places, sign=True) + (f" ({between})" if between else "")


def format_measure(measure: str, spread: Spread | None) -> str:
    """A measure's mean, with its standard deviation if there is one. A dash means that it was not measured."""
    if spread is None:
        return NONE
    if measure in _SECONDS and spread.deviation is None:
        return readable(spread.mean)
    return spread.format(_DIGITS.get(measure, 1))


def definitions(meanings: Mapping[str, object]) -> list[str]:
    """Words and what they mean as a list in Markdown.

    >>> definitions({"seeds": "0, 1"})
    ['- **seeds**: 0, 1']
    """
    return [f"- **{name}**: {meaning}" for name, meaning in meanings.items()]


def flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested settings by dotted name, as text.

    >>> flat({"kind": "sft", "train": {"epochs": 2}, "data": {"train": ["a", "b"]}})
    {'kind': 'sft', 'train.epochs': '2', 'data.train': 'a, b'}
    """
    found: dict[str, str] = {}
    for name, value in settings.items():
        key = f"{prefix}{name}"
        text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
        found |= flat(value, f"{key}.") if isinstance(value, Mapping) and value else {key: text}
    return found


def markdown(headings: Sequence[str], lines: Sequence[Sequence[str]]) -> list[str]:
    """A table as lines of Markdown."""
    rows = [headings, ["---" for _ in headings], *lines]
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
