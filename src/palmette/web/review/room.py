"""The routes of the review: the page, what it asks for, and what it sends.

All places in JSON are code points of the document of record. The page turns them into the UTF-16 units that browsers
count, and back (`static/common/offsets.js`). It sends the text of a span along, and a slice that differs is refused.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from http import HTTPStatus
from typing import Annotated, Any, Literal

from fastapi import APIRouter
from pydantic import Field

from palmette.decode.spans import words
from palmette.review.desk import Desk
from palmette.review.events import Span, Verdict, VerdictKind
from palmette.review.keys import Judged
from palmette.review.showing import ShownQuestion
from palmette.review.state import Judgement
from palmette.review.succession import Succession
from palmette.web.application import MAX_SECONDS, Body, CurrentSession, Refused, storing
from palmette.web.page import add_page
from palmette.web.sessions import Session

# Why there is no question: the model has not answered any yet, all are judged, or nobody disagrees any more.
Empty = Literal["reading", "done", "agreed"]


class SentSpan(Body):
    """A span that somebody marked, in code points."""

    text: Annotated[str, Field(min_length=1, max_length=50_000)]
    start: Annotated[int, Field(ge=0)]
    end: Annotated[int, Field(ge=0)]


class SentVerdict(Body):
    """A verdict. `asked` is the key of the question as it was shown, so the same verdict may be sent twice."""

    asked: int
    kind: VerdictKind
    span: SentSpan | None
    seconds: Annotated[float, Field(ge=0.0, le=MAX_SECONDS)]


class SentDecision(Body):
    """What somebody decides on a question on which people disagree. Without a span, that there is no answer."""

    question: Annotated[str, Field(max_length=1000)]
    span: SentSpan | None
    seconds: Annotated[float, Field(ge=0.0, le=MAX_SECONDS)]


class SentRun(Body):
    """The run to go on with, as it was offered."""

    run: Annotated[str, Field(max_length=4096)]


class SentUndo(Body):
    """What an undo takes back: the number of a verdict or decision."""

    verdict: int


def review_room(desk: Desk, data: str, succession: Succession | None = None) -> APIRouter:
    """The routes of a review.

    Args:
        desk: what asks questions and takes verdicts.
        data: the name of the data.
        succession: what offers newer runs.
    """
    room, view = APIRouter(), _View(desk, data, succession)
    add_page(room, "review")

    @room.get("/api/review/desk")
    def read_desk(session: CurrentSession) -> dict[str, Any]:
        return view.state(session)

    @room.get("/api/review/documents/{sha256}")
    def read_document(sha256: str, _session: CurrentSession) -> dict[str, Any]:
        document = desk.document(sha256)
        if document is None:
            raise Refused(HTTPStatus.NOT_FOUND, "there is no such document here", "Reload the page.")
        bounds = words(document.text, inside_words=desk.run.inside_words)
        return {"text": document.text, "title": document.title, "words": bounds}

    @room.post("/api/review/verdicts")
    def take_verdict(sent: SentVerdict, session: CurrentSession) -> dict[str, Any]:
        verdict = Verdict(sent.kind, _span(sent.span), sent.seconds)
        with storing():
            _check(desk.judge(session.annotator, session.id, sent.asked, verdict))
        return view.state(session)

    @room.post("/api/review/undo")
    def undo(sent: SentUndo, session: CurrentSession) -> dict[str, Any]:
        with storing():
            disputed = desk.undo(session.annotator, session.id, sent.verdict)
        return view.state(session) if disputed is None else view.conflict(session, at=disputed)

    @room.get("/api/review/conflict")
    def read_conflict(session: CurrentSession, after: str | None = None) -> dict[str, Any]:
        return view.conflict(session, after)

    @room.post("/api/review/decisions")
    def decide(sent: SentDecision, session: CurrentSession) -> dict[str, Any]:
        verdict = Verdict("no_answer" if sent.span is None else "edit", _span(sent.span), sent.seconds)
        with storing():
            _check(desk.decide(session.annotator, session.id, sent.question, verdict))
        return view.conflict(session, sent.question)

    @room.post("/api/review/run")
    def go_on(sent: SentRun, session: CurrentSession) -> dict[str, Any]:
        if succession is not None:
            succession.begin(sent.run)
        return view.state(session)

    return room


def _check(judged: Judged) -> None:
    """Refuse a verdict that was not stored.

    Raises:
        Refused: it was not.
    """
    if judged is Judged.OTHERWISE:
        raise Refused(
            HTTPStatus.CONFLICT,
            "this question was judged already, with another verdict",
            "The first verdict is kept. Undo it to give another.",
        )
    if judged is Judged.UNKNOWN:
        raise Refused(
            HTTPStatus.CONFLICT, "this question is not to be judged here any more", "Go on with the next one."
        )


def _span(sent: SentSpan | None) -> Span | None:
    return None if sent is None else Span(sent.text, sent.start, sent.end)


@dataclass(frozen=True)
class _View:
    """What the page needs to show what is next."""

    desk: Desk
    data: str
    succession: Succession | None

    def state(self, session: Session) -> dict[str, Any]:
        """The question that a person is to judge."""
        with storing():
            asked = self.desk.ask(session.annotator, session.id)
        shown = None if asked is None else _question(self.desk, asked)
        waiting = asked is None and self.desk.waiting
        empty: Empty = "reading" if waiting else "done"
        return {**self._common(session), "asked": shown, "waiting": waiting, "empty": empty}

    def conflict(self, session: Session, after: str | None = None, at: str | None = None) -> dict[str, Any]:
        """A question on which people disagree: `at`, or the next behind `after`. After the last comes the first."""
        conflicts = self.desk.conflicts()
        names = list(conflicts)
        following = names[names.index(after) + 1 :] if after in conflicts else names
        name = at if at in conflicts else next(iter([*following, *names]), None)
        shown = None if name is None else _conflict(self.desk, name, conflicts[name])
        return {
            **self._common(session),
            "asked": shown,
            "waiting": False,
            "empty": "agreed",
            "deciding": True,
            "undoable": self.desk.undoable(session.annotator, decision=True),
        }

    def _common(self, session: Session) -> dict[str, Any]:
        progress, newer = self.desk.progress(session.annotator), self.succession
        # Looked at before the run is: a run that is ready in between is seen, and the page need not ask again.
        preparing = newer.preparing if newer else False
        chosen = Counter[str]()
        for strategy, number in progress.strategies.items():
            chosen[_reason(strategy)] += number
        return {
            "annotator": session.annotator,
            "run": self.desk.run.name,
            "data": self.data,
            "undoable": self.desk.undoable(session.annotator),
            "progress": {**asdict(progress), "strategies": chosen, "minutes_left": progress.minutes_left},
            "conflicts": len(self.desk.conflicts()),
            "deciding": False,
            "newer": newer.offered() if newer else None,
            "preparing": preparing,
            "failed": newer is not None and newer.failure is not None,
        }


def _question(desk: Desk, asked: ShownQuestion) -> dict[str, Any]:
    """A question as it is shown. Where it is shown blind, nothing of the model's answer leaves the server."""
    shown, hidden = asked.shown, asked.shown.blind
    return {
        "key": asked.key,
        "question": asked.question.text,
        "document": asked.document,
        "blind": hidden,
        "why": _reason(shown.strategy),
        "max_words": desk.run.max_words,
        "suggestion": None if hidden or shown.span is None else _place(shown.span),
        "probability": None if hidden else shown.probability,
        "no_answer_probability": None if hidden else shown.no_answer_probability,
        "candidates": [] if hidden else [{**_place(one), "probability": one.probability} for one in shown.candidates],
        "said": [],
    }


def _conflict(desk: Desk, name: str, judged: Mapping[str, Judgement]) -> dict[str, Any]:
    """A question on which people disagree, with what each of them said.

    Of those who gave no answer, `said` has what each found wrong: a text, "" for "not in the document", or None where
    they said that the document holds no answer.
    """
    question, document = desk.question(name)
    spans: dict[Span, list[str]] = {}
    said = []
    for annotator, one in judged.items():
        if one.answer is not None:
            spans.setdefault(one.answer, []).append(annotator)
        elif one.known == "no answer":
            said.append({"who": annotator, "wrong": None})
        else:
            wrong = one.shown.span.text if one.shown and one.shown.span else ""
            said.append({"who": annotator, "wrong": wrong})
    return {
        "key": name,
        "question": question.text,
        "document": document,
        "blind": True,  # what the model said is of no matter here
        "why": "conflict",
        "max_words": desk.run.max_words,
        "suggestion": None,
        "probability": None,
        "no_answer_probability": None,
        "candidates": [{**_place(span), "probability": None, "who": ", ".join(names)} for span, names in spans.items()],
        "said": said,
    }


# What the page has words for. Questions of the audit set look like any other that was drawn at random.
_REASONS = ("uncertain", "margin", "disagreement", "diverse", "overlap")


def _reason(strategy: str) -> str:
    return strategy if strategy in _REASONS else "random"


def _place(span: Any) -> dict[str, Any]:
    return {"text": span.text, "start": span.start, "end": span.end}
