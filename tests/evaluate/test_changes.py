"""Which answers changed between two evaluations."""

from __future__ import annotations

from palmette.data.records import Answer, Document, Question
from palmette.decode.prediction import Prediction
from palmette.evaluate.changes import changed_answers
from palmette.evaluate.squad_metrics import ScoredAnswer, score_answers

TEXT = "The ferry leaves at noon from pier 3."
QUESTIONS = tuple(Question(str(number), "When?", (Answer("noon", TEXT.index("noon")),)) for number in range(5))


def scored(*texts: str) -> list[ScoredAnswer]:
    document = Document("d", TEXT, QUESTIONS)
    predictions = {str(number): Prediction(text) for number, text in enumerate(texts)}
    return score_answers([document], predictions)


def test_every_answer_is_of_one_kind() -> None:
    """Question 0 is won, 1 is lost, 2 is wrong in another way, 3 and 4 are the same in both."""
    a = scored("pier 3", "noon", "pier 3", "noon", "ferry")
    b = scored("noon", "ferry", "ferry", "noon", "ferry")
    changes = changed_answers(a, list(reversed(b)))
    assert [(x.question.id, x.prediction.text, y.prediction.text) for x, y in changes.won] == [("0", "pier 3", "noon")]
    assert [(x.question.id, x.prediction.text, y.prediction.text) for x, y in changes.lost] == [("1", "noon", "ferry")]
    assert changes.num_other == 1
