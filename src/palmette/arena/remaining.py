"""What each person can still be asked, kept up to date while they vote."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

from palmette.arena.events import Key
from palmette.arena.folder import AnswerPair
from palmette.arena.state import State

# {a pair of models: {id of a prompt: their answers}}
ByPair = Mapping[frozenset[str], Mapping[str, AnswerPair]]


class Remaining:
    """What each person can still be asked: what they have not judged, and whose models they do not know.

    Args:
        possible: everything that may be asked.
        state: what holds in the arena. `changed` tells when it has changed.
    """

    def __init__(self, possible: Iterable[AnswerPair], state: State) -> None:
        self._possible = {one.key: one for one in possible}
        self._state = state
        self._with_answer: dict[tuple[str, str], list[Key]] = defaultdict(list)
        for one in self._possible.values():
            for answer in one.answers:
                self._with_answer[answer].append(one.key)
        self._left: dict[str, dict[frozenset[str], dict[str, AnswerPair]]] = {}
        self._number: dict[str, int] = {}

    def find(self, key: Key) -> AnswerPair | None:
        """The answers of two models to a prompt, if they may be asked."""
        return self._possible.get(key)

    def of(self, voter: str) -> ByPair:
        """What a person can still be asked. Every pair of models has a prompt."""
        if voter not in self._left:
            self._left[voter], self._number[voter] = {}, 0
            for key in self._possible:
                self._put(voter, key)
        return self._left[voter]

    def number(self, voter: str) -> int:
        """How much a person can still be asked."""
        self.of(voter)
        return self._number[voter]

    def changed(self, voter: str, key: Key, answers: Iterable[tuple[str, str]]) -> None:
        """Take notice that a person has judged something, took it back, or was told who wrote some answers."""
        if voter in self._left:
            for one in {key, *(one for answer in answers for one in self._with_answer.get(answer, ()))}:
                self._put(voter, one)

    def _put(self, voter: str, key: Key) -> None:
        """Put a comparison among those that are left for a person, or take it away."""
        comparison = self._possible.get(key)
        if comparison is None:
            return
        prompt, models = key
        prompts = self._left[voter].setdefault(models, {})
        before = prompt in prompts
        if self._state.judged(voter, key) or self._state.knows(voter, comparison.answers):
            prompts.pop(prompt, None)
        else:
            prompts[prompt] = comparison
        self._number[voter] += (prompt in prompts) - before
        if not prompts:
            del self._left[voter][models]
