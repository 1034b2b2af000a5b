"""Numbers as people read them: only the digits that are known, units in words, intervals only where they say something.

Every table, page and message formats its numbers here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

NONE = "-"  # stands where there is no value


def readable(value: float, digits: int = 3) -> str:
    """A number with so many significant digits, at most. Whole parts are never rounded.

    >>> [readable(value) for value in (12345.6, 98.765, 6.14, 0.5, 0.00004, 0.0)]
    ['12,346', '98.8', '6.14', '0.5', '4e-5', '0']
    >>> readable(6.14, 2), readable(98.765, 2)
    ('6.1', '99')
    """
    if not value or not math.isfinite(value):
        return f"{value:g}"
    places = digits - 1 - math.floor(math.log10(abs(value)))
    if places > digits + 2:
        return plain(f"{value:.{digits}g}")
    shown = f"{value:,.{max(0, places)}f}"
    return shown.rstrip("0").rstrip(".") if places > 0 else shown


def fixed(value: float | None, places: int = 1, *, sign: bool = False) -> str:
    """A number with so many decimals, and a dash for none. What rounds to 0 has no minus.

    >>> fixed(12.345), fixed(None), fixed(0.5, 3), fixed(-0.04), fixed(2.0, sign=True)
    ('12.3', '-', '0.500', '0.0', '+2.0')
    """
    if value is None:
        return NONE
    rounded = round(value, places) + 0.0  # a negative zero becomes 0
    return f"{rounded:{'+' if sign else ''},.{places}f}"


def places_of(interval: Sequence[float] | None, most: int = 1) -> int:
    """The decimals that a figure deserves: two digits of half its interval's width, but no more than `most`.

    That is the habit of physics for a value with its uncertainty. A share of 20 questions gets no decimals, since it is
    known to about ten percent, and a share of 12,000 gets one. Where both ends are one whole number, all samples are.

    >>> places_of((70.1, 94.3)), places_of((70.1, 74.3)), places_of((0.912, 0.934), 3), places_of(None)
    (0, 1, 3, 1)
    >>> places_of((100.0, 100.0))
    0

    Args:
        interval: the two ends. None for a figure whose uncertainty is unknown, which gets `most`.
        most: the most decimals.
    """
    if interval is None:
        return most
    if not interval[1] > interval[0]:
        return 0 if interval[0] == round(interval[0]) else most
    half = (interval[1] - interval[0]) / 2
    return min(most, max(0, 1 - math.floor(math.log10(half))))


def percent(share: float, number: int) -> str:
    """A share of so many things, in percent. A share of fewer than a hundred gets no decimal: it may be off by ten.

    >>> percent(0.41666, 12), percent(0.41666, 1200)
    ('42', '41.7')
    """
    return fixed(100 * share, 1 if number >= 100 else 0)


def in_percent(share: float, digits: int = 3) -> str:
    """A share as people write it, with so many significant digits at most.

    >>> in_percent(0.1), in_percent(0.035123, 2), in_percent(1.0)
    ('10 %', '3.5 %', '100 %')
    """
    return f"{readable(100 * share, digits)} %"


def interval(ends: Sequence[float] | None, places: int = 1, *, sign: bool = False) -> str:
    """An interval, and nothing where there is none or where it shows one number twice.

    >>> interval((0.25, 0.5), 2), interval((-1.0, 2.0), sign=True), interval((2.0, 2.0), 0), interval(None)
    ('0.25 to 0.50', '-1.0 to +2.0', '', '')
    """
    if ends is None:
        return ""
    low, high = (fixed(end, places, sign=sign) for end in ends)
    return f"{low} to {high}" if low != high else ""


def with_interval(value: float, ends: Sequence[float] | None, *, digits: int = 1, scale: float = 1.0) -> str:
    """A figure, with its interval in brackets if that says something.

    >>> with_interval(0.5, (0.25, 0.752), scale=100), with_interval(1.25, None, digits=2)
    ('50 (25 to 75)', '1.25')

    Args:
        value: the figure.
        ends: the two ends of its interval, in the same unit.
        digits: the most decimals.
        scale: what all three are multiplied by first.
    """
    scaled = None if ends is None else (scale * ends[0], scale * ends[1])
    places = places_of(scaled, digits)
    shown, between = fixed(scale * value, places), interval(scaled, places)
    return f"{shown} ({between})" if between else shown


def duration(seconds: float) -> str:
    """A time in the unit that suits it.

    >>> [duration(seconds) for seconds in (0.4, 75, 375, 9000)]
    ['0.4 s', '75 s', '6 min', '2.5 h']
    """
    if seconds < 10:
        return f"{readable(seconds, 1 if seconds < 1 else 2)} s"
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{readable(seconds / 3600, 2)} h"


def rate(per_second: float) -> str:
    """A rate in words, in the unit of time that suits it.

    >>> rate(6.14), rate(0.25), rate(0.002)
    ('6.1 a second', '15 a minute', '7.2 an hour')
    """
    for times, time in ((1, "a second"), (60, "a minute")):
        if per_second * times >= 1:
            return f"{readable(per_second * times, 2)} {time}"
    return f"{readable(per_second * 3600, 2)} an hour"


def count(number: int, one: str, many: str | None = None) -> str:
    """A number of things in words.

    >>> count(1, "question"), count(1204, "question"), count(2, "branch", "branches")
    ('1 question', '1,204 questions', '2 branches')
    """
    return f"{number:,} {one if number == 1 else many or f'{one}s'}"


def plain(text: str) -> str:
    """A number as text, without leading zeros in its exponent.

    >>> plain("4e-05")
    '4e-5'
    """
    return text.replace("e-0", "e-").replace("e+0", "e")
