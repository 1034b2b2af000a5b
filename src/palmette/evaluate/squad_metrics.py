"""The metrics of SQuAD v2 (Rajpurkar et al., 2018), with the semantics of the official evaluation script, version 2.0.

All shares are in percent. A prediction is a text; "" abstains. Beside the official ones: valid JSON and verbatim answers.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from palmette.data.records import Document, Question

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalize_answer(text: str) -> str:
    """Lower case, without punctuation, English articles and extra white space.

    >>> normalize_answer("The  third Tower, 1882.")
    'third tower 1882'
    """
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def exact_match(prediction: str, gold: Sequence[str]) -> float:
    """1.0 if the prediction equals one of the gold answers after normalisation, else 0.0; [""] is gold for "no answer"."""
    return float(any(normalize_answer(prediction) == normalize_answer(answer) for answer in gold))


def token_f1(prediction: str, gold: Sequence[str]) -> float:
    """The best F1 of shared words against one of the gold answers; where either has no words, whether both have none.

    >>> token_f1("granite blocks", ["blocks of grey granite"])
    0.6666666666666666
    """
    return max(_f1(normalize_answer(prediction).split(), normalize_answer(answer).split()) for answer in gold)


def _f1(prediction: list[str], gold: list[str]) -> float:
    if not prediction or not gold:
        return float(prediction == gold)
    shared = sum((Counter(prediction) & Counter(gold)).values())
    if not shared:
        return 0.0
    precision, recall = shared / len(prediction), shared / len(gold)
    return 2 * precision * recall / (precision + recall)


def gold_answers(question: Question) -> list[str]:
    """Gold texts, as the official script takes them: those that do not normalise to nothing, or [""]."""
    return [answer.text for answer in question.answers if normalize_answer(answer.text)] or [""]


@dataclass(frozen=True, slots=True)
class ScoredAnswer:
    """A prediction and its scores.

    Attributes:
        question: what was asked.
        document: what it was asked about.
        prediction: the answer given; "" abstains.
        valid_json: whether the reply had the format asked for.
        exact, f1: the official scores, 0 to 1.
    """

    question: Question
    document: Document
    prediction: str
    valid_json: bool
    exact: float
    f1: float

    @property
    def verbatim(self) -> bool:
        """Whether the answer stands in the document, letter for letter."""
        return self.prediction in self.document.text


def score_answers(
    documents: Iterable[Document], predictions: Mapping[str, str], valid_json: Mapping[str, bool]
) -> list[ScoredAnswer]:
    """Score the prediction for every question.

    Raises:
        KeyError: a question has no prediction.
    """
    scored = []
    for document in documents:
        for question in document.questions:
            prediction, gold = predictions[question.id], gold_answers(question)
            exact, f1 = exact_match(prediction, gold), token_f1(prediction, gold)
            scored.append(ScoredAnswer(question, document, prediction, valid_json[question.id], exact, f1))
    return scored


def summarize(scored: Sequence[ScoredAnswer]) -> dict[str, float | int | None]:
    """The official metrics under their official names, and valid_json and verbatim.

    `verbatim` is the share of answers given (neither abstentions nor broken replies) that stand in the document letter for
    letter; None if none was given. HasAns_* and NoAns_* are left out where there is no such question, as officially.
    """
    result: dict[str, float | int | None] = {**_totals(scored, "")}
    for prefix, answerable in (("HasAns_", True), ("NoAns_", False)):
        part = [answer for answer in scored if answer.question.answerable == answerable]
        result.update(_totals(part, prefix) if part else {})
    given = [answer for answer in scored if answer.prediction and answer.valid_json]
    result["valid_json"] = _percent([float(answer.valid_json) for answer in scored])
    result["verbatim"] = _percent([float(answer.verbatim) for answer in given]) if given else None
    return result


def _totals(scored: Sequence[ScoredAnswer], prefix: str) -> dict[str, float | int]:
    return {
        f"{prefix}exact": _percent([answer.exact for answer in scored]),
        f"{prefix}f1": _percent([answer.f1 for answer in scored]),
        f"{prefix}total": len(scored),
    }


def _percent(values: Sequence[float]) -> float:
    return 100.0 * sum(values) / len(values)
