"""Calibration: a temperature and thresholds fitted on questions with known answers, stored beside the adapter.

The temperature calibrates the probability of an answer. It is fitted as in Guo et al. (2017), on the log odds of any
answer against none. `max_no_answer` decides when to answer. `min_confidence` keeps a promise about the answers given
(see `guarantee`). A calibration records what it was fitted for, and on which documents, so that nobody reports figures
on them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
from scipy import optimize

from palmette.data.records import DataSet, Document, Question
from palmette.decode.posterior import Decision, SpanPosterior
from palmette.decode.span_decoder import Effort
from palmette.errors import DataError
from palmette.evaluate.guarantee import JudgedAnswer, check_promise, choose_threshold
from palmette.inference.answerer import Answerer
from palmette.inference.calibration import Calibration, text_hash
from palmette.progress import progress
from palmette.tasks.answer_match import exact_match, gold_answers

_LOWEST, _HIGHEST = 0.02, 50.0


@dataclass(frozen=True, slots=True)
class Case:
    """A question whose answer is known, and the posterior of its answers."""

    document: Document
    question: Question
    posterior: SpanPosterior

    def right(self, text: str) -> bool:
        """Whether a text matches the answer exactly, after normalisation. "" is right where there is no answer."""
        return exact_match(text, gold_answers(self.question)) == 1.0


def check_data(
    documents: Sequence[Document], source: str, *, target_error: float | None = None, confidence: float = 0.95
) -> None:
    """Refuse, before anything is decoded, data on which nothing can be fitted or promised.

    Raises:
        DataError: a number is out of range, there is no question with an answer or none without, or there is one
            document where two halves are needed.
    """
    if target_error is not None:
        check_promise(target_error, confidence)
    parts = halves(documents) if target_error is not None else (documents,)
    for part in parts:
        kinds = {question.answerable for document in part for question in document.questions}
        if kinds != {True, False}:
            missing = "with an answer" if True not in kinds else "without one"
            where = "a half of its documents" if len(parts) > 1 else "it"
            raise DataError(
                f"{source}: {where} has no question {missing}",
                "Calibrate on more documents, with both kinds of questions.",
            )


def fit(
    cases: Sequence[Case],
    data: DataSet,
    fitted_for: dict[str, Any],
    *,
    target_error: float | None = None,
    confidence: float = 0.95,
) -> Calibration:
    """Fit a temperature, and a threshold of the probability of no answer.

    With a target, the threshold is one of the answer's own probability. Then all is fitted on half of the documents,
    the promise is tested on the other half, and an answer is given where its span is likelier than "?" and probable
    enough.

    Args:
        cases: the questions, each with the best span proved (`Decision.forces_span` while decoding).
        data: where they are from.
        fitted_for: see `Calibration`.
        target_error: the largest share of wrong answers to promise. No promise if None.
        confidence: the confidence level of the promise.

    Raises:
        DataError: as for `check_data`, or the promise cannot be made.
    """
    documents = list({text_hash(case.document): case.document for case in cases}.values())
    fits, tests = list(cases), []
    if target_error is not None:
        first = {text_hash(document) for document in halves(documents)[0]}
        fits = [case for case in cases if text_hash(case.document) in first]
        tests = [case for case in cases if text_hash(case.document) not in first]
    decision = Decision(temperature=fit_temperature(fits))
    guarantee = None
    if target_error is None:
        decision = replace(decision, max_no_answer=fit_max_no_answer(fits, decision))
    else:
        chooses, testing = ([judged for case in half if (judged := judge(case, decision))] for half in (fits, tests))
        guarantee = choose_threshold(chooses, testing, target_error, confidence)
        decision = replace(decision, min_confidence=guarantee.min_confidence)
    hashes = tuple(sorted(map(text_hash, documents)))
    now = datetime.now(UTC).isoformat(timespec="seconds")
    windows = max(case.posterior.num_windows for case in cases)
    return Calibration(decision, guarantee, data.source, data.sha256, hashes, len(cases), fitted_for, now, windows)


def halves(documents: Sequence[Document]) -> tuple[list[Document], list[Document]]:
    """The documents in two halves, in the order of the hashes of their texts. Equal texts stay together."""
    order = {key: rank for rank, key in enumerate(sorted({text_hash(document) for document in documents}))}
    first = [document for document in documents if order[text_hash(document)] % 2 == 0]
    return first, [document for document in documents if order[text_hash(document)] % 2]


def judge(case: Case, decision: Decision) -> JudgedAnswer | None:
    """The answer that a decision gives before any minimum of confidence, or None if it gives none."""
    prediction = decision.decide(case.posterior)
    if not prediction.text:
        return None
    wrong = not case.right(prediction.text)
    return JudgedAnswer(float(prediction.probability or 0.0), wrong, text_hash(case.document))


def negative_log_likelihood(cases: Sequence[Case], temperature: float) -> float:
    """Mean of -log P(the question has an answer, or has none, as it does), in nats.

    Spans that were not scored count as answers, as in `Decision`.
    """
    decision = Decision(temperature)
    total = 0.0
    for case in cases:
        no_answer = decision.no_answer(case.posterior.evidence.answered)
        # A kind that was proved impossible would make the sum infinite, whatever the temperature.
        total -= math.log(max((1.0 - no_answer) if case.question.answerable else no_answer, 1e-12))
    return total / len(cases)


def fit_temperature(cases: Sequence[Case]) -> float:
    """The temperature under which the kinds of the questions, answerable or not, are most probable."""
    fitted = optimize.minimize_scalar(
        lambda log_t: negative_log_likelihood(cases, math.exp(log_t)),
        bounds=(math.log(_LOWEST), math.log(_HIGHEST)),
        method="bounded",
    )
    return float(math.exp(fitted.x))


def fit_max_no_answer(cases: Sequence[Case], decision: Decision) -> float:
    """The highest probability of no answer at which answering gives the most right decisions."""
    always = replace(decision, max_no_answer=1.0)
    predictions = [always.decide(case.posterior) for case in cases]
    doubts = np.array([prediction.no_answer_probability for prediction in predictions])
    gains = [
        float(case.right(prediction.text)) - float(case.right(""))
        for case, prediction in zip(cases, predictions, strict=True)
    ]
    order = np.argsort(doubts, kind="stable")
    # Below every doubt, so that never to answer can be best.
    edges = np.concatenate([[-1.0], doubts[order], [1.0]])
    totals = np.concatenate([[0.0], np.cumsum(np.array(gains)[order])])
    # A threshold lies in the middle between two different doubts.
    totals[1:-1][np.diff(doubts[order]) == 0.0] = -math.inf
    best = int(np.argmax(totals))
    return float((edges[best] + edges[best + 1]) / 2)


def calibrate(
    opened: Answerer, source: DataSet, effort: Effort, target_error: float | None = None, confidence: float = 0.95
) -> Calibration:
    """Answer a data set, and fit the calibration to it."""
    decoder = opened.span_decoder(effort, Decision(max_no_answer=1.0))
    posteriors = {}
    with progress(source.num_questions, "calibrating", "questions") as bar:
        for question, posterior in decoder.posteriors(source.documents):
            posteriors[question] = posterior
            bar.update()
    cases = [Case(d, q, posteriors[q.id]) for d in source.documents for q in d.questions]
    return fit(cases, source, opened.fitted_for(effort), target_error=target_error, confidence=confidence)
