"""The state of a review: a fold over its events.

A person's latest verdict on a question counts. An undo takes one verdict back, and then the one before it counts again.
An adjudication decides a question for everybody.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain, pairwise
from typing import Literal

from palmette.review.events import Event, Shown, Span, Verdict

Key = tuple[str, str]  # annotator, question
Known = Literal["span", "no answer", "unknown"]
# After a longer pause somebody was away. The pause is no work, and does not lower the rate.
LONGEST_PAUSE = 300.0  # seconds


@dataclass(frozen=True, slots=True)
class Judgement:
    """A verdict that counts, with what was shown for it.

    Attributes:
        event: the event of the verdict or adjudication.
        shown: what the person was shown. None if no event says so, as for imported verdicts.
    """

    event: Event
    shown: Shown | None

    @property
    def verdict(self) -> Verdict:
        """The verdict itself."""
        assert self.event.verdict is not None
        return self.event.verdict

    @property
    def known(self) -> Known:
        """What the verdict says about the right answer: a span, that there is none, or nothing (reject, skip)."""
        if self.verdict.span is not None:
            return "span"
        return "no answer" if self.verdict.kind in ("no_answer", "accept") else "unknown"

    @property
    def answer(self) -> Span | None:
        """The right span. None if there is none, or if it is not known: see `known`."""
        return self.verdict.span

    @property
    def right(self) -> bool | None:
        """Whether the suggestion is right according to the person. None if that is not known.

        Where the suggestion was hidden, it is right if the person gave the same answer.
        """
        if self.verdict.kind in ("accept", "reject"):
            return self.verdict.kind == "accept"
        if self.verdict.kind == "skip" or self.shown is None:
            return None
        return label_of(self.shown.span) == self.label

    @property
    def label(self) -> str | None:
        """The answer as a category for measures of agreement: its text, "" for no answer. None if it is not known."""
        return None if self.known == "unknown" else label_of(self.verdict.span)


@dataclass
class State:
    """What the events so far come to. `add` takes further ones.

    Attributes:
        judgements: the verdict that counts, for each person and question.
        adjudications: the adjudication that counts, for each question.
        shown: what each person was shown last for a question.
        num_undone: the number of verdicts that were taken back.
        last: the id of the last event.
    """

    judgements: dict[Key, Judgement] = field(default_factory=dict)
    adjudications: dict[str, Judgement] = field(default_factory=dict)
    shown: dict[Key, Event] = field(default_factory=dict)
    num_undone: int = 0
    last: int = 0
    _history: dict[Key, list[Judgement]] = field(default_factory=dict)
    _decided: dict[str, list[Judgement]] = field(default_factory=dict)
    _people: dict[str, dict[str, None]] = field(default_factory=dict)
    _times: dict[str, list[float]] = field(default_factory=dict)

    def add(self, event: Event) -> None:
        """Take one more event."""
        key = (event.annotator, event.question)
        self.last = max(self.last, event.id or 0)
        if event.kind == "shown":
            self.shown[key] = event
        elif event.kind == "undo":
            self._undo(key, event)
        else:
            before = self.shown.get(key)
            judged = Judgement(event, event.shown or (before.shown if before else None))
            self._times.setdefault(event.annotator, []).append(event.time.timestamp())
            if event.kind == "verdict":
                self._history.setdefault(key, []).append(judged)
            else:
                self._decided.setdefault(event.question, []).append(judged)
            self._settle(key)

    def _undo(self, key: Key, event: Event) -> None:
        for stack in (self._history.get(key, []), self._decided.get(event.question, [])):
            for judged in stack:
                if judged.event.id == event.undoes:
                    stack.remove(judged)
                    self.num_undone += 1
                    self._settle(key)
                    return

    def _settle(self, key: Key) -> None:
        """Let the latest verdict and the latest adjudication that were not taken back count."""
        self._people.setdefault(key[1], {})[key[0]] = None
        if own := self._history.get(key):
            self.judgements[key] = own[-1]
        else:
            self.judgements.pop(key, None)
        if decided := self._decided.get(key[1]):
            self.adjudications[key[1]] = decided[-1]
        else:
            self.adjudications.pop(key[1], None)

    @property
    def annotators(self) -> tuple[str, ...]:
        """Everybody who was shown something, or gave a verdict, by name."""
        return tuple(sorted({name for name, _ in (*self.shown, *self.judgements)}))

    def of(self, annotator: str | None = None) -> Iterator[Judgement]:
        """The verdicts that count, of one person or of all."""
        return (one for (name, _), one in self.judgements.items() if annotator in (None, name))

    def of_question(self, question: str) -> dict[str, Judgement]:
        """The verdicts that count on a question, by annotator."""
        found = {name: self.judgements.get((name, question)) for name in self._people.get(question, ())}
        return {name: one for name, one in found.items() if one is not None}

    def latest(self, annotator: str) -> Judgement | None:
        """What an undo of this person takes back: the verdict or adjudication given last. None if there is none."""
        decided = (one for one in self.adjudications.values() if one.event.annotator == annotator)
        return max(chain(self.of(annotator), decided), key=lambda one: one.event.id or 0, default=None)

    def counts(self, annotator: str | None = None) -> Counter[str]:
        """The number of verdicts that count, by kind."""
        return Counter(one.verdict.kind for one in self.of(annotator))

    def seconds(self, annotator: str | None = None) -> float:
        """The time that people took for the verdicts that count, in seconds."""
        return sum(one.verdict.seconds for one in self.of(annotator))

    def rate(self, annotator: str) -> float | None:
        """Verdicts of a person per minute of work. None before the second verdict.

        Pauses of more than `LONGEST_PAUSE` seconds do not count as work.
        """
        times = sorted(self._times.get(annotator, ()))
        gaps = [after - before for before, after in pairwise(times)]
        work = [gap for gap in gaps if gap <= LONGEST_PAUSE]
        return 60.0 * len(work) / sum(work) if sum(work) > 0.0 else None

    def accept_rate(self, annotator: str | None = None, *, blind: bool = False) -> float | None:
        """The share of suggestions that people found right, 0 to 1. None if none was judged.

        Args:
            annotator: one person, or everybody.
            blind: of the questions whose suggestion was hidden, or of the others. If people accept more of what they
                see than they find by themselves, suggestions sway them.
        """
        found = [
            one.right
            for one in self.of(annotator)
            if one.right is not None and (one.shown is not None and one.shown.blind) is blind
        ]
        return sum(found) / len(found) if found else None

    def conflicts(self) -> dict[str, dict[str, Judgement]]:
        """The questions on which people disagree and that nobody has decided, with their verdicts.

        People disagree if they gave other answers, or if one rejected the answer that another gave.
        """
        asked: dict[str, dict[str, Judgement]] = {}
        for (name, question), one in self.judgements.items():
            if question not in self.adjudications and one.verdict.kind != "skip":
                asked.setdefault(question, {})[name] = one
        return {question: judged for question, judged in asked.items() if disagree(judged.values())}

    def settled(self, question: str) -> Judgement | None:
        """The verdict that holds for a question: the adjudication, or what all who judged it agree on.

        A verdict that gives the answer goes before one that only rejects. None if nobody judged the question, or if
        people disagree.
        """
        if question in self.adjudications:
            return self.adjudications[question]
        judged = [one for one in self.of_question(question).values() if one.verdict.kind != "skip"]
        if not judged or disagree(judged):
            return None
        return next((one for one in judged if one.known != "unknown"), judged[0])


def disagree(judgements: Iterable[Judgement]) -> bool:
    """Whether verdicts on one question contradict each other."""
    judged = list(judgements)
    answers = {one.label for one in judged if one.label is not None}
    rejected = {label_of(one.shown.span) for one in judged if one.verdict.kind == "reject" and one.shown is not None}
    return len(answers) > 1 or bool(answers & rejected)


def label_of(span: Span | None) -> str:
    """An answer as a category: its text, wherever it stands, since the decoder sums equal strings. "" for no answer."""
    return "" if span is None else span.text


def fold(events: Iterable[Event], state: State | None = None) -> State:
    """The state that events lead to.

    Args:
        events: the events, by rising id.
        state: the state to continue from, which is changed. A new one if None.
    """
    state = State() if state is None else state
    for event in events:
        state.add(event)
    return state
