"""Events as rows of the table of events."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from palmette.review.events import Event, Span, Verdict, shown_from_dict, shown_to_dict


def to_row(event: Event) -> dict[str, Any]:
    """The row of an event, without its id, which the database gives."""
    verdict = event.verdict
    span = None if verdict is None or verdict.span is None else verdict.span
    return {
        "kind": event.kind,
        "time": event.time.isoformat(timespec="microseconds"),
        "annotator": event.annotator,
        "session": event.session,
        "question": event.question,
        "document_sha256": event.document_sha256,
        "prompt_sha256": event.prompt_sha256,
        "run": event.run,
        "run_sha256": event.run_sha256,
        "shown": None if event.shown is None else shown_to_dict(event.shown),
        "verdict": None if verdict is None else verdict.kind,
        "answer": None if span is None else [span.text, span.start, span.end],
        "seconds": None if verdict is None else verdict.seconds,
        "undoes": event.undoes,
    }


def from_row(row: Any) -> Event:
    """The event of a row."""
    span = None if row.answer is None else Span(*row.answer)
    return Event(
        kind=row.kind,
        time=datetime.fromisoformat(row.time),
        annotator=row.annotator,
        session=row.session,
        question=row.question,
        document_sha256=row.document_sha256,
        prompt_sha256=row.prompt_sha256,
        run=row.run,
        run_sha256=row.run_sha256,
        shown=None if row.shown is None else shown_from_dict(row.shown),
        verdict=None if row.verdict is None else Verdict(row.verdict, span, row.seconds),
        undoes=row.undoes,
        id=row.id,
    )
