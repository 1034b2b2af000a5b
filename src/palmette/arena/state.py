"""What holds in an arena, as a fold over its events. Every question about it is answered without walking over votes."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator

from palmette.arena.events import Event, Key, Said, Shown

_SHARE: dict[Said, tuple[float, float]] = {
    "left": (1.0, 0.0),
    "right": (0.0, 1.0),
    "tie": (0.5, 0.5),
    "both bad": (0.5, 0.5),
}


class Tally:
    """The votes of all people that stand, counted. Those that skip do not count.

    Attributes:
        keys: how many there are on each prompt and pair of models.
        pairs: how many there are on each pair of models.
        wins: how often the first model of two won against the second, ties counting half.
    """

    def __init__(self) -> None:
        self.keys = Counter[Key]()
        self.pairs = Counter[frozenset[str]]()
        self.wins: defaultdict[tuple[str, str], float] = defaultdict(float)

    def count(self, shown: Shown, said: Said, number: int) -> None:
        """Add a vote `number` times: 1, or -1 where it is taken back."""
        if said == "skip":
            return
        self.keys[shown.key] += number
        self.pairs[shown.models] += number
        left, right = _SHARE[said]
        self.wins[shown.left, shown.right] += number * left
        self.wins[shown.right, shown.left] += number * right


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
        tally: the votes that stand, counted.
        skipped: how many of each person's votes that stand skip.
    """

    def __init__(self) -> None:
        self.last = 0
        self.shown: dict[int, Event] = {}
        self.said: dict[int, Event] = {}
        self.votes: dict[int, Event] = {}
        self.undone: set[int] = set()
        self.revealed: set[int] = set()
        self.tally, self.skipped = Tally(), Counter[str]()
        self._standing: dict[str, list[int]] = defaultdict(list)
        self._judged: dict[str, Counter[Key]] = defaultdict(Counter)
        self._seen: dict[str, set[tuple[str, str]]] = defaultdict(set)
        self._open: dict[str, int] = {}
        self._chats: dict[str, list[int]] = defaultdict(list)

    def add(self, event: Event) -> bool:
        """Take an event of the store. One that repeats an earlier one, or comes too late, changes nothing.

        Returns:
            Whether it changed what somebody has said, or knows.
        """
        assert event.id is not None
        self.last = event.id
        if event.kind == "shown":
            self.shown[event.id] = event
            if event.chat is None:
                self._open[event.voter] = event.id
            else:
                self._chats[event.voter].append(event.id)
            return False
        assert event.about is not None
        if event.kind == "vote":
            if event.about in self.said:
                return False
            self.said[event.about] = self.votes[event.id] = event
            self._standing[event.voter].append(event.id)
            self._count(event, 1)
        elif event.kind == "undo":
            if event.about in self.undone or event.about in self.revealed:
                return False
            self.undone.add(event.about)
            self._standing[event.voter].remove(event.about)
            self._count(self.votes[event.about], -1)
        else:
            self.revealed.add(event.about)
            self._seen[event.voter] |= self.of_vote(event.about).answers
        return True

    def _count(self, vote: Event, number: int) -> None:
        assert vote.id is not None
        assert vote.said is not None
        shown = self.of_vote(vote.id)
        self._judged[vote.voter][shown.key] += number
        self.skipped[vote.voter] += number * (vote.said == "skip")
        self.tally.count(shown, vote.said, number)

    def of_vote(self, vote: int) -> Shown:
        """What a vote is about."""
        shown = self.shown_to(vote).shown
        assert shown is not None
        return shown

    def shown_to(self, vote: int) -> Event:
        """The event that showed what a vote is about."""
        about = self.votes[vote].about
        assert about is not None
        return self.shown[about]

    def latest(self, voter: str) -> Event | None:
        """The last vote of a person that stands."""
        standing = self._standing[voter]
        return self.votes[standing[-1]] if standing else None

    def standing(self) -> Iterator[Event]:
        """The votes of all people that stand, in the order in which they were given."""
        return (self.votes[one] for one in sorted(one for ids in self._standing.values() for one in ids))

    def num_standing(self, voter: str) -> int:
        """How many votes of a person stand, those that skip among them."""
        return len(self._standing[voter])

    def judged(self, voter: str, key: Key) -> bool:
        """Whether a vote of a person on a prompt and a pair of models stands."""
        return self._judged[voter][key] > 0

    def open(self, voter: str) -> Event | None:
        """The pair that a person was shown last, if they have not said anything of it."""
        key = self._open.get(voter)
        return None if key is None or key in self.said else self.shown[key]

    def chat(self, voter: str) -> Event | None:
        """The last conversation of a person on which there is no vote. A vote taken back shows it again."""
        shown = self._chats[voter]
        while shown:
            event = self.shown[shown[-1]]
            assert event.shown is not None
            if event.id not in self.said and not self.judged(voter, event.shown.key):
                return event
            shown.pop()  # an undo adds it again
        return None

    def knows(self, voter: str, answers: frozenset[tuple[str, str]]) -> bool:
        """Whether a person was told who wrote one of some answers."""
        return not self._seen[voter].isdisjoint(answers)

    def waiting(self, voter: str) -> list[Shown]:
        """What is open before others."""
        opened = (self.open(name) for name in self._open if name != voter)
        return [event.shown for event in opened if event is not None and event.shown is not None]
