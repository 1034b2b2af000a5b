"""Verdicts by the key of the question that they are about, so that one that is sent twice is stored once.

A question gets a key each time that it is shown, the id of its "shown" event.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field, replace

from palmette.errors import DataError
from palmette.review.events import Event, Shown, Verdict


class Judged(enum.Enum):
    """What became of a verdict."""

    STORED = enum.auto()  # now, or when it was sent before
    OTHERWISE = enum.auto()  # the question was judged before, and not like this
    UNKNOWN = enum.auto()  # this person was never shown that question


@dataclass
class Keys:
    """The questions that were shown, by key, and the verdict that each key got."""

    shown: dict[int, Event] = field(default_factory=dict)
    verdicts: dict[int, Verdict] = field(default_factory=dict)
    undone: set[int] = field(default_factory=set)
    _latest: dict[tuple[str, str], int] = field(default_factory=dict)

    def add(self, event: Event) -> None:
        """Take one more event of the store."""
        assert event.id is not None
        person = (event.annotator, event.question)
        if event.kind == "shown":
            self.shown[event.id] = event
            self._latest[person] = event.id
        elif event.kind == "verdict" and event.verdict is not None and person in self._latest:
            self.verdicts[self._latest[person]] = event.verdict
        elif event.undoes is not None:
            self.undone.add(event.undoes)


def meant(verdict: Verdict, shown: Shown) -> Verdict:
    """What a verdict says about what was shown."""
    if shown.blind and verdict.kind in ("accept", "reject"):
        raise DataError(
            f"the verdict is {verdict.kind}, and the model's answer was hidden",
            "Mark the answer, or say that there is none.",
        )
    if verdict.kind == "accept":
        if verdict.span != shown.span:
            raise DataError("what was accepted is not what was shown", "Reload the page.")
    elif verdict.kind == "edit" and verdict.span == shown.span and not shown.blind:
        return replace(verdict, kind="accept")
    return verdict


def same(one: Verdict, other: Verdict) -> bool:
    """Whether two verdicts say the same, however long they took."""
    return (one.kind, one.span) == (other.kind, other.span)
