"""An arena, put together: its desk, and the application that serves it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from palmette.arena.chats import Chats, Speaker
from palmette.arena.desk import Desk
from palmette.arena.folder import Arena
from palmette.arena.store import VoteStore
from palmette.web.application import build_application
from palmette.web.arena.room import arena_room
from palmette.web.gate import Gate, host_names
from palmette.web.sessions import Sessions


@dataclass(frozen=True)
class OpenArena:
    """An arena that can be served.

    Attributes:
        app: the application.
        sessions: the tokens of the voters.
        desk: what shows pairs of answers and takes votes.
        chats: the conversations with two models at once, if there are models to talk with.
    """

    app: Gate
    sessions: Sessions
    desk: Desk
    chats: Chats | None


def open_arena(
    store: VoteStore,
    arena: Arena,
    *,
    voters: Sequence[str],
    names: Sequence[str],
    port: int,
    with_named: bool = False,
    speakers: Sequence[Speaker] = (),
    source: random.Random | None = None,
) -> OpenArena:
    """Put an arena together.

    Args:
        store: where votes are kept.
        arena: the answers.
        voters: the names of the people who vote.
        names: the names and addresses under which browsers reach the server.
        port: its port.
        with_named: see `Desk`.
        speakers: models that people can talk with. None, or at least two.
        source: see `Desk`.

    Raises:
        DataError: there is nothing to compare, or one model to talk with.
    """
    desk = Desk(store, arena, with_named=with_named, chatting=bool(speakers), source=source)
    chats, sessions = Chats(desk.ledger, speakers, source) if speakers else None, Sessions(voters)
    app = build_application([arena_room(desk, chats)], sessions, host_names(names, port), port=port)
    return OpenArena(app, sessions, desk, chats)
