"""Holm's correction for several comparisons at once (Holm, 1979, "A simple sequentially rejective multiple test
procedure").
"""

from __future__ import annotations

from collections.abc import Sequence


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values of several comparisons, corrected so that one level holds for all of them together.

    The smallest of m is multiplied by m, the next by m - 1 and so on. None becomes smaller than one before it.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]

    Args:
        p_values: one for each comparison.
    """
    found, least = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda index: p_values[index])):
        least = max(least, min(1.0, (len(p_values) - rank) * p_values[index]))
        found[index] = least
    return found
