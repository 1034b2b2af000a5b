"""report.html: one self-contained file that shows how a model answered a data set."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from palmette.data.records import Answer
from palmette.errors import DataError
from palmette.evaluate.confidence import reliability_bins, risk_coverage
from palmette.evaluate.squad_metrics import ScoredAnswer
from palmette.numbers import count, fixed, percent, places_of, readable
from palmette.numbers import interval as between
from palmette.pages import charts
from palmette.pages.evaluation.before import Before, changes, comparison_rows
from palmette.pages.page import render_page, script_json, write_page
from palmette.tasks.answer_match import normalize_answer

QUESTION_WORDS = ("what", "who", "when", "where", "which", "how", "why")
_ALSO = {"whom": "who", "whose": "who"}
_LENGTHS = ((1, "1 word"), (3, "2 to 3 words"), (6, "4 to 6 words"), (None, "7 words or more"))
_QUARTERS = ("first quarter", "second quarter", "third quarter", "last quarter")
_FILTERS = ("all", "wrong", "right", "unsure", "refused")
_CHANGES = ("better", "worse")  # than the answer of the model that the report compares with
_RISK_NOTE = (
    "The share of wrong decisions if only the surest ones are kept. Good: the curve falls to the left and stays far "
    "below the dashed line, which is the share for a random choice. Then a threshold on the probability avoids "
    "errors (palmette calibrate)."
)
_RELIABILITY_NOTE = (
    "Whether stated probabilities can be believed. Good: each bar ends at the dashed line. Below it the model is too "
    "sure of itself: run palmette calibrate. The grey bars show the number of questions."
)
_LOSS_NOTE = (
    "The loss of the training run, which should fall fast, then slowly. The pale line shows single steps. The dark "
    "line is their mean over a twentieth of the run."
)


@dataclass(frozen=True)
class Report:
    """The contents of a report.

    Attributes:
        title: the heading.
        facts: names and values in words: model, decoder, data and date.
        scored: every answer with its scores, in the order of the data.
        metrics: the metrics by name. Those that are absent or None are left out.
        intervals: 95 % intervals by the name of the metric, in its unit.
        loss: (optimizer step, nats per learned token) of the training run, if there was one.
        before: answers of another model to the same questions, if there are any to compare with.
    """

    title: str
    facts: Sequence[tuple[str, str]]
    scored: Sequence[ScoredAnswer]
    metrics: Mapping[str, float | int | None]
    intervals: Mapping[str, tuple[float, float]]
    loss: Sequence[tuple[int, float]] = ()
    before: Before | None = None


@dataclass(frozen=True, slots=True)
class Group:
    """One row of a breakdown. The scores are percentages, or None where it is empty."""

    name: str
    num: int
    exact: float | None
    f1: float | None


@dataclass(frozen=True, slots=True)
class Breakdown:
    """The scores of all questions, grouped in one way."""

    title: str
    note: str
    groups: tuple[Group, ...]


_RATE = "a second"


@dataclass(frozen=True, slots=True)
class _Figure:
    key: str
    name: str
    meaning: str
    unit: str = "%"
    digits: int = 1


_MAIN_FIGURES = (
    _Figure(
        "exact",
        "Exact match",
        "Answers equal to an accepted one, ignoring case, punctuation and articles. The main figure: higher is better.",
    ),
    _Figure(
        "f1", "F1", "Overlap of words with the best accepted answer. It gives credit for answers that are nearly right."
    ),
    _Figure(
        "HasAns_exact",
        "Exact match, answerable",
        "Exact match of the questions that the document answers. If it is low, the model refuses too often or copies "
        "the wrong words.",
    ),
    _Figure(
        "NoAns_exact",
        "Exact match, unanswerable",
        "Refusals among the questions that the document does not answer. If it is low, the model answers too often.",
    ),
)
_FURTHER_FIGURES = (
    _Figure("HasAns_f1", "F1, answerable", "F1 of the questions that the document answers"),
    _Figure("strict_exact", "Letter for letter", "answers equal to an accepted one in every character"),
    _Figure(
        "correct_has_answer", "Letter for letter, answerable", "the same, of the questions that the document answers"
    ),
    _Figure("answered", "Answered", "questions that got an answer and not a refusal"),
    _Figure("verbatim", "Verbatim", "answers that are in the document, character by character"),
    _Figure("valid_json", "Valid JSON", "completions in the required format"),
    _Figure("certified", "Certified", "decisions proved equal to those of scoring every allowed span"),
    _Figure(
        "auroc_answerable",
        "AUROC, answerable",
        "how well the probability tells answerable questions from others: 0.5 is chance, 1 is perfect",
        "",
        3,
    ),
    _Figure(
        "ece",
        "Calibration error (ECE)",
        "mean distance between the stated probability and the share that is right: 0 is best",
        "",
        3,
    ),
    _Figure("brier", "Brier score", "mean squared error of the stated probability: 0 is best", "", 3),
    _Figure("aurc", "Risk over coverage (AURC)", "area under the first curve below: 0 is best", "", 3),
    _Figure("median_passes", "Forward passes", "passes through the model until a decision, at the median", "", 0),
    _Figure("questions_per_second", "Speed", "questions answered", _RATE),
    _Figure("total", "Questions", "all questions of the data", "", 0),
)


def write_report(path: Path, report: Report) -> None:
    """Write the report as one self-contained HTML file, whole or not at all.

    Raises:
        DataError: there are no answers.
        RunError: the file cannot be written.
    """
    if not report.scored:
        raise DataError("there is no question to report on", "Give a data set with questions.")
    write_page(path, render_report(report))


def render_report(report: Report) -> str:
    """The report as HTML."""
    unsure, below = find_unsure(report.scored)
    data = example_data(report.scored, unsure, report.before)
    labels = [tuple(example["in"]) for example in data["examples"]]
    filters = _FILTERS if report.before is None else (*_FILTERS, *_CHANGES)
    return render_page(
        "report.html",
        styles=("page.css", "report.css"),
        scripts=("report.js",),
        title=report.title,
        facts=report.facts,
        report=report,
        main_figures=_shown_figures(_MAIN_FIGURES, report),
        further_figures=_shown_figures(_FURTHER_FIGURES, report),
        charts=_charts(report),
        compared=list(comparison_rows(report.before, report.scored)) if report.before else [],
        percent=percent,
        count=count,
        breakdowns=[
            by_question_word(report.scored),
            by_answer_length(report.scored),
            by_answer_position(report.scored),
        ],
        share_bar=charts.share_bar,
        filters=[(name, len(labels) if name == "all" else sum(name in label for label in labels)) for name in filters],
        unsure_below=below,
        num_documents=len(data["documents"]),
        num_certified=sum(answer.prediction.certified for answer in report.scored),
        has_probability=any(answer.prediction.probability is not None for answer in report.scored),
        data=script_json(data),
    )


def find_unsure(scored: Sequence[ScoredAnswer]) -> tuple[frozenset[int], float | None]:
    """The answers that count as unsure, and the highest probability among those that count for a low probability.

    An answer is unsure if it is a refusal of that kind (see `Prediction.refusal`), or if its probability is in the
    lowest quarter (rounded down). Of equal probabilities the earlier one counts.
    """
    stated = [(answer.prediction.probability, at) for at, answer in enumerate(scored)]
    ranked = sorted((probability, at) for probability, at in stated if probability is not None)
    lowest = ranked[: len(ranked) // 4]
    refused = {at for at, answer in enumerate(scored) if answer.prediction.refusal == "unsure"}
    return frozenset(refused | {at for _, at in lowest}), lowest[-1][0] if lowest else None


def example_data(scored: Sequence[ScoredAnswer], unsure: Iterable[int], before: Before | None = None) -> dict[str, Any]:
    """The data of the page's script: every document once, and the examples with positions in them, in code points."""
    places: dict[tuple[str, str], int] = {}
    documents: list[dict[str, str]] = []
    examples, unsure = [], frozenset(unsure)
    for at, answer in enumerate(scored):
        key = (answer.document.id, answer.document.text)
        if key not in places:
            places[key] = len(documents)
            documents.append({"title": answer.document.title, "text": answer.document.text})
        examples.append(_example(answer, places[key], at in unsure))
    if before is None:
        return {"documents": documents, "examples": examples}
    for example, (text, label) in zip(examples, changes(before, scored), strict=True):
        example["before"] = text
        example["in"] += [label] if label else []
    return {"documents": documents, "examples": examples, "before": before.name}


def _example(answer: ScoredAnswer, document: int, unsure: bool) -> dict[str, Any]:
    prediction, right = answer.prediction, answer.exact == 1.0
    labels = {"wrong": not right, "right": right, "unsure": unsure, "refused": not prediction.text}
    gold = nearest_answer(answer)
    found = prediction.text and prediction.start is not None and prediction.end is not None
    given = (prediction.start, prediction.end) if found else None
    others = [
        c
        for c in prediction.candidates
        if not prediction.text or (c.text, c.start) != (prediction.text, prediction.start)
    ]
    return {
        "document": document,
        "question": answer.question.text,
        "in": [name for name, holds in labels.items() if holds],
        "answer": prediction.text,
        "refusal": prediction.refusal,
        "place": given,
        "probability": _rounded(prediction.probability),
        "noAnswer": _rounded(prediction.no_answer_probability),
        "references": list(dict.fromkeys(accepted.text for accepted in answer.question.answers)),
        "referencePlace": (gold.start, gold.start + len(gold.text)) if gold else None,
        "f1": _rounded(answer.f1),
        "certified": prediction.certified,
        "validJson": prediction.valid_json,
        "others": [(c.start, c.end, _rounded(c.probability)) for c in others],
    }


def nearest_answer(answer: ScoredAnswer) -> Answer | None:
    """The accepted answer to mark: the one at the model's position, else one with the same words, else the first."""
    accepted, prediction = answer.question.answers, answer.prediction
    exactly = [a for a in accepted if (a.text, a.start) == (prediction.text, prediction.start)]
    alike = [a for a in accepted if normalize_answer(a.text) == normalize_answer(prediction.text)]
    return next(iter((*exactly, *alike, *accepted)), None)


def by_question_word(scored: Sequence[ScoredAnswer]) -> Breakdown:
    """The scores by the first question word of the question."""
    note = "The first question word. Whom and whose count as who."
    names = [_question_word(answer.question.text) for answer in scored]
    return Breakdown("By question word", note, _groups(scored, names, (*QUESTION_WORDS, "other")))


def by_answer_length(scored: Sequence[ScoredAnswer]) -> Breakdown:
    """The scores by the number of words of the first accepted answer."""
    note = "Words of the first accepted answer."
    names = [_length_name(answer) for answer in scored]
    return Breakdown(
        "By length of the answer", note, _groups(scored, names, (*(n for _, n in _LENGTHS), "unanswerable"))
    )


def by_answer_position(scored: Sequence[ScoredAnswer]) -> Breakdown:
    """The scores by the quarter of the document in which the first accepted answer begins."""
    note = "Where the first accepted answer begins in its document."
    names = [_quarter_name(answer) for answer in scored]
    return Breakdown("By place of the answer", note, _groups(scored, names, (*_QUARTERS, "unanswerable")))


def _question_word(question: str) -> str:
    words = (_ALSO.get(word, word) for word in re.findall(r"[a-z]+", question.lower()))
    return next((word for word in words if word in QUESTION_WORDS), "other")


def _length_name(answer: ScoredAnswer) -> str:
    if not answer.question.answers:
        return "unanswerable"
    num_words = len(answer.question.answers[0].text.split())
    return next(name for most, name in _LENGTHS if most is None or num_words <= most)


def _quarter_name(answer: ScoredAnswer) -> str:
    if not answer.question.answers:
        return "unanswerable"
    return _QUARTERS[4 * answer.question.answers[0].start // len(answer.document.text)]


def _groups(scored: Sequence[ScoredAnswer], names: Sequence[str], order: Iterable[str]) -> tuple[Group, ...]:
    members: dict[str, list[ScoredAnswer]] = {name: [] for name in order}
    for answer, name in zip(scored, names, strict=True):
        members[name].append(answer)
    return tuple(
        Group(name, len(part), _percent([a.exact for a in part]), _percent([a.f1 for a in part]))
        for name, part in members.items()
    )


def _percent(values: Sequence[float]) -> float | None:
    return 100.0 * sum(values) / len(values) if values else None


def _shown_figures(figures: Iterable[_Figure], report: Report) -> list[dict[str, Any]]:
    shown = []
    for figure in figures:
        value, interval = report.metrics.get(figure.key), report.intervals.get(figure.key)
        if value is None:
            continue
        places = places_of(interval, figure.digits)
        shown.append(
            {
                "name": figure.name,
                "meaning": figure.meaning,
                "unit": figure.unit,
                "value": fixed(value, places) if figure.unit != _RATE else readable(value, 2),
                "range": between(interval, places),
                "bar": charts.interval_bar(float(value), interval) if figure.unit == "%" else "",
            }
        )
    return shown


def _charts(report: Report) -> list[dict[str, Any]]:
    """The charts for which there are data, each with an explanation."""
    stated = [answer.prediction.probability for answer in report.scored]
    probability = [value for value in stated if value is not None]
    shown = []
    if len(probability) == len(report.scored):
        exact = [answer.exact for answer in report.scored]
        coverage, risk = risk_coverage(probability, exact)
        curve = list(zip(coverage.tolist(), risk.tolist(), strict=True))
        shown += [
            ("How wrong are the surest decisions?", charts.risk_coverage_chart(curve), _RISK_NOTE),
            (
                "Is the stated probability true?",
                charts.reliability_chart(reliability_bins(probability, exact)),
                _RELIABILITY_NOTE,
            ),
        ]
    if report.loss:
        shown.append(("Training", charts.loss_chart(report.loss), _LOSS_NOTE))
    return [{"title": title, "drawing": drawing, "note": note} for title, drawing, note in shown]


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 5)
