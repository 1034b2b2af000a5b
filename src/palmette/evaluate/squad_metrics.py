"""The metrics of SQuAD v2 (Rajpurkar et al., 2018), with the semantics of the official evaluation script, version 2.0.

Further metrics measure the format, verbatim answers, abstention, and how far the probabilities can be trusted. Shares
are in percent. auroc_answerable, ece, brier and aurc are on the scale 0 to 1. Letters: N questions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from palmette.data.records import Document, Question
from palmette.decode.prediction import Prediction
from palmette.errors import DataError
from palmette.evaluate.confidence import Values, area_under_risk_coverage, auroc, expected_calibration_error
from palmette.tasks.answer_match import exact_match, gold_answers, strict_match, token_f1


@dataclass(frozen=True, slots=True)
class ScoredAnswer:
    """A prediction and its scores.

    Attributes:
        question: the question.
        document: its document.
        prediction: the answer. A broken completion counts as the text that was read out of it.
        exact, f1: the official scores, 0 to 1.
        strict_exact: 1.0 if the answer is a gold answer letter for letter, else 0.0.
    """

    question: Question
    document: Document
    prediction: Prediction
    exact: float
    f1: float
    strict_exact: float

    @property
    def answered(self) -> bool:
        """Whether any text was given."""
        return self.prediction.text != ""

    @property
    def verbatim(self) -> bool:
        """Whether the answer stands in the document, letter for letter."""
        return self.prediction.text in self.document.text


def score_answers(documents: Iterable[Document], predictions: Mapping[str, Prediction]) -> list[ScoredAnswer]:
    """Score the prediction for every question, in the order of the data.

    Raises:
        KeyError: a question has no prediction.
    """
    scored = []
    for document in documents:
        for question in document.questions:
            prediction, gold = predictions[question.id], gold_answers(question)
            exact, f1 = exact_match(prediction.text, gold), token_f1(prediction.text, gold)
            strict = strict_match(prediction.text, question)
            scored.append(ScoredAnswer(question, document, prediction, exact, f1, strict))
    return scored


def summarize(scored: Sequence[ScoredAnswer]) -> dict[str, float | int | None]:
    """All measures of a data set: the official ones under their official names, then ours.

    As in the official script, HasAns_* and NoAns_* are left out if there is no such question, and best_* if a
    prediction has no no_answer_probability. Our own measures are None instead. `question_values`, `best_thresholds` and
    `whole_measures` define each of them. The official script gives the same numbers for the same files at its default
    threshold, 1.0.

    Raises:
        DataError: there is no question.
    """
    if not scored:
        raise DataError("there is no question to score", "Give a data set with questions.")
    result: dict[str, float | int | None] = {}
    for name, value_N in question_values(scored).items():
        counted_N = value_N[~np.isnan(value_N)]
        result[name] = float(np.mean(counted_N)) if counted_N.size else None
        if name.endswith("f1"):
            result[f"{name.removesuffix('f1')}total"] = int(counted_N.size)
    return {**result, **best_thresholds(scored), **whole_measures(scored)}


def question_values(scored: Sequence[ScoredAnswer]) -> dict[str, Values]:
    """The measures that are means over questions, as one (N,) array each. NaN where a question does not count.

    - exact, f1, HasAns_*, NoAns_*: the official scores, of all, answerable and unanswerable questions, in percent.
    - strict_exact: the answer is a gold answer letter for letter, in percent.
    - valid_json: the completion had its format, in percent, where that is known.
    - exact_of_valid_json: exact among the completions in their format.
    - verbatim: of answers given in a valid completion, those that stand in the document letter for letter, in percent.
    - correct_no_answer: of unanswerable questions, those that were refused, in percent.
    - correct_has_answer: strict_exact of answerable questions, in percent.
    - answered: questions with an answer, in percent.
    - certified: decisions that are proved, in percent of those whose passes were counted.
    - brier: (probability - exact)^2, 0 to 1. NaN for all questions if a prediction has no probability.
    - mean_passes: forward passes, where they were counted.
    """
    exact_N, f1_N = 100 * _column(scored, lambda a: a.exact), 100 * _column(scored, lambda a: a.f1)
    strict_N, answered_N = 100 * _column(scored, lambda a: a.strict_exact), 100 * _column(scored, lambda a: a.answered)
    valid_N = 100 * _column(scored, lambda a: math.nan if a.prediction.valid_json is None else a.prediction.valid_json)
    passes_N = _column(scored, lambda a: a.prediction.num_passes)
    answerable_N = _flags(scored, lambda a: a.question.answerable)
    values = {"exact": exact_N, "f1": f1_N}
    for prefix, part_N in (("HasAns_", answerable_N), ("NoAns_", ~answerable_N)):
        if part_N.any():
            values |= {f"{prefix}exact": _only(part_N, exact_N), f"{prefix}f1": _only(part_N, f1_N)}
    return values | {
        "strict_exact": strict_N,
        "valid_json": valid_N,
        "exact_of_valid_json": _only(valid_N > 0, exact_N),
        "verbatim": _only((answered_N > 0) & (valid_N != 0), 100 * _column(scored, lambda a: a.verbatim)),
        "correct_no_answer": _only(~answerable_N, 100 - answered_N),
        "correct_has_answer": _only(answerable_N, strict_N),
        "answered": answered_N,
        "certified": _only(passes_N > 0, 100 * _column(scored, lambda a: a.prediction.certified)),
        "brier": (_probabilities(scored, lambda a: a.prediction.probability) - exact_N / 100) ** 2,
        "mean_passes": _only(passes_N > 0, passes_N),
    }


def best_thresholds(scored: Sequence[ScoredAnswer]) -> dict[str, float]:
    """best_exact and best_f1, in percent, and their no-answer thresholds, computed as in the official script.

    It starts with every question refused and threshold 0, and accepts answers by rising no_answer_probability, equal
    ones in the order of the data. An answerable question adds its score. An unanswerable one subtracts 1 if any text
    was given for it. The first of the best totals wins, even if it lies among equal probabilities.

    Returns:
        {} where a prediction has no no_answer_probability.
    """
    no_answer_N = _probabilities(scored, lambda a: a.prediction.no_answer_probability)
    if np.isnan(no_answer_N).any():
        return {}
    answerable_N, answered_N = _flags(scored, lambda a: a.question.answerable), _flags(scored, lambda a: a.answered)
    order = np.argsort(no_answer_N, kind="stable")
    best_of = {}
    for name, score_N in (("exact", _column(scored, lambda a: a.exact)), ("f1", _column(scored, lambda a: a.f1))):
        gain_N = np.where(answerable_N, score_N, -1.0 * answered_N)[order]
        total = np.cumsum([np.sum(~answerable_N), *gain_N])
        best = int(np.argmax(total))
        best_of[f"best_{name}"] = float(100 * total[best] / len(scored))
        best_of[f"best_{name}_thresh"] = float(no_answer_N[order[best - 1]]) if best else 0.0
    return best_of


def whole_measures(scored: Sequence[ScoredAnswer]) -> dict[str, float | None]:
    """The measures of the whole data set that are not means over questions. None where a prediction has no probability.

    - auroc_answerable: the probability that an unanswerable question has a higher no_answer_probability than an
      answerable one, 0 to 1. Ties count half. None if all questions are of one kind.
    - ece: the expected calibration error of probability against exact, 10 bins, 0 to 1.
    - aurc: the area under the risk-coverage curve, answers kept by falling probability, risk 1 - exact, 0 to 1.
    - median_passes: forward passes, where they were counted.
    """
    no_answer_N = _probabilities(scored, lambda a: a.prediction.no_answer_probability)
    probability_N = _probabilities(scored, lambda a: a.prediction.probability)
    exact_N, passes_N = _column(scored, lambda a: a.exact), _column(scored, lambda a: a.prediction.num_passes)
    unanswerable_N = ~_flags(scored, lambda a: a.question.answerable)
    known = not np.isnan(probability_N).any()
    return {
        "auroc_answerable": None if np.isnan(no_answer_N).any() else auroc(no_answer_N, unanswerable_N),
        "ece": expected_calibration_error(probability_N, exact_N) if known else None,
        "aurc": area_under_risk_coverage(probability_N, exact_N) if known else None,
        "median_passes": float(np.median(passes_N[passes_N > 0])) if passes_N.any() else None,
    }


def _column(scored: Sequence[ScoredAnswer], value: Callable[[ScoredAnswer], float]) -> Values:
    return np.fromiter((value(answer) for answer in scored), dtype=np.float64, count=len(scored))


def _flags(scored: Sequence[ScoredAnswer], value: Callable[[ScoredAnswer], bool]) -> npt.NDArray[np.bool_]:
    return np.fromiter((value(answer) for answer in scored), dtype=np.bool_, count=len(scored))


def _probabilities(scored: Sequence[ScoredAnswer], value: Callable[[ScoredAnswer], float | None]) -> Values:
    """All of them, or NaN for all if a prediction has none."""
    values = [value(answer) for answer in scored]
    return np.array([np.nan] * len(values) if None in values else values, dtype=np.float64)


def _only(counted_N: npt.NDArray[np.bool_], value_N: Values) -> Values:
    return np.where(counted_N, value_N, np.nan)
