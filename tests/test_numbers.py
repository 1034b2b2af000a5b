"""Numbers: digits by uncertainty, and no interval that says nothing. What is expected is written by hand."""

from __future__ import annotations

import math

import pytest

from palmette.numbers import duration, fixed, interval, places_of, readable, with_interval


@pytest.mark.parametrize(
    ("value", "digits", "shown"),
    [
        (6.1403, 3, "6.14"),
        (6.1403, 2, "6.1"),
        (0.9996, 3, "1"),
        (999.6, 3, "1,000"),
        (-0.01234, 3, "-0.0123"),
        (1234567.0, 3, "1,234,567"),
        (1e-9, 3, "1e-9"),
        (0.0, 3, "0"),
        (math.inf, 3, "inf"),
        (math.nan, 3, "nan"),
    ],
)
def test_significant_digits(value: float, digits: int, shown: str) -> None:
    assert readable(value, digits) == shown


def test_an_interval_decides_how_many_digits_are_known() -> None:
    """Half widths of 12, 3.4, 0.34 and 0.034, of which two digits are written."""
    assert [places_of((50 - half, 50 + half), 4) for half in (12, 3.4, 0.34, 0.034)] == [0, 1, 2, 3]
    assert places_of((50 - 0.034, 50 + 0.034), 1) == 1
    assert (places_of((2.0, 2.0), 1), places_of((2.5, 2.5), 1)) == (0, 1)


def test_an_interval_that_shows_one_number_twice_is_left_out() -> None:
    assert interval((2.0, 2.0), 0) == ""
    assert interval((1.99, 2.04), 1) == ""
    assert with_interval(100.0, (100.0, 100.0)) == "100"
    assert with_interval(0.817, (0.783, 0.852), scale=100) == "81.7 (78.3 to 85.2)"


def test_signs_and_zero() -> None:
    assert [fixed(value, sign=True) for value in (0.04, -0.04, 1.25)] == ["+0.0", "+0.0", "+1.2"]
    assert interval((-0.5, 0.25), 2, sign=True) == "-0.50 to +0.25"


def test_times() -> None:
    assert [duration(seconds) for seconds in (0.04, 3.21, 89.6, 5399, 86400)] == [
        "0.04 s", "3.2 s", "90 s", "90 min", "24 h",
    ]  # fmt: skip
