"""How few votes would have to go for another model to stand first (Broderick et al., 2020; Huang et al., 2025).

The influence of each vote on the difference of the first strength to each of the next three is known to first order.
The votes with the most influence are left out, most first, and a new fit shows who is first without them. The number
is an upper bound: fewer votes may do, and where none is found there may be some.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from palmette.arena.bradley_terry import Fit, Indices, Pairs, fit


@dataclass(frozen=True, slots=True)
class Flip:
    """The votes whose absence would put another model first.

    Attributes:
        first: the model that would stand first.
        votes: how many votes would have to go.
    """

    first: str
    votes: int


def fewest_to_flip(pairs: Pairs, found: Fit, ridge: float) -> Flip | None:
    """About the fewest votes that decide which model is first. None if none were found among a third of them."""
    size = len(pairs.models)
    order = np.argsort(-found.parameter_P[:size])
    best = None
    for rival in order[1:4]:
        contrast_P = np.zeros(len(found.parameter_P))
        contrast_P[order[0]], contrast_P[rival] = 1.0, -1.0
        direction_P = found.inverse_PP @ contrast_P
        residual_N = pairs.weight_N * (pairs.won_N - found.probability_N)
        design_N = direction_P[pairs.left_N] - direction_P[pairs.right_N] + pairs.feature_NF @ direction_P[size:]
        influence_N = residual_N * design_N
        found_here = _fewest(pairs, found, ridge, np.argsort(-influence_N))
        if found_here is not None and (best is None or found_here.votes < best.votes):
            best = found_here
    return best


def _fewest(pairs: Pairs, found: Fit, ridge: float, out: Indices) -> Flip | None:
    """The fewest of some votes, in their order, without which another model is first. They are at most a third."""
    size = len(pairs.models)
    first = int(np.argmax(found.parameter_P[:size]))

    def first_without(number: int) -> int:
        kept_N = np.ones(len(out))
        kept_N[out[:number]] = 0.0
        again = fit(replace(pairs, weight_N=pairs.weight_N * kept_N), ridge, found.parameter_P)
        return int(np.argmax(again.parameter_P[:size]))

    most, high = len(out) // 3, 1
    while high < most and first_without(high) == first:
        high = min(2 * high, most)
    if most < 1 or first_without(high) == first:
        return None
    low = high // 2  # the first stays first without so many
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if first_without(middle) == first else (low, middle)
    return Flip(pairs.models[first_without(high)], high)
