"""Which two models somebody is shown: all alike at first, and then those of which a vote tells most.

While there are fewer than five votes for a pair of models on average, one of the pairs with the fewest votes comes
next. So all pairs are equally frequent, and each is as probable as any other at every place of a round.

After that, half of the probability is spread over all pairs, and the other half goes where one more vote makes the
variance of the strengths fall most (`precision.py`). Every vote keeps a weight: the probability of its pair if all were
alike, over the one that it was drawn with. It is at most 2. A fit with these weights estimates what votes on pairs that
are all alike would, also where no strengths explain who wins (Horvitz and Thompson, 1952).

Not covered: somebody who has judged all prompts of a pair is not asked about it any more, and the probabilities are
among the pairs that are left. Where people judge everything, pairs that come early get smaller weights than others.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TypeVar

from palmette.arena.events import Key, Shown
from palmette.arena.folder import AnswerPair
from palmette.arena.precision import falls
from palmette.arena.remaining import ByPair
from palmette.arena.state import Tally

FIRST = 5  # votes for each pair of models on average, before some are preferred
ALIKE = 0.5  # of the probability is spread over all pairs after that

Item = TypeVar("Item")
Pair = frozenset[str]


@dataclass(frozen=True, slots=True)
class DrawnPair:
    """A pair of models that was drawn.

    Attributes:
        models: both.
        probability: the one with which it was drawn, given the votes so far.
        weight: of a vote on it.
    """

    models: Pair
    probability: float
    weight: float


def draw_pair(
    pairs: Collection[Pair], tally: Tally, waiting: Collection[Shown], source: random.Random
) -> DrawnPair | None:
    """Draw a pair of models.

    Args:
        pairs: those that may be drawn.
        tally: the votes so far.
        waiting: what is open before others. It counts as votes while all pairs are alike.
        source: random numbers.

    Returns:
        The pair. None if there is none to draw.
    """
    known = sorted(pairs, key=sorted)
    if not known:
        return None
    if sum(tally.pairs[pair] for pair in known) < FIRST * len(known):
        opened = Counter(one.models for one in waiting)
        fewest = _fewest(known, [tally.pairs[pair] + opened[pair] for pair in known])
        return DrawnPair(source.choice(fewest), 1.0 / len(fewest), 1.0)
    fall_K = falls(known, tally)
    alike, total = 1.0 / len(known), sum(fall_K)
    shares = [ALIKE * alike + (1.0 - ALIKE) * fall / total for fall in fall_K]
    index = source.choices(range(len(known)), shares)[0]
    return DrawnPair(known[index], shares[index], alike / shares[index])


def draw(
    possible: ByPair, tally: Tally, waiting: Collection[Shown], source: random.Random
) -> tuple[AnswerPair, DrawnPair] | None:
    """Draw a comparison: a pair of models, and then one of its prompts with the fewest votes, all of them alike.

    Args:
        possible: what may be asked.
        tally: the votes so far.
        waiting: see `draw_pair`.
        source: random numbers.

    Returns:
        The comparison, and its pair with the probability of both together. None if nothing is possible.
    """
    drawn = draw_pair(possible, tally, waiting, source)
    if drawn is None:
        return None
    opened = Counter[Key](one.key for one in waiting)
    prompts = list(possible[drawn.models].values())
    asked = _fewest(prompts, [tally.keys[one.key] + opened[one.key] for one in prompts])
    return source.choice(asked), DrawnPair(drawn.models, drawn.probability / len(asked), drawn.weight)


def _fewest(items: Sequence[Item], votes: Sequence[int]) -> list[Item]:
    """The items with the fewest votes."""
    fewest = min(votes)
    return [item for item, number in zip(items, votes, strict=True) if number == fewest]
