"""Cohen's kappa: how far two raters agree, corrected for chance (Cohen, 1960).

It is 1 for full agreement and 0 for what chance gives. It is undefined (None) where both always say the same, since
nothing then tells agreement from habit. Letters: N units, C categories.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable

import numpy as np
import numpy.typing as npt

Counts = npt.NDArray[np.int64]
_ROUNDING = 1e-12  # of shares that sum to 1


def cohen_kappa(pairs: Iterable[tuple[Hashable, Hashable]]) -> float | None:
    """Cohen's kappa of two raters.

    Args:
        pairs: what the first and the second said about each unit.

    >>> cohen_kappa([(True, True), (False, False), (True, False), (False, False)])
    0.5
    """
    said_N2 = numbered_pairs(pairs)
    return weighted_kappa(said_N2, np.ones(len(said_N2), dtype=np.int64))


def numbered_pairs(pairs: Iterable[tuple[Hashable, Hashable]]) -> Counts:
    """What two raters said about each unit, as numbers of categories [N, 2].

    >>> numbered_pairs([("a", "b"), ("b", "b")]).tolist()
    [[0, 1], [1, 1]]
    """
    given = list(pairs)
    number = {category: n for n, category in enumerate(dict.fromkeys(one for pair in given for one in pair))}
    return np.array([[number[one], number[other]] for one, other in given], dtype=np.int64).reshape(-1, 2)


def weighted_kappa(said_N2: Counts, weight_N: Counts) -> float | None:
    """Cohen's kappa where each unit counts so many times.

    Args:
        said_N2: what both said about each unit, as numbers of categories.
        weight_N: how often each unit counts.
    """
    total = float(weight_N.sum())
    if not total:
        return None
    kinds = int(said_N2.max()) + 1
    first_C, second_C = (np.bincount(said_N2[:, side], weight_N, kinds) / total for side in (0, 1))
    agreed = float(weight_N @ (said_N2[:, 0] == said_N2[:, 1])) / total
    chance = float(first_C @ second_C)
    return None if chance > 1.0 - _ROUNDING else (agreed - chance) / (1.0 - chance)
