"""How much one more vote on a pair of models would tell of the strengths of all."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from palmette.arena.bradley_terry import Pairs, fit
from palmette.arena.state import Tally


def falls(pairs: Sequence[frozenset[str]], tally: Tally) -> list[float]:
    r"""How much the variance of all strengths together would fall with one more vote on each pair of models.

    With V the inverse of the information of the votes so far, x the vector that is 1 at one model and -1 at the other,
    and h = p (1 - p) the information of a vote between them, a vote takes h |V x|^2 / (1 + h x'V x) off the trace of V
    (Sherman and Morrison, 1950). That is the variance of all strengths against their mean, in nats squared.

    Two models that never met anybody have a variance of 100 each by the prior, and p = 1/2. So V x = 100 x, and the
    fall is 1/4 * 20,000 / (1 + 1/4 * 200):

    >>> round(falls([frozenset("ab")], Tally())[0], 6) == round(5000 / 51, 6)
    True

    Args:
        pairs: the pairs.
        tally: the votes so far, also those on other models.
    """
    met = sorted((sorted(pair) for pair, number in tally.pairs.items() if number > 0))
    models = tuple(sorted({model for pair in (*pairs, *met) for model in pair}))
    place = {model: index for index, model in enumerate(models)}
    number_N = np.array([float(tally.pairs[frozenset(pair)]) for pair in met])
    votes = Pairs(
        models,
        np.array([place[left] for left, _ in met], dtype=np.int64),
        np.array([place[right] for _, right in met], dtype=np.int64),
        np.array([tally.wins[left, right] for left, right in met]) / number_N,
        number_N,
        np.empty((len(met), 0)),
        np.zeros(len(met), dtype=np.int64),
    )
    found = fit(votes)
    left_K, right_K = (np.array([place[sorted(pair)[side]] for pair in pairs]) for side in (0, 1))
    probability_K = 1.0 / (1.0 + np.exp(found.parameter_P[right_K] - found.parameter_P[left_K]))
    information_K = probability_K * (1.0 - probability_K)
    moved_MK = found.inverse_PP[:, left_K] - found.inverse_PP[:, right_K]
    column_K = np.arange(len(pairs))
    variance_K = moved_MK[left_K, column_K] - moved_MK[right_K, column_K]
    fall_K = information_K * (moved_MK**2).sum(axis=0) / (1.0 + information_K * variance_K)
    falls_K: list[float] = fall_K.tolist()
    return falls_K
