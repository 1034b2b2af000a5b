"""How many verdicts it takes to see a gain, from how far one comparison of models was uncertain."""

from __future__ import annotations

import math

from scipy import special

LEVEL, POWER = 0.95, 0.8


def standard_error(low: float, high: float, level: float = LEVEL) -> float:
    """The standard error that a symmetric interval of a difference has come from.

    >>> round(standard_error(-1.96, 1.96), 3)
    1.0
    """
    return (high - low) / (2.0 * float(special.ndtri((1.0 + level) / 2.0)))


def verdicts_needed(error: float, number: int, gain: float, *, level: float = LEVEL, power: float = POWER) -> int:
    """The number of judged questions of the audit set at which a gain of this size would probably be seen.

    The variance of a mean falls with the number of questions, if more documents like these are judged. A gain is seen
    if its interval lies above 0, which happens with probability `power` where the true gain is (z_level + z_power)
    standard errors (Cohen, 1988, chapter 2).

    Args:
        error: the standard error of the difference that was measured, in any unit.
        number: the number of questions that it was measured on.
        gain: the gain to see, in the same unit, above 0.
        level: confidence level of the interval.
        power: the probability of seeing it.

    >>> verdicts_needed(2.0, 100, 5.604)
    100
    """
    reach = float(special.ndtri((1.0 + level) / 2.0) + special.ndtri(power))
    return max(1, math.ceil(number * (reach * error / gain) ** 2))


def smallest_gain(error: float, *, level: float = LEVEL, power: float = POWER) -> float:
    """The smallest true gain that a comparison of this standard error would probably have seen."""
    return float(special.ndtri((1.0 + level) / 2.0) + special.ndtri(power)) * error
