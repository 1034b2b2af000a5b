"""The routes of the arena: the page, what it asks for, and what it sends.

Nothing here names a model before the vote on its answer is stored: not the page, not what it is told, and no key. All
answers are in memory before the first request, so the time that a request takes says nothing either. Answers are sent
as texts, which the page never takes for markup.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import Field
from starlette.responses import HTMLResponse

from palmette.arena.desk import Desk
from palmette.arena.events import Said, Shown
from palmette.web.application import MAX_SECONDS, TEMPLATES, Body, CurrentSession, storing
from palmette.web.languages import COOKIE, LANGUAGES, choose_language, texts_of
from palmette.web.sessions import Session

_YEAR = 365 * 24 * 3600  # seconds for which a browser keeps the language


class SentVote(Body):
    """A vote. `asked` is the key of the answers as they were shown, so the same vote may be sent twice."""

    asked: int
    said: Said
    seconds: Annotated[float, Field(ge=0.0, le=MAX_SECONDS)]


class SentVoteId(Body):
    """The vote that is taken back, or whose models are to be named."""

    vote: int


def arena_room(desk: Desk) -> APIRouter:
    """The routes of an arena.

    Args:
        desk: what shows pairs of answers and takes votes.
    """
    room, view = APIRouter(), _View(desk)

    @room.get("/", response_class=HTMLResponse)
    def page(request: Request, language: str | None = None) -> HTMLResponse:
        # Whoever asks gets the page, so it says nothing about the arena.
        accepted = request.headers.get("accept-language")
        chosen = choose_language(language, request.cookies.get(COOKIE), accepted)
        template = TEMPLATES.get_template("arena.html")
        html = template.render(language=chosen, languages=LANGUAGES, texts=texts_of(chosen))
        response = HTMLResponse(html, headers={"Vary": "Accept-Language, Cookie"})
        if language in LANGUAGES:
            response.set_cookie(COOKIE, chosen, max_age=_YEAR, path="/", httponly=True, samesite="strict")
        return response

    @room.get("/api/arena/desk")
    def read_desk(session: CurrentSession) -> dict[str, Any]:
        return view.state(session)

    @room.post("/api/arena/votes")
    def take_vote(sent: SentVote, session: CurrentSession) -> dict[str, Any]:
        with storing():
            desk.vote(session.annotator, session.id, sent.asked, sent.said, sent.seconds)
        return view.state(session)

    @room.post("/api/arena/undo")
    def undo(sent: SentVoteId, session: CurrentSession) -> dict[str, Any]:
        with storing():
            desk.undo(session.annotator, session.id, sent.vote)
        return view.state(session)

    @room.post("/api/arena/names")
    def reveal(sent: SentVoteId, session: CurrentSession) -> dict[str, Any]:
        with storing():
            desk.reveal(session.annotator, session.id, sent.vote)
        return view.state(session)

    return room


@dataclass(frozen=True)
class _View:
    """What the page needs to show what is next."""

    desk: Desk

    def state(self, session: Session) -> dict[str, Any]:
        """The answers that a person is to compare, and their last vote."""
        voter = session.annotator
        with storing():
            asked = self.desk.ask(voter, session.id)
        last = self.desk.last(voter)
        return {
            "voter": voter,
            "asked": None if asked is None else {"key": asked.key, "turns": self._turns(asked.shown)},
            "last": None if last is None else asdict(last),
            "progress": asdict(self.desk.progress(voter)),
        }

    def _turns(self, shown: Shown) -> list[dict[str, str]]:
        """The messages with both replies to each. Nothing else of the models leaves the server."""
        arena = self.desk.arena
        left, right = (arena.replies[model][shown.prompt] for model in (shown.left, shown.right))
        turns = zip(arena.prompts[shown.prompt].turns, left, right, strict=True)
        return [{"prompt": asked, "left": one, "right": other} for asked, one, other in turns]
