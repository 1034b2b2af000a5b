"""Comparison of answers with gold answers, as in the official SQuAD v2 script, version 2.0 (Rajpurkar et al., 2018)."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence

from palmette.data.records import Question

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalize_answer(text: str) -> str:
    """Text in lower case, without punctuation, English articles and extra white space.

    >>> normalize_answer("The  third Tower, 1882.")
    'third tower 1882'
    """
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def exact_match(prediction: str, gold: Sequence[str]) -> float:
    """1.0 if the prediction equals a gold answer after normalisation, else 0.0. [""] is the gold for "no answer"."""
    return float(any(normalize_answer(prediction) == normalize_answer(answer) for answer in gold))


def token_f1(prediction: str, gold: Sequence[str]) -> float:
    """The best F1 of shared words against one of the gold answers. Where either has no words, 1.0 if both have none.

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
    """The gold texts as the official script takes them: those that keep a word after normalisation, or [""]."""
    return [answer.text for answer in question.answers if normalize_answer(answer.text)] or [""]


def strict_match(prediction: str, question: Question) -> float:
    """1.0 if the prediction is one of the gold answers, letter for letter, else 0.0. "" is the gold for "no answer"."""
    return float(prediction in ([answer.text for answer in question.answers] or [""]))
