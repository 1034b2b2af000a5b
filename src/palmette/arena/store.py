"""The store of an arena: its events, in SQLite or PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from palmette.arena import schema
from palmette.arena.events import Chat, Event, Shown
from palmette.store.database import Database

_INSERT = schema.events.insert().returning(schema.events.c.id, sort_by_parameter_order=True)


class VoteStore(Database):
    """A store that is open. Threads may share it. Use `VoteStore.open`."""

    chain = schema.CHAIN

    def append(self, events: Sequence[Event]) -> list[int]:
        """Add events, all or none. It returns when they are on the disk.

        Args:
            events: the events. Their ids are ignored, and those of the store are given.

        Returns:
            The ids that the store gave them.

        Raises:
            RunError: the database cannot be written. Then nothing was added.
        """
        with self._writing() as connection:
            return list(connection.scalars(_INSERT, [_to_row(event) for event in events]))

    def events(self, after: int = 0) -> Iterator[Event]:
        """The events with an id above `after`, by rising id. They are read in portions."""
        yield from map(_from_row, self._rows_after(schema.events, after))


def _to_row(event: Event) -> dict[str, Any]:
    return {
        "kind": event.kind,
        "time": event.time.isoformat(timespec="microseconds"),
        "voter": event.voter,
        "session": event.session,
        "about": event.about,
        "pair": None if event.shown is None else asdict(event.shown),
        "outcome": event.said,
        "seconds": event.seconds,
        "chat": None if event.chat is None else asdict(event.chat),
    }


def _from_row(row: Any) -> Event:
    return Event(
        row.kind,
        datetime.fromisoformat(row.time),
        row.voter,
        row.session,
        row.about,
        None if row.pair is None else Shown(**row.pair),
        row.outcome,
        row.seconds,
        None if row.chat is None else Chat(*(tuple(row.chat[part]) for part in ("turns", "left", "right"))),
        row.id,
    )
