"""Loss weights of tokens, by the part of a record that they belong to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

from palmette.errors import DataError
from palmette.tree.segments import Segment

Learn = Literal["full", "assistant", "answer"] | Mapping[str, float]


def check_weights(weights: Mapping[str, float], kinds: Sequence[str]) -> None:
    """Check weights by kind of token.

    Raises:
        DataError: an unknown kind, a weight below 0, or none above it.
    """
    for kind, weight in weights.items():
        if kind not in kinds or not 0 <= weight < float("inf"):
            raise DataError(
                f"learn has the weight {weight} for {kind!r}", f"Kinds are {', '.join(kinds)}. Weights are 0 or more."
            )
    if not any(weights.values()):
        raise DataError("learn gives no kind of token a weight", f"Give at least one of {', '.join(kinds)} one.")


def spare_first(segments: Sequence[Segment]) -> list[Segment]:
    """The segments with no weight on their very first token, which nothing predicts.

    >>> segments = [Segment((5, 6), learn=2.0), Segment((7,), learn=1.0)]
    >>> [(segment.tokens, segment.learn) for segment in spare_first(segments)]
    [((5,), 0.0), ((6,), 2.0), ((7,), 1.0)]
    """
    spared = list(segments)
    first = next(index for index, segment in enumerate(spared) if segment.tokens)
    opening = spared[first]
    if opening.learn:
        alone = replace(opening, tokens=opening.tokens[:1], learn=0.0)
        spared[first : first + 1] = [alone, replace(opening, tokens=opening.tokens[1:], text="")]
    return spared
