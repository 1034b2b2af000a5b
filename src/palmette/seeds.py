"""Seeds derived from a run's seed."""

from __future__ import annotations

_STRIDE = 1_000_003  # a prime above the number of epochs and batches of any run


def derive_seed(seed: int, number: int) -> int:
    """The seed of one epoch, batch or setting of a run. Two pairs share a seed only where a number reaches 1,000,003.

    >>> derive_seed(2, 5)
    2000011

    Args:
        seed: the seed of the run.
        number: the number of the epoch, batch or setting, from 0.
    """
    return seed * _STRIDE + number
