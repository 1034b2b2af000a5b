"""The desk of an arena: which two answers somebody is shown, and what becomes of a vote.

It keeps four promises. A vote that is sent twice is stored once: each pair of answers gets a key when it is shown, the
id of its "shown" event, and a vote names the key. Which model stands on which side is drawn here and stored before
anybody sees it. The models of a pair are named only after the vote on it is stored, and such a vote is not taken back
any more. Nobody is shown an answer again whose model they were told.
"""

from __future__ import annotations

import random
from collections import defaultdict
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from palmette.arena.drawing import draw
from palmette.arena.events import Event, Said, Shown
from palmette.arena.folder import AnswerPair, Arena
from palmette.arena.ledger import Ledger
from palmette.arena.remaining import Remaining
from palmette.arena.store import VoteStore
from palmette.errors import DataError

_NEXT = "Go on with the next one."


@dataclass(frozen=True, slots=True)
class ShownPair:
    """Two answers that somebody is to compare.

    Attributes:
        key: what a vote on them names.
        shown: the pair. It holds the models' names, which stay on the server.
    """

    key: int
    shown: Shown


@dataclass(frozen=True, slots=True)
class Last:
    """Somebody's last vote that stands.

    Attributes:
        vote: its id.
        said: what they said.
        names: the models on the left and on the right, if they were shown.
    """

    vote: int
    said: Said
    names: tuple[str, str] | None


@dataclass(frozen=True, slots=True)
class Progress:
    """How far somebody is.

    Attributes:
        votes: votes that stand, without those that skip.
        skipped: those that skip.
        left: comparisons that can still be asked.
    """

    votes: int
    skipped: int
    left: int


class Desk:
    """Shows pairs of answers, and takes votes. Threads may share it, and several desks may share a store.

    Args:
        store: where votes are kept.
        arena: the answers.
        with_named: whether to ask about answers that tell their model, too. Their votes are marked.
        chatting: whether people can talk with models here as well, so that there may be nothing to compare.
        source: random numbers. By default those of the operating system.

    Attributes:
        arena: the answers.
        ledger: the events, and what holds by them.
        identical: how many comparisons are not asked since both answers are the same.
        named: how many have an answer that tells its model.

    Raises:
        DataError: there is nothing to compare.
    """

    def __init__(
        self,
        store: VoteStore,
        arena: Arena,
        *,
        with_named: bool = False,
        chatting: bool = False,
        source: random.Random | None = None,
    ) -> None:
        self.arena, self._source = arena, source or random.SystemRandom()
        everything = list(arena.comparisons())
        different = [one for one in everything if not one.identical]
        self.identical = len(everything) - len(different)
        self.named = sum(one.named is not None for one in different)
        possible = [one for one in different if with_named or one.named is None]
        if not possible and not chatting:
            raise DataError(
                f"{arena.folder} holds nothing to compare: {self.identical} pairs of answers are identical, and "
                f"{self.named} tell their model",
                "Sample other models, or other prompts.",
            )
        self.ledger = Ledger(store)
        self._state, self._lock = self.ledger.state, self.ledger.lock
        self._left = Remaining(possible, self._state)
        self._again: dict[str, list[Shown]] = defaultdict(list)
        self.ledger.changed = self._changed
        self.ledger.catch_up()

    def ask(self, voter: str, session: str) -> ShownPair | None:
        """The two answers that somebody is to compare now. They stay the same until there is a vote.

        Args:
            voter: the person.
            session: the person's session, for the events.

        Returns:
            The answers. None if the person has compared everything.

        Raises:
            RunError: the store cannot be written.
        """
        with self._lock:
            self.ledger.catch_up()
            event = self._state.open(voter)
            if event is None or event.shown is None or not self._may_show(voter, event.shown):
                shown = self._next(voter)
                if shown is None:
                    return None
                [key] = self.ledger.append([Event("shown", datetime.now(UTC), voter, session, shown=shown)])
                return ShownPair(key, shown)
            assert event.id is not None
            return ShownPair(event.id, event.shown)

    def vote(self, voter: str, session: str, key: int, said: Said, seconds: float) -> None:
        """Take a vote. It is on the disk when this returns.

        Args:
            voter: the person.
            session: the person's session, for the events.
            key: the answers, as they were shown.
            said: the vote.
            seconds: how long it took.

        Raises:
            DataError: the answers were not shown to this person, were judged otherwise, or are not blind any more.
            RunError: the store cannot be written. Nothing was stored then.
        """
        with self._lock:
            self.ledger.catch_up()
            event, before = self._state.shown.get(key), self._state.said.get(key)
            if event is None or event.voter != voter or event.shown is None:
                raise DataError("these answers are not to be judged here any more", _NEXT)
            if before is not None:
                if before.said != said:
                    raise DataError("these answers were judged already, with another vote", "The first vote is kept.")
                return
            if self._state.judged(voter, event.shown.key):
                raise DataError("these answers were judged already", "The first vote is kept.")
            if self._state.knows(voter, event.shown.answers):
                raise DataError("the model of one of these answers was named", _NEXT)
            self.ledger.append([Event("vote", datetime.now(UTC), voter, session, key, said=said, seconds=seconds)])

    def undo(self, voter: str, session: str, vote: int) -> None:
        """Take back a person's last vote. Its answers are shown again, and then those that were open.

        A conversation that was voted on goes on, and after it one that was begun meanwhile.

        Args:
            voter: the person.
            session: the person's session, for the events.
            vote: the id of the vote. If it was taken back before, nothing happens.

        Raises:
            DataError: it is not the last vote of this person, or its models were named.
            RunError: the store cannot be written. Nothing has changed then.
        """
        with self._lock:
            self.ledger.catch_up()
            if vote in self._state.undone:
                return
            self._check_last(voter, vote)
            if vote in self._state.revealed:
                raise DataError("the models of this vote were named, so it stays", _NEXT)
            opened, before = self._state.open(voter), self._state.shown_to(vote)
            undone = Event("undo", datetime.now(UTC), voter, session, vote)
            again = Event("shown", datetime.now(UTC), voter, session, shown=before.shown, chat=before.chat)
            self.ledger.append([undone, again])
            if before.chat is None and opened is not None and opened.shown is not None:
                self._again[voter].append(opened.shown)

    def reveal(self, voter: str, session: str, vote: int) -> None:
        """Name the models of a person's last vote, after which it is not taken back any more.

        Args:
            voter: the person.
            session: the person's session, for the events.
            vote: the id of the vote.

        Raises:
            DataError: it is not the last vote of this person, or it skips.
            RunError: the store cannot be written. Nothing is revealed then.
        """
        with self._lock:
            self.ledger.catch_up()
            self._check_last(voter, vote)
            if self._state.votes[vote].said == "skip":
                raise DataError("these answers were skipped, so their models stay unnamed", _NEXT)
            if vote not in self._state.revealed:
                self.ledger.append([Event("revealed", datetime.now(UTC), voter, session, vote)])

    def last(self, voter: str) -> Last | None:
        """A person's last vote that stands."""
        with self._lock:
            event = self._state.latest(voter)
            if event is None:
                return None
            assert event.id is not None
            assert event.said is not None
            shown = self._state.of_vote(event.id)
            names = (shown.left, shown.right) if event.id in self._state.revealed else None
            return Last(event.id, event.said, names)

    def progress(self, voter: str) -> Progress:
        """How far a person is."""
        with self._lock:
            self.ledger.catch_up()
            skipped = self._state.skipped[voter]
            return Progress(self._state.num_standing(voter) - skipped, skipped, self._left.number(voter))

    def _next(self, voter: str) -> Shown | None:
        """What to show next: what an undo put off, or else what is drawn."""
        while self._again[voter]:
            before = self._again[voter].pop()
            # Another window of the same person may have sent a vote on it meanwhile.
            if not self._state.judged(voter, before.key) and self._may_show(voter, before):
                return before
        drawn = draw(self._left.of(voter), self._state.tally, self._state.waiting(voter), self._source)
        if drawn is None:
            return None
        comparison, pair = drawn
        # The sides are drawn by themselves, so nothing about the answers decides who stands where.
        shown = _shown(comparison, pair.probability, swapped=self._source.random() < 0.5)
        return replace(shown, weight=pair.weight)

    def _may_show(self, voter: str, shown: Shown) -> bool:
        """Whether a pair that was shown before is still as it was, and its models still unknown to the person."""
        comparison = self._left.find(shown.key)
        if comparison is None or self._state.knows(voter, shown.answers):
            return False
        now_there = _shown(comparison, shown.sampling_probability, swapped=comparison.models[0] != shown.left)
        return replace(now_there, named=shown.named, weight=shown.weight) == shown

    def _changed(self, event: Event) -> None:
        """Take notice of what somebody has said or learned."""
        assert event.about is not None
        vote = event.id if event.kind == "vote" else event.about
        assert vote is not None
        shown = self._state.of_vote(vote)
        self._left.changed(event.voter, shown.key, shown.answers if event.kind == "revealed" else ())

    def _check_last(self, voter: str, vote: int) -> None:
        last = self._state.latest(voter)
        if last is None or last.id != vote:
            raise DataError("this is not your last vote any more", "Reload the page.")


def _shown(comparison: AnswerPair, probability: float, *, swapped: bool = False) -> Shown:
    """A comparison as it is shown, with its second model on the left if it is swapped."""
    left, right = (1, 0) if swapped else (0, 1)
    models, hashes = comparison.models, comparison.hashes
    named = comparison.named is not None
    return Shown(comparison.prompt, models[left], models[right], hashes[left], hashes[right], probability, named)
