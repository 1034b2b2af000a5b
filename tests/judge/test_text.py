"""Verdicts read out of text, and grades by both rules."""

from __future__ import annotations

import pytest

from palmette.judge.orders import BothOrders, adjusted_win_rate
from palmette.judge.text import read_choice, read_grade


@pytest.mark.parametrize(
    ("text", "choice"),
    [
        ("[[A]]", "A"),
        ("Assistant B is clearer.\n[[B]]\n", "B"),
        ("It is even.\n\n**Final verdict: [[C]]**", "tie"),
        ("Verdict: tie", "tie"),
        ("> Answer A", "A"),
        ("A", "A"),
        ("C", None),  # a letter that means a tie only in MT-Bench's brackets
        ("[[A]]\n[[B]]", None),  # it changed its mind
        ("[[A]]\nTo say it again:\n[[A]]", "A"),
        ('Format: "[[A]]" if A is better, "[[B]]" if B is.\nB is better.\n[[B]]', "B"),  # it repeats the format
        ("B is better: [[B]]", None),
        ("A good answer\nBoth are fine", None),
        ("", None),
    ],
)
def test_choices(text: str, choice: str | None) -> None:
    assert read_choice(text) == choice


@pytest.mark.parametrize(
    ("text", "line", "mt_bench"),
    [
        ("Rating: [[7]]", 7.0, 7.0),
        ("Good. Rating: [[7.5]]", None, 7.5),
        ("[[5]] or [[6]]", None, 5.0),
        ("5\n6", None, None),
        ("see [3]\nScore: 4/10", 4.0, 3.0),
        ("8 out of 10.", 8.0, None),
        ("[[0]]", None, 0.0),
        ("[[11]]", None, 11.0),
        ("no number", None, None),
        ("2024", None, None),
    ],
)
def test_grades(text: str, line: float | None, mt_bench: float | None) -> None:
    assert read_grade(text) == line
    assert read_grade(text, "mt-bench") == mt_bench


def test_a_judge_of_places_is_undecided_and_inconsistent() -> None:
    """One that always prefers what it sees first has a mean of one half on every pair."""
    both = BothOrders.as_shown("A", "A")
    assert (both.preference, both.inconsistent, both.choice("mt-bench")) == (0.5, True, "tie")


@pytest.mark.parametrize(
    ("first", "second", "preference", "inconsistent", "by_mt_bench"),
    [
        ("A", "A", 1.0, False, "A"),
        ("B", "B", 0.0, False, "B"),
        ("tie", "tie", 0.5, False, "tie"),
        ("B", "tie", 0.25, True, "tie"),
        ("A", None, 1.0, False, None),
        (None, None, None, False, None),
    ],
)
def test_both_orders(first, second, preference, inconsistent, by_mt_bench) -> None:
    both = BothOrders(first, second)
    assert (both.preference, both.inconsistent, both.choice("mt-bench")) == (preference, inconsistent, by_mt_bench)


def test_the_adjusted_win_rate_drops_what_was_not_read() -> None:
    assert adjusted_win_rate(["A", "B", "tie", "tie", None, None]) == 0.5
    assert adjusted_win_rate([None]) is None
