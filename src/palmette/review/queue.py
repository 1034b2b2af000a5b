"""The queue of questions: in which order people are asked, and what each of them is asked next.

A queue is made once, from predictions, and never changes. After a retraining another one takes its place (`LiveQueue`).
What was judged already is known from the state of the review, so a queue keeps no position.
"""

from __future__ import annotations

import hashlib
import heapq
import random
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, get_args

import numpy as np

from palmette.decode.prediction import Prediction
from palmette.errors import DataError
from palmette.review.acquisition import Hidden, closeness, disagreement, entropy, k_centres
from palmette.review.state import State

Strategy = Literal["mixed", "uncertain", "margin", "disagreement", "diverse", "random"]
STRATEGIES: tuple[Strategy, ...] = get_args(Strategy)
AUDIT, OVERLAP, RANDOM, UNCERTAIN = "audit", "overlap", "random", "uncertain"
# Shares of the draws of a mixed queue. The rest is uncertain.
RANDOM_SHARE = 0.2
MOST_OF_A_DOCUMENT = 2  # uncertain questions of one document, before every other document has had as many
BLIND_SHARE, OVERLAP_SHARE, AUDIT_SHARE = 0.1, 0.2, 0.25
MOST_CENTRES = 300  # questions that a diverse queue chooses before the rest, which takes time for each
RATERS = 2  # people who are asked a question of the overlap
RESERVED = 600.0  # seconds for which a question that somebody looks at is not given to others


@dataclass(frozen=True, slots=True)
class Item:
    """A question that may be asked.

    Attributes:
        question: its id.
        document_sha256: hash of its document.
        predictions: what each run predicts, first the run under review.
        hidden_D: the hidden state of the question in the run under review. None if it is not known.
    """

    question: str
    document_sha256: str
    predictions: tuple[Prediction, ...]
    hidden_D: Hidden | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Place:
    """A place in a queue.

    Attributes:
        question: the question.
        strategy: why it stands here: the strategy of the queue, or for a mixed queue the part that drew it.
        score: the number that it was ranked by. 0 if it was drawn at random.
        sampling_probability: the probability that it was drawn for this place, among all that had no place yet. For a
            question of the audit set, that of the audit set's draw. None in a queue that only ranks.
        raters: the number of people who are to judge it.
    """

    question: str
    strategy: str
    score: float
    sampling_probability: float | None
    raters: int = 1


@dataclass(frozen=True, slots=True)
class NextQuestion:
    """What a person is asked next.

    Attributes:
        place: the question, and why.
        blind: whether to hide suggestion and candidates.
    """

    place: Place
    blind: bool


@dataclass(frozen=True, slots=True)
class Queue:
    """Questions in the order in which people are asked.

    Attributes:
        places: the questions, first the one to be asked first.
        run: the name of the run whose predictions they were chosen by.
        blind_share: the share of questions whose suggestion is hidden, which is drawn for each person and question.
        seed: random seed of that draw.
    """

    places: tuple[Place, ...]
    run: str = ""
    blind_share: float = BLIND_SHARE
    seed: int = 0

    def next_for(self, annotator: str, state: State, time: datetime) -> NextQuestion | None:
        """The first question that a person has not judged, and that still needs a verdict. None if there is none left.

        A question that somebody else was shown within the last `RESERVED` seconds counts as judged by that person.

        Args:
            annotator: the person.
            state: the state of the review.
            time: the present time, in UTC.
        """
        taken: Counter[str] = Counter()
        for (name, question), one in state.judgements.items():
            if name != annotator and one.verdict.kind != "skip":
                taken[question] += 1
        for (name, question), shown in state.shown.items():
            fresh = (time - shown.time).total_seconds() < RESERVED
            if name != annotator and fresh and (name, question) not in state.judgements:
                taken[question] += 1
        for place in self.places:
            done = (annotator, place.question) in state.judgements or place.question in state.adjudications
            if not done and taken[place.question] < place.raters:
                return NextQuestion(place, self.is_blind(annotator, place.question))
        return None

    def is_blind(self, annotator: str, question: str) -> bool:
        """Whether the suggestion for a question is hidden from a person. It is the same each time."""
        drawn = hashlib.sha256(f"{self.seed}\n{annotator}\n{question}".encode()).digest()
        return int.from_bytes(drawn[:8], "big") < self.blind_share * 2**64

    def num_left(self, annotator: str, state: State) -> int:
        """The number of questions that this person could still be asked, if nobody else judged any."""
        judged = {question for name, question in state.judgements if name == annotator}
        others = Counter(
            question
            for (name, question), one in state.judgements.items()
            if name != annotator and one.verdict.kind != "skip"
        )
        return sum(
            place.question not in judged
            and place.question not in state.adjudications
            and others[place.question] < place.raters
            for place in self.places
        )


class LiveQueue:
    """The queue in use. Another one can take its place at any time, and no reader waits for it."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue

    @property
    def current(self) -> Queue:
        """The queue in use now. Keep it for as long as one request takes."""
        return self._queue

    def replace(self, queue: Queue) -> None:
        """Use another queue from now on."""
        self._queue = queue  # one assignment, so a reader sees the old queue or the new one


def make_queue(
    items: Sequence[Item],
    strategy: Strategy = "random",
    *,
    seed: int = 0,
    run: str = "",
    audit: Sequence[str] = (),
    audit_probability: float | None = None,
    audit_share: float = AUDIT_SHARE,
    overlap_share: float = OVERLAP_SHARE,
    blind_share: float = BLIND_SHARE,
    judged: Collection[str] = (),
) -> Queue:
    """Put questions in an order.

    Args:
        items: the questions, without those that need no further verdict.
        strategy: "uncertain" ranks by the entropy of the posterior, "margin" by the distance of the two likeliest
            outcomes, "disagreement" by how much several runs disagree, "diverse" by hidden states that cover all
            others, for the first `MOST_CENTRES` questions, "random" not at all. "mixed" draws the most uncertain
            question that is left, at most `MOST_OF_A_DOCUMENT` of a document, or one at random.
        seed: random seed.
        run: name of the run whose predictions they are.
        audit: questions of the audit set among the items. They come between the others.
        audit_probability: the probability with which they were drawn.
        audit_share: the share of places that they get, until all have one.
        overlap_share: the share of places whose question several people judge. They are drawn at random too.
        blind_share: see `Queue`.
        judged: questions among the items that were judged before. A diverse queue begins far from them.

    Raises:
        DataError: the strategy is unknown, or needs probabilities, several runs, or hidden states.
    """
    generator = random.Random(f"queue {seed}")
    audited = set(audit)
    waiting = [Place(one.question, AUDIT, 0.0, audit_probability) for one in items if one.question in audited]
    generator.shuffle(waiting)
    others = [one for one in items if one.question not in audited]
    if strategy == "mixed":
        ordered = _mixed(others, generator, overlap_share)
    elif strategy in STRATEGIES:
        ordered = _marked(_ranked(others, strategy, generator, judged), generator, overlap_share)
    else:
        raise DataError(f"{strategy!r} is no strategy of a queue", f"The strategies are {', '.join(STRATEGIES)}.")
    places: list[Place] = []
    for place in ordered:
        while waiting and generator.random() < audit_share:
            places.append(waiting.pop())
        places.append(place)
    return Queue((*places, *waiting), run, blind_share, seed)


def _ranked(
    items: Sequence[Item], strategy: Strategy, generator: random.Random, judged: Collection[str]
) -> Iterator[Place]:
    """All questions in the order of a strategy that is not mixed."""
    if strategy == "random":
        order = generator.sample(items, len(items))
        yield from (Place(one.question, RANDOM, 0.0, 1.0 / (len(items) - n)) for n, one in enumerate(order))
        return
    if strategy == "diverse":
        yield from _diverse(items, generator, judged)
        return
    scores = sorted(((_score(one, strategy), index) for index, one in enumerate(items)), key=lambda pair: -pair[0])
    yield from (Place(items[index].question, strategy, score, None) for score, index in scores)


def _diverse(items: Sequence[Item], generator: random.Random, judged: Collection[str]) -> Iterator[Place]:
    """First questions far from all before them, and then the others at random."""
    known = [one for one in items if one.hidden_D is not None]
    if items and not known:
        raise DataError("the strategy diverse needs a hidden state of each question", "Use the strategy random.")
    left = [one for one in known if one.question not in judged]
    first: set[str] = set()
    if left:
        near = [one.hidden_D for one in known if one.question in judged]
        states_ND = np.array([one.hidden_D for one in left], dtype=np.float64)
        near_KD = np.array(near, dtype=np.float64) if near else None
        for index, distance in zip(*k_centres(states_ND, min(len(left), MOST_CENTRES), near_KD), strict=True):
            first.add(left[index].question)
            yield Place(left[index].question, "diverse", distance, None)
    others = [one.question for one in items if one.question not in first]
    yield from (Place(name, RANDOM, 0.0, None) for name in generator.sample(others, len(others)))


def _score(item: Item, strategy: Strategy) -> float:
    if strategy == "disagreement":
        return disagreement(item.predictions)
    return {"uncertain": entropy, "margin": closeness}[strategy](item.predictions[0])


def _marked(places: Iterator[Place], generator: random.Random, overlap_share: float) -> Iterator[Place]:
    """Places, of which a random share is for several people."""
    for one in places:
        raters = RATERS if generator.random() < overlap_share else 1
        yield Place(one.question, one.strategy, one.score, one.sampling_probability, raters)


def _mixed(items: Sequence[Item], generator: random.Random, overlap_share: float) -> Iterator[Place]:
    """Each place is drawn anew: at random, for several people (also at random), or as the most uncertain one left.

    So every question that is left has a chance at every place, and `sampling.unbiased_mean` holds.
    """
    scores = [entropy(one.predictions[0]) for one in items]
    best = _MostUncertain([one.document_sha256 for one in items], scores)
    left = list(range(len(items)))
    place_of = {index: place for place, index in enumerate(left)}
    by_chance = min(1.0, RANDOM_SHARE + overlap_share)
    while left:
        top = best.peek()
        drawn = generator.random()
        chosen = generator.choice(left) if drawn < by_chance else top
        strategy = OVERLAP if drawn < overlap_share else RANDOM if drawn < by_chance else UNCERTAIN
        probability = by_chance / len(left) + (1.0 - by_chance) * (chosen == top)
        best.take(chosen, counts=strategy == UNCERTAIN)
        last = left.pop()  # fills the gap, so that removing takes no longer in a long list
        if last != chosen:
            left[place_of[chosen]], place_of[last] = last, place_of[chosen]
        raters = RATERS if strategy == OVERLAP else 1
        score = scores[chosen] if strategy == UNCERTAIN else 0.0
        yield Place(items[chosen].question, strategy, score, min(1.0, probability), raters)


class _MostUncertain:
    """The question with the highest score, of the documents that gave the fewest so far, counted in rounds.

    In each round a document gives at most `MOST_OF_A_DOCUMENT` questions.

    Args:
        documents: the document of each question.
        scores: the score of each question.
    """

    def __init__(self, documents: Sequence[str], scores: Sequence[float]) -> None:
        self._documents = documents
        self._given: Counter[str] = Counter()
        self._taken: set[int] = set()
        self._heap = [(0, -score, index) for index, score in enumerate(scores)]
        heapq.heapify(self._heap)

    def peek(self) -> int:
        """The index of this question, which stays. There must be one."""
        while True:
            turn, score, index = self._heap[0]
            now = self._given[self._documents[index]] // MOST_OF_A_DOCUMENT
            if index not in self._taken and now == turn:
                return index
            heapq.heappop(self._heap)
            if index not in self._taken:
                heapq.heappush(self._heap, (now, score, index))

    def take(self, index: int, *, counts: bool) -> None:
        """Remove a question. Whether it `counts` among those of its document."""
        self._taken.add(index)
        self._given[self._documents[index]] += counts
