"""Which two answers somebody is shown: those of the pair of models with the fewest votes, at random among equals."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import TypeVar

from palmette.arena.folder import Comparison

Item = TypeVar("Item")


def draw(
    possible: Collection[Comparison], counts: Mapping[tuple[str, frozenset[str]], int], source: random.Random
) -> tuple[Comparison, float] | None:
    """Draw a comparison.

    First a pair of models is drawn, each of those with the fewest votes with the same probability. Then one of its
    prompts is drawn in the same way. So all pairs of models get the same number of votes, up to one. These votes need
    no weights: over the whole of an arena every pair comes as often as any other.

    Args:
        possible: what may be asked.
        counts: {(id of a prompt, both models): votes}.
        source: random numbers.

    Returns:
        The comparison, and the probability with which it was drawn, given the votes so far. None if nothing is
        possible.
    """
    prompts: dict[frozenset[str], list[Comparison]] = defaultdict(list)
    for one in possible:
        prompts[frozenset(one.models)].append(one)
    if not prompts:
        return None
    votes = Counter[frozenset[str]]()
    for (_, models), number in counts.items():
        votes[models] += number
    known = sorted(prompts, key=sorted)
    pairs = _fewest(known, [votes[pair] for pair in known])
    pair = source.choice(pairs)
    asked = _fewest(prompts[pair], [counts.get((one.prompt, pair), 0) for one in prompts[pair]])
    return source.choice(asked), 1.0 / (len(pairs) * len(asked))


def _fewest(items: Sequence[Item], votes: Sequence[int]) -> list[Item]:
    """The items with the fewest votes."""
    fewest = min(votes)
    return [item for item, number in zip(items, votes, strict=True) if number == fewest]
