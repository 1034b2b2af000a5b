"""An arena, put together: its desk, and the application that serves it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

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
    """

    app: Gate
    sessions: Sessions
    desk: Desk


def open_arena(
    store: VoteStore,
    arena: Arena,
    *,
    voters: Sequence[str],
    names: Sequence[str],
    port: int,
    with_named: bool = False,
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
        source: see `Desk`.

    Raises:
        DataError: there is nothing to compare.
    """
    desk, sessions = Desk(store, arena, with_named=with_named, source=source), Sessions(voters)
    app = build_application([arena_room(desk)], sessions, host_names(names, port), port=port)
    return OpenArena(app, sessions, desk)
