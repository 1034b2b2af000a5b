"""Other ways to rank from votes: counts, mean win rates, and Elo.

They are known and easy to compare with. None of them accounts for who met whom (counts), or gives the same result in
another order of the votes (Elo). The scores are those of Evalica 0.4.2 with its default settings (Ustalov, 2025).
"""

from __future__ import annotations

import numpy as np

from palmette.arena.bradley_terry import Pairs, Values

_START, _SCALE, _STEP = 1000.0, 400.0, 4.0


def counts(pairs: Pairs) -> Values:
    """Wins and half of the ties of each model [M]."""
    size = len(pairs.models)
    count_M = np.zeros(size)
    count_M += np.bincount(pairs.left_N, pairs.weight_N * pairs.won_N, size)
    count_M += np.bincount(pairs.right_N, pairs.weight_N * (1.0 - pairs.won_N), size)
    return count_M


def win_rates(pairs: Pairs) -> Values:
    """The mean over the models that a model met of its win rate against them, a tie being half a win [M]."""
    size = len(pairs.models)
    won_MM = np.bincount(pairs.left_N * size + pairs.right_N, pairs.weight_N * pairs.won_N, size * size)
    lost_MM = np.bincount(pairs.right_N * size + pairs.left_N, pairs.weight_N * (1.0 - pairs.won_N), size * size)
    won_MM = (won_MM + lost_MM).reshape(size, size)
    met_MM = won_MM + won_MM.T
    share_MM = np.divide(won_MM, met_MM, out=np.zeros_like(won_MM), where=met_MM > 0)
    rates: Values = share_MM.sum(axis=1) / (met_MM > 0).sum(axis=1)
    return rates


def elo(pairs: Pairs) -> Values:
    """Elo's rating after all votes in their order [M]: from 1000, in steps of at most 4, a scale of 400."""
    rating = np.full(len(pairs.models), _START)
    for left, right, won, weight in zip(pairs.left_N, pairs.right_N, pairs.won_N, pairs.weight_N, strict=True):
        expected = 1.0 / (1.0 + 10.0 ** ((rating[right] - rating[left]) / _SCALE))
        change = _STEP * weight * (won - expected)
        rating[left] += change
        rating[right] -= change
    return rating
