"""The events of an arena's store, and what holds by them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from palmette.arena.events import Event
from palmette.arena.state import State
from palmette.arena.store import VoteStore


class Ledger:
    """A store with its state. Whoever reads the state or adds to it holds the lock.

    Args:
        store: where events are kept.

    Attributes:
        state: what holds, as of the last `catch_up`.
        lock: held by one thread at a time.
        changed: called after each event by which somebody has said or learned something.
    """

    def __init__(self, store: VoteStore) -> None:
        self._store = store
        self.state, self.lock = State(), threading.RLock()
        self.changed: Callable[[Event], None] = lambda _: None

    def catch_up(self) -> None:
        """Take the events that came since, from here and from other servers at the same store."""
        for event in self._store.events(self.state.last):
            if self.state.add(event):
                self.changed(event)

    def append(self, events: Sequence[Event]) -> list[int]:
        """Add events, all or none. They are on the disk when this returns.

        Returns:
            The ids that the store gave them.

        Raises:
            RunError: the store cannot be written. Nothing was added then.
        """
        keys = self._store.append(events)
        self.catch_up()
        return keys
