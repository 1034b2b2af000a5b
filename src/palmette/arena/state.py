"""What holds in an arena, as a fold over its events."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator

from palmette.arena.events import Event, Shown


class State:
    """The votes that stand, what is open, and whose names were shown to whom.

    Two servers at one store may each take the same vote, or take the same vote back, before either sees the event of
    the other. The first such event counts, and a vote whose models were named stays.

    Attributes:
        last: the id of the last event that was added.
        shown: {id of what was shown: its event}.
        said: {id of what was shown: the vote on it}, taken back or not.
        votes: {id: vote}, taken back or not.
        undone: the ids of votes that were taken back.
        revealed: the ids of votes after which the names were shown.
    """

    def __init__(self) -> None:
        self.last = 0
        self.shown: dict[int, Event] = {}
        self.said: dict[int, Event] = {}
        self.votes: dict[int, Event] = {}
        self.undone: set[int] = set()
        self.revealed: set[int] = set()
        self._standing: dict[str, list[int]] = defaultdict(list)
        self._seen: dict[str, set[tuple[str, str]]] = defaultdict(set)
        self._open: dict[str, int] = {}

    def add(self, event: Event) -> None:
        """Take an event of the store. One that repeats an earlier one, or comes too late, changes nothing."""
        assert event.id is not None
        self.last = event.id
        if event.kind == "shown":
            self.shown[event.id] = event
            self._open[event.voter] = event.id
            return
        assert event.about is not None
        if event.kind == "vote":
            if event.about in self.said:
                return
            self.said[event.about] = self.votes[event.id] = event
            self._standing[event.voter].append(event.id)
        elif event.kind == "undo":
            if event.about in self.undone or event.about in self.revealed:
                return
            self.undone.add(event.about)
            self._standing[event.voter].remove(event.about)
        else:
            self.revealed.add(event.about)
            self._seen[event.voter] |= self.of_vote(event.about).answers

    def of_vote(self, vote: int) -> Shown:
        """What a vote is about."""
        about = self.votes[vote].about
        assert about is not None
        shown = self.shown[about].shown
        assert shown is not None
        return shown

    def latest(self, voter: str) -> Event | None:
        """The last vote of a person that stands."""
        standing = self._standing[voter]
        return self.votes[standing[-1]] if standing else None

    def standing(self, voter: str | None = None) -> Iterator[Event]:
        """The votes that stand, of one person or of all, in the order in which they were given."""
        ids = (
            self._standing[voter]
            if voter is not None
            else sorted(one for ids in self._standing.values() for one in ids)
        )
        return (self.votes[one] for one in ids)

    def open(self, voter: str) -> Event | None:
        """What a person was shown last, if they have not said anything of it."""
        key = self._open.get(voter)
        return None if key is None or key in self.said else self.shown[key]

    def knows(self, voter: str, shown: Shown) -> bool:
        """Whether a person was told who wrote one of two answers."""
        return not self._seen[voter].isdisjoint(shown.answers)

    def counts(self, voter: str) -> Counter[tuple[str, frozenset[str]]]:
        """How often each prompt was judged for each pair of models. What is open before others counts too."""
        judged = (self.of_vote(one.id) for one in self.standing() if one.said != "skip" and one.id is not None)
        others = (self.open(name) for name in list(self._open) if name != voter)
        waiting = (event.shown for event in others if event is not None and event.shown is not None)
        return Counter((shown.prompt, shown.models) for shown in (*judged, *waiting))
