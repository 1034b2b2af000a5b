"""Calibration: a temperature and thresholds fitted on questions with known answers, kept beside the adapter.

The temperature makes probabilities honest (Guo et al., 2017); `max_no_answer` decides when to answer; `min_confidence` keeps a
promise about the answers given (see `guarantee`). A calibration remembers the documents it was fitted on, so that nobody reports
figures on them, and the weights it was fitted for.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from scipy import optimize

from palmette.data.records import DataSet, Document, Question
from palmette.decode.posterior import Decision, SpanPosterior, log_sum_exp
from palmette.errors import DataError, RunError
from palmette.evaluate.guarantee import Guarantee, Judged, choose_threshold
from palmette.evaluate.squad_metrics import exact_match, gold_answers
from palmette.run import write_json

CALIBRATION = "calibration.json"
_LOWEST, _HIGHEST = 0.2, 10.0


@dataclass(frozen=True, slots=True)
class Case:
    """A question whose answer is known, and the posterior of its answers."""

    document: Document
    question: Question
    posterior: SpanPosterior

    def right(self, text: str) -> bool:
        """Whether a text matches the answer exactly, after normalisation; "" is right where there is none."""
        return exact_match(text, gold_answers(self.question)) == 1.0


@dataclass(frozen=True, slots=True)
class Calibration:
    """Fitted numbers, and what they were fitted on.

    Attributes:
        decision: the temperature and thresholds.
        guarantee: the promise that `decision.min_confidence` keeps, if one was asked for.
        source, sha256: the data.
        documents: hashes of the documents' texts.
        num_questions: questions they were fitted and tested on.
        weights: hash of the adapter's or model's weights.
        created: when, in UTC.
    """

    decision: Decision
    guarantee: Guarantee | None
    source: str
    sha256: str
    documents: tuple[str, ...]
    num_questions: int
    weights: str | None
    created: str

    def write(self, folder: Path) -> None:
        """Write `calibration.json` beside the weights."""
        write_json(folder / CALIBRATION, asdict(self))

    @classmethod
    def read(cls, folder: Path, weights: str | None) -> Calibration:
        """Read the calibration beside some weights.

        Args:
            folder: where the weights are.
            weights: their hash.

        Raises:
            RunError: it cannot be read, or was fitted for other weights.
        """
        path = folder / CALIBRATION
        again = "Calibrate again with: palmette calibrate"
        try:
            value: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            guarantee = Guarantee(**value.pop("guarantee")) if value["guarantee"] else value.pop("guarantee")
            documents = tuple(value.pop("documents"))
            found = cls(decision=Decision(**value.pop("decision")), guarantee=guarantee, documents=documents, **value)
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise RunError(f"cannot read {path}: {error}", again) from error
        if found.weights != weights:
            raise RunError(f"{path} was fitted for other weights than those beside it", again)
        return found

    def check_unseen(self, documents: Sequence[Document], source: str) -> None:
        """Refuse to report figures on documents that the calibration was fitted on.

        Raises:
            DataError: naming one of them.
        """
        fitted = set(self.documents)
        seen = [document.id for document in documents if text_hash(document) in fitted]
        if seen:
            raise DataError(
                f"{source}: {len(seen)} of {len(documents)} documents, {seen[0]!r} among them, were used to calibrate this model",
                "Evaluate on other documents, or with --no-calibration.",
            )


def text_hash(document: Document) -> str:
    """Hash of a document's text."""
    return hashlib.sha256(document.text.encode("utf-8")).hexdigest()


def fit(
    cases: Sequence[Case],
    data: DataSet,
    *,
    weights: str | None,
    target_error: float | None = None,
    confidence: float = 0.95,
) -> Calibration:
    """Fit temperature and threshold; with a target, on half of the documents, and test the promise on the other half.

    Args:
        cases: the questions, each with the best span proved (`Decision.max_no_answer` = 1 while decoding).
        data: where they are from.
        weights: hash of the weights that answered.
        target_error: the largest share of wrong answers to promise; None for no promise.
        confidence: of the promise.

    Raises:
        DataError: no case with an answer, or none without; or the promise cannot be made.
    """
    fits, tests = halves(cases) if target_error is not None else (list(cases), [])
    kinds = {case.question.answerable for case in fits}
    if kinds != {True, False}:
        missing = "with" if True not in kinds else "without"
        raise DataError(
            f"{data.source} has no question {missing} an answer to calibrate on", "Calibrate on data that has both."
        )
    decision = Decision(temperature=fit_temperature(fits))
    decision = replace(decision, max_no_answer=fit_max_no_answer(fits, decision))
    guarantee = None
    if target_error is not None:
        judged = [[judge(case, decision) for case in half] for half in (fits, tests)]
        chooses, testing = ([one for one in half if one is not None] for half in judged)
        guarantee = choose_threshold(chooses, testing, target_error, confidence)
        decision = replace(decision, min_confidence=guarantee.min_confidence)
    hashes = tuple(sorted({text_hash(case.document) for case in cases}))
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return Calibration(decision, guarantee, data.source, data.sha256, hashes, len(cases), weights, now)


def halves(cases: Sequence[Case]) -> tuple[list[Case], list[Case]]:
    """The cases in two halves by document, in the order of the hashes of their texts."""
    order = {key: rank for rank, key in enumerate(sorted({text_hash(case.document) for case in cases}))}
    first: list[Case] = []
    second: list[Case] = []
    for case in cases:
        (second if order[text_hash(case.document)] % 2 else first).append(case)
    return first, second


def judge(case: Case, decision: Decision) -> Judged | None:
    """The answer that a decision gives before any minimum of confidence; None if it gives none."""
    prediction = decision.decide(case.posterior)
    if not prediction.text:
        return None
    return Judged(float(prediction.probability or 0.0), not case.right(prediction.text))


def negative_log_likelihood(cases: Sequence[Case], temperature: float) -> float:
    """Mean of -log P(right answer), in nats, with all log odds divided by the temperature.

    All right spans count together; where none was scored, what was not looked into counts for it.
    """
    total = 0.0
    for case in cases:
        spans = case.posterior.spans
        everything = log_sum_exp((0.0, case.posterior.unscored / temperature, *(v / temperature for _, _, v in spans)))
        right = 0.0
        if case.question.answerable:
            right = log_sum_exp(value / temperature for text, _, value in spans if case.right(text))
            if right == -math.inf:
                right = case.posterior.unscored / temperature
        # A right answer that was proved impossible would make the sum infinite, whatever the temperature.
        total += everything - max(right, everything - 50.0)
    return total / len(cases)


def fit_temperature(cases: Sequence[Case]) -> float:
    """The temperature under which the right answers are most probable."""
    found = optimize.minimize_scalar(
        lambda log_t: negative_log_likelihood(cases, math.exp(log_t)),
        bounds=(math.log(_LOWEST), math.log(_HIGHEST)),
        method="bounded",
    )
    return float(math.exp(found.x))


def fit_max_no_answer(cases: Sequence[Case], decision: Decision) -> float:
    """The probability of no answer up to which answering gives most right decisions."""
    always = replace(decision, max_no_answer=1.0)
    predictions = [always.decide(case.posterior) for case in cases]
    doubts = np.array([prediction.no_answer_probability for prediction in predictions])
    gains = [
        float(case.right(prediction.text)) - float(case.right(""))
        for case, prediction in zip(cases, predictions, strict=True)
    ]
    order = np.argsort(doubts, kind="stable")
    edges = np.concatenate([[0.0], doubts[order], [1.0]])
    totals = np.concatenate([[0.0], np.cumsum(np.array(gains)[order])])
    # Only between different doubts can a threshold stand; the middle between them is where.
    totals[1:-1][np.diff(doubts[order]) == 0.0] = -math.inf
    best = int(np.argmax(totals))
    return float((edges[best] + edges[best + 1]) / 2)
