"""What chains say about themselves: split R-hat and the effective sample size.

Both are those of Gelman et al. (2013), "Bayesian Data Analysis", 11.4 and 11.5, as Stan computes them: every chain is
split in halves, and autocorrelations are summed by Geyer's initial monotone sequence. Values are not ranked first.

The two are one figure, where chains have found the same texts: of N values whose autocorrelations add up to t, N / t
are effective, and the means of half chains have 2 t / N times the variance of a value. So R-hat is about
sqrt(1 + 2 t / N), which is 1.01 at 100 effective values of each chain.

C chains, N values of a chain.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

MIXED = 1.01  # R-hat above which chains have not mixed (Vehtari et al., 2021, "Rank-normalization, folding, and ...")
ENOUGH = 100  # effective values of each chain, at which R-hat is about that

_FEWEST = 4  # values of a half chain, below which neither says anything


def split_r_hat(chains: Sequence[Sequence[float]]) -> float | None:
    """How far apart chains still are. Near 1 when they have mixed, and 1.01 is a usual limit.

    Args:
        chains: a figure of each chain, (C, N).

    Returns:
        R-hat. None if chains are too short, or no chain moves.
    """
    halves = _halves(chains)
    if halves is None:
        return None
    within, total = _variances(halves)
    return math.sqrt(total / within) if within > 0 else None


def effective_sample_size(chains: Sequence[Sequence[float]]) -> float | None:
    """How many independent values say as much about the mean of a figure as all values of the chains.

    Args:
        chains: a figure of each chain, (C, N).

    Returns:
        The number, at most N C log10(N C). None if chains are too short, or no chain moves.
    """
    halves = _halves(chains)
    if halves is None:
        return None
    within, total = _variances(halves)
    if not within > 0:
        return None
    number, length = halves.shape
    centred = halves - halves.mean(1, keepdims=True)
    covariance = np.array([(centred[:, lag:] * centred[:, : length - lag]).sum(1) / length for lag in range(length)])
    correlation = 1 - (within - covariance.mean(1)) / total
    correlation[0] = 1.0
    pairs = correlation[: (length - 1) // 2 * 2].reshape(-1, 2).sum(1)
    negative = np.flatnonzero(pairs < 0)
    end = int(negative[0]) if len(negative) else len(pairs) - 1
    # The first pair that is left out still gives its even lag, as in Stan.
    rest = max(0.0, float(correlation[2 * end]))
    time = max(2 * np.minimum.accumulate(pairs[:end]).sum() + rest - 1, 1 / math.log10(number * length))
    return float(number * length / time)


def steps_needed(steps: int, num_chains: int, effective: float) -> int:
    """About how many steps would make R-hat small, in two digits. More, if chains have not found all kinds of texts.

    Args:
        steps: steps of each chain.
        num_chains: how many chains there are.
        effective: the effective sample size of all of them.

    >>> steps_needed(200, 4, 14.0)
    5800
    """
    needed = steps * ENOUGH * num_chains / effective
    unit: int = 10 ** max(0, math.floor(math.log10(needed)) - 1)
    return math.ceil(needed / unit) * unit


def _halves(chains: Sequence[Sequence[float]]) -> np.ndarray | None:
    """The halves of all chains. Of an odd number of values, the one in the middle is left out."""
    values = np.asarray(chains, dtype=np.float64)
    half = values.shape[1] // 2
    if half < _FEWEST:
        return None
    return np.concatenate([values[:, :half], values[:, values.shape[1] - half :]])


def _variances(halves: np.ndarray) -> tuple[float, float]:
    """The mean variance within chains, and the estimate of the whole variance."""
    length = halves.shape[1]
    within = float(halves.var(axis=1, ddof=1).mean())
    between = float(halves.mean(1).var(ddof=1))
    return within, within * (length - 1) / length + between
