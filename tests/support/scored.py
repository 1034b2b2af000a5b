"""Scored answers of which it is said by hand which ones are right."""

from __future__ import annotations

from palmette.data.records import Answer, Document, Question
from palmette.decode.prediction import Prediction
from palmette.evaluate.squad_metrics import ScoredAnswer, score_answers


def scored(right: list[bool]) -> list[ScoredAnswer]:
    """A document for each entry, with a question that it answers and one that it does not. The entry says whether the
    first is answered rightly. The second is always refused.
    """
    documents, predictions = [], {}
    for number, good in enumerate(right):
        answerable = Question(f"q{number}", "When?", (Answer("noon", 0),))
        absent = Question(f"n{number}", "Why?", ())
        documents.append(Document(f"d{number}", "noon or dusk", (answerable, absent)))
        predictions[answerable.id] = Prediction("noon" if good else "dusk", valid_json=True, completion="")
        predictions[absent.id] = Prediction("", valid_json=True, completion="")
    return score_answers(documents, predictions)
