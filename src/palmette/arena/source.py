"""An arena's folder as a source of data: its votes, with the answers that they are about."""

from __future__ import annotations

import hashlib
import json
from importlib.util import find_spec
from typing import Any

from palmette.arena.folder import is_arena
from palmette.errors import PalmetteError
from palmette.files import expand


def open_votes(source: str, store: str | None = None) -> tuple[str, list[dict[str, Any]]] | None:
    """The votes of an arena, in FastChat's columns.

    Args:
        source: the folder of an arena, or anything else.
        store: where its votes are kept, if that is not in the folder.

    Returns:
        A hash of the votes and their answers, and the votes as rows. None if the source is not the folder of an arena.

    Raises:
        DataError: the arena has no votes, lacks answers, or a vote is on an answer or a model that it does not hold.
        RunError: the store cannot be read.
        PalmetteError: packages that the store needs are not installed.
    """
    folder = expand(source)
    if not is_arena(folder):
        return None
    if missing := [name for name in ("alembic", "sqlalchemy") if find_spec(name) is None]:
        raise PalmetteError(
            f"the votes of an arena need packages that are not installed: {', '.join(missing)}",
            'Install them: pip install "palmette[web]"',
        )
    from palmette.arena.export import vote_rows  # needs these packages

    rows = vote_rows(folder, store)
    return hashlib.sha256(json.dumps(rows).encode("utf-8")).hexdigest(), rows
