"""Calibration: a temperature and thresholds fitted on questions with known answers, kept beside the adapter.

The temperature makes the probability of an answer honest (in the manner of Guo et al., 2017, on the log odds of any answer against none);
`max_no_answer` decides when to answer; `min_confidence` keeps a promise about the answers given (see `guarantee`). A calibration
remembers the documents it was fitted on, so that nobody reports figures on them, and what it was fitted for.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from scipy import optimize

from palmette.data.records import DataSet, Document, Question
from palmette.decode.posterior import Decision, SpanPosterior
from palmette.errors import DataError, RunError
from palmette.evaluate.guarantee import Guarantee, Judged, check_promise, choose_threshold
from palmette.run import write_json
from palmette.tasks.answer_match import exact_match, gold_answers

CALIBRATION = "calibration.json"
_AGAIN = "Calibrate again with palmette calibrate, or decide with --no-calibration."
_LOWEST, _HIGHEST = 0.02, 50.0


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
        fitted_for: what the answers depend on besides the documents (weights, prompt, dtype, longest span).
        created: when, in UTC.
    """

    decision: Decision
    guarantee: Guarantee | None
    source: str
    sha256: str
    documents: tuple[str, ...]
    num_questions: int
    fitted_for: dict[str, Any]
    created: str

    def write(self, folder: Path) -> None:
        """Write `calibration.json` beside the weights."""
        write_json(folder / CALIBRATION, asdict(self))

    @classmethod
    def read(cls, folder: Path) -> Calibration:
        """Read the calibration beside some weights.

        Raises:
            RunError: it cannot be read.
        """
        path = folder / CALIBRATION
        try:
            value: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            guarantee = Guarantee(**value.pop("guarantee")) if value["guarantee"] else value.pop("guarantee")
            documents = tuple(value.pop("documents"))
            found = cls(decision=Decision(**value.pop("decision")), guarantee=guarantee, documents=documents, **value)
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise RunError(f"cannot read {path}: {error}", _AGAIN) from error
        return found

    def check_fits(self, present: Mapping[str, Any]) -> None:
        """Refuse to decide by numbers that were fitted for something else.

        Raises:
            RunError: naming what differs.
        """
        for name in sorted(self.fitted_for.keys() | present.keys()):
            fitted, now = self.fitted_for.get(name), present.get(name)
            if fitted != now:
                raise RunError(f"the calibration was fitted for {name} = {fitted!r}, and this is {now!r}", _AGAIN)

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


def check_data(
    documents: Sequence[Document], source: str, *, target_error: float | None = None, confidence: float = 0.95
) -> None:
    """Refuse, before anything is decoded, data on which nothing can be fitted or promised.

    Raises:
        DataError: a number out of range; no question with an answer, or none without; one document where two halves are needed.
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
    """Fit a temperature, and a threshold of the probability of no answer; or, with a target, one of the answer's own probability.

    With a target all is fitted on half of the documents, the promise is tested on the other half, and an answer is given where its
    span is likelier than "?" and probable enough.

    Args:
        cases: the questions, each with the best span proved (`Decision.forces_span` while decoding).
        data: where they are from.
        fitted_for: see `Calibration`.
        target_error: the largest share of wrong answers to promise; None for no promise.
        confidence: of the promise.

    Raises:
        DataError: see `check_data`; or the promise cannot be made.
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
        chooses, testing = ([found for case in half if (found := judge(case, decision))] for half in (fits, tests))
        guarantee = choose_threshold(chooses, testing, target_error, confidence)
        decision = replace(decision, min_confidence=guarantee.min_confidence)
    hashes = tuple(sorted(map(text_hash, documents)))
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return Calibration(decision, guarantee, data.source, data.sha256, hashes, len(cases), fitted_for, now)


def halves(documents: Sequence[Document]) -> tuple[list[Document], list[Document]]:
    """The documents in two halves, in the order of the hashes of their texts; equal texts stay together."""
    order = {key: rank for rank, key in enumerate(sorted({text_hash(document) for document in documents}))}
    first = [document for document in documents if order[text_hash(document)] % 2 == 0]
    return first, [document for document in documents if order[text_hash(document)] % 2]


def judge(case: Case, decision: Decision) -> Judged | None:
    """The answer that a decision gives before any minimum of confidence; None if it gives none."""
    prediction = decision.decide(case.posterior)
    if not prediction.text:
        return None
    return Judged(float(prediction.probability or 0.0), not case.right(prediction.text))


def negative_log_likelihood(cases: Sequence[Case], temperature: float) -> float:
    """Mean of -log P(the question has an answer, or has none, as it does), in nats.

    What was not looked into counts as answers, as in `Decision`.
    """
    decision = Decision(temperature)
    total = 0.0
    for case in cases:
        no_answer = decision.no_answer(case.posterior.evidence.answered)
        # A kind that was proved impossible would make the sum infinite, whatever the temperature.
        total -= math.log(max((1.0 - no_answer) if case.question.answerable else no_answer, 1e-12))
    return total / len(cases)


def fit_temperature(cases: Sequence[Case]) -> float:
    """The temperature under which what the questions are, answerable or not, is most probable."""
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
    # Below every doubt, so that never to answer can be best.
    edges = np.concatenate([[-1.0], doubts[order], [1.0]])
    totals = np.concatenate([[0.0], np.cumsum(np.array(gains)[order])])
    # Only between different doubts can a threshold stand; the middle between them is where.
    totals[1:-1][np.diff(doubts[order]) == 0.0] = -math.inf
    best = int(np.argmax(totals))
    return float((edges[best] + edges[best + 1]) / 2)
