"""What a person is shown of a prediction."""

from __future__ import annotations

from palmette.decode.prediction import Candidate, Prediction
from palmette.review.events import Span
from palmette.review.queue import NextQuestion, Place
from palmette.review.showing import to_show

CHOSEN = NextQuestion(Place("when", "random", 0.0, 1.0), blind=False)
NOON = Candidate("noon", 4, 8, 0.41)


def suggested(prediction: Prediction) -> tuple[Span | None, float | None]:
    shown = to_show(prediction, CHOSEN)
    return shown.span, shown.probability


def test_an_answer_is_suggested_with_its_probability() -> None:
    assert suggested(Prediction("noon", "", 4, 8, 0.7, 0.1, (NOON,))) == (Span("noon", 4, 8), 0.7)


def test_an_absence_is_suggested_with_its_probability() -> None:
    assert suggested(Prediction("", "absent", None, None, 0.6, 0.6, (NOON,))) == (None, 0.6)


def test_where_the_model_is_unsure_the_likeliest_outcome_is_suggested() -> None:
    """No answer has 0.2 or 0.45, and the best passage 0.41. Each is below one half, so neither is what is said."""
    assert suggested(Prediction("", "unsure", None, None, 0.2, 0.2, (NOON,))) == (Span("noon", 4, 8), 0.41)
    assert suggested(Prediction("", "unsure", None, None, 0.45, 0.45, (NOON,))) == (None, 0.45)
