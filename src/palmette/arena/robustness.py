"""How few votes would have to go for another model to stand first (Broderick et al., 2020; Huang et al., 2025).

The influence of each vote on the difference of the first two strengths is known to first order. The votes with the
most influence are left out, most first, until a new fit shows another model first. The number is an upper bound: fewer
votes may do.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from palmette.arena.bradley_terry import Fit, Pairs, fit


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
    """About the fewest votes that decide which model is first. None if no third of the votes does."""
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
        out = np.argsort(-influence_N)
        removed_N = np.cumsum(influence_N[out])
        gap = float(found.parameter_P[order[0]] - found.parameter_P[rival])
        number = int(np.searchsorted(removed_N[: len(out) // 3], gap)) + 1
        while number <= len(out) // 3 and (best is None or number < best.votes):
            kept_N = np.ones(len(out))
            kept_N[out[:number]] = 0.0
            again = fit(replace(pairs, weight_N=pairs.weight_N * kept_N), ridge, found.parameter_P).parameter_P
            if int(np.argmax(again[:size])) != order[0]:
                best = Flip(pairs.models[int(np.argmax(again[:size]))], number)
                break
            number += max(1, number // 20)
    return best
