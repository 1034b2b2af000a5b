"""Predictions and events for tests of the review."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from palmette.data.records import Document, Question
from palmette.decode.prediction import Candidate, Prediction
from palmette.review.events import Event, Shown, Span, Verdict, document_hash

START = datetime(2026, 3, 1, 9, 0, tzinfo=UTC)
TEXT = "The ferry 🚢 leaves Quay 4 at 7:40.\r\nIt reaches the naïve (nai\u0308ve) island by 9. Приезжайте!"


def document(text: str = TEXT, *questions: str) -> Document:
    names = questions or ("when", "where", "who")
    return Document("timetable", text, tuple(Question(name, f"{name.capitalize()}?") for name in names))


def span(text: str, document: str = TEXT) -> Span:
    """The first place of a text in a document."""
    start = document.index(text)
    return Span(text, start, start + len(text))


def prediction(no_answer: float, *spans: tuple[str, float]) -> Prediction:
    """What a span decoder says: the probability of no answer, and of some spans, best first."""
    candidates = tuple(Candidate(text, 0, len(text), probability) for text, probability in spans)
    best = candidates[0] if candidates and candidates[0].probability > no_answer else None
    return Prediction(best.text if best else "", no_answer_probability=no_answer, candidates=candidates)


def event(kind: str, annotator: str = "ann", question: str = "when", after: float = 0.0, **values: Any) -> Event:
    """An event of the timetable, some seconds after the start."""
    return Event(
        kind,  # type: ignore[arg-type]
        START + timedelta(seconds=after),
        annotator,
        "session",
        question,
        document_hash(TEXT),
        **values,
    )


def shown(text: str | None = "7:40", **values: Any) -> Shown:
    return Shown(span(text) if text else None, 0.7, 0.2, **values)


def verdict(kind: str, text: str | None = None, seconds: float = 2.0, document: str = TEXT) -> Verdict:
    return Verdict(kind, span(text, document) if text else None, seconds)  # type: ignore[arg-type]
