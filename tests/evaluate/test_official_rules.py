"""Real predictions, those of a fine-tuned model on builtin:test, scored by the rules of the official SQuAD v2 script.

The rules are written down here once more, from the definitions of the SQuAD papers. An answer is lowercased, ASCII
punctuation and the articles a, an and the are removed, and white space is joined. Exact match compares what is left. F1
is the harmonic mean of the precision and recall of shared words. Each is the best over the gold answers, and a question
without an answer has the empty string as its only one.
"""

from __future__ import annotations

import json
import re
import string
from collections import Counter
from pathlib import Path

import pytest

from palmette.data.source import read_data
from palmette.evaluate.official import read_official
from palmette.evaluate.squad import score

PREDICTIONS = Path(__file__).parent / "data" / "builtin-test-predictions.json"


def plain(text: str) -> str:
    text = "".join(character for character in text.lower() if character not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


def f1_of(prediction: str, gold: str) -> float:
    ours, theirs = plain(prediction).split(), plain(gold).split()
    if not ours or not theirs:
        return float(ours == theirs)
    shared = sum((Counter(ours) & Counter(theirs)).values())
    if not shared:
        return 0.0
    precision, recall = shared / len(ours), shared / len(theirs)
    return 2 * precision * recall / (precision + recall)


def test_real_predictions_score_as_the_official_rules_say() -> None:
    documents = read_data("builtin:test").documents
    said = json.loads(PREDICTIONS.read_text(encoding="utf-8"))
    exact: dict[bool, list[float]] = {True: [], False: []}
    f1: dict[bool, list[float]] = {True: [], False: []}
    for question in (question for document in documents for question in document.questions):
        gold = [answer.text for answer in question.answers if plain(answer.text)] or [""]
        prediction = said[question.id]
        exact[question.answerable].append(max(float(plain(prediction) == plain(text)) for text in gold))
        f1[question.answerable].append(max(f1_of(prediction, text) for text in gold))
    assert min(len(exact[True]), len(exact[False])) == 40, "both kinds of questions"
    assert any(0.0 < value < 1.0 for value in f1[True]), "some answers share a part of their words"
    found = score(documents, read_official(documents, PREDICTIONS, None)).metrics
    for name, values in (("exact", exact), ("f1", f1)):
        assert found[name] == pytest.approx(100 * sum(values[True] + values[False]) / 100)
        assert found[f"HasAns_{name}"] == pytest.approx(100 * sum(values[True]) / 60)
        assert found[f"NoAns_{name}"] == pytest.approx(100 * sum(values[False]) / 40)
