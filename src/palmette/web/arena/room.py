"""The routes of the arena: the page, what it asks for, and what it sends.

Nothing here names a model before the vote on its answer is stored: not the page, not what it is told, and no key. All
answers are in memory before the first request, so the time that a request takes says nothing either. In the free chat
both replies are sent when both are there. Answers are sent as texts, which the page never takes for markup.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import Field

from palmette.arena.chats import LONGEST, MOST_TURNS, Chats, Talk
from palmette.arena.desk import Desk
from palmette.arena.events import Chat, Said, Shown
from palmette.arena.places import places_of
from palmette.web.application import MAX_SECONDS, Body, CurrentSession, Refused, storing
from palmette.web.page import add_page
from palmette.web.sessions import Session


class SentVote(Body):
    """A vote. `asked` is the key of the answers as they were shown, so the same vote may be sent twice."""

    asked: int
    said: Said
    seconds: Annotated[float, Field(ge=0.0, le=MAX_SECONDS)]


class SentVoteId(Body):
    """The vote that is taken back, or whose models are to be named."""

    vote: int


class SentMessage(Body):
    """A message to both models. `chat` is the key of the conversation as it was shown, and null begins one."""

    chat: int | None
    text: Annotated[str, Field(min_length=1, max_length=LONGEST)]


def arena_room(desk: Desk, chats: Chats | None = None) -> APIRouter:
    """The routes of an arena.

    Args:
        desk: what shows pairs of answers and takes votes.
        chats: the conversations with two models at once, if there are models to talk with.
    """
    room, view = APIRouter(), _View(desk, chats)
    add_page(room, "arena")

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

    @room.post("/api/arena/messages")
    def say(sent: SentMessage, session: CurrentSession) -> dict[str, Any]:
        if chats is None:
            raise Refused(HTTPStatus.NOT_FOUND, "there is no free chat here", "Reload the page.")
        chats.say(session.annotator, session.id, sent.chat, sent.text)
        return view.state(session)

    return room


@dataclass(frozen=True)
class _View:
    """What the page needs to show what is next."""

    desk: Desk
    chats: Chats | None

    def state(self, session: Session) -> dict[str, Any]:
        """The answers that a person is to compare, their conversation, and their last vote."""
        voter = session.annotator
        with storing():
            asked = self.desk.ask(voter, session.id)
        last = self.desk.last(voter)
        return {
            "voter": voter,
            "asked": None if asked is None else {"key": asked.key, **self._answers(asked.shown)},
            "chat": None if self.chats is None else _talk(self.chats.talk(voter)),
            "last": None if last is None else asdict(last),
            "progress": asdict(self.desk.progress(voter)),
        }

    def _answers(self, shown: Shown) -> dict[str, Any]:
        """The messages with both replies to each. Nothing else of the models leaves the server.

        With a document come the places at which it holds each answer, in code points.
        """
        arena = self.desk.arena
        prompt = arena.prompts[shown.prompt]
        left, right = (arena.replies[model][shown.prompt] for model in (shown.left, shown.right))
        document = None
        if prompt.document:
            places = {side: places_of(one[0], prompt.document) for side, one in (("left", left), ("right", right))}
            document = {"text": prompt.document, **places}
        return {"turns": _turns(prompt.turns, left, right), "document": document}


def _turns(messages: Sequence[str], left: Sequence[str], right: Sequence[str]) -> list[dict[str, str]]:
    return [
        {"prompt": asked, "left": one, "right": other} for asked, one, other in zip(messages, left, right, strict=True)
    ]


def _talk(talk: Talk) -> dict[str, Any]:
    """A conversation as it is shown: the replies to a message once both are there."""
    said = Chat((), (), ()) if talk.chat is None else talk.chat
    return {
        "key": talk.key,
        "turns": _turns(said.turns, said.left, said.right),
        "writing": talk.writing,
        "failed": talk.failed,
        "most": MOST_TURNS,
    }
