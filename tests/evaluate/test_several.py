"""Several evaluations of the same questions: order, differences to the best, and what is noise."""

from __future__ import annotations

import pytest

from palmette.errors import DataError
from palmette.evaluate.several import standings
from tests.support.scored import scored

BEST = [True] * 19 + [False]


def test_order_and_differences_by_hand() -> None:
    """Of 40 questions 20 are refused rightly by all, so each right answer is worth 2.5 points."""
    worst = [False] * 20
    found = standings({"worst": scored(worst), "best": scored(BEST), "near": scored(BEST[::-1])})
    assert [one.name for one in found] == ["best", "near", "worst"]
    assert [one.value for one in found] == [97.5, 97.5, 50.0]
    best, near, last = found
    assert (best.difference, best.p, best.worse) == (None, None, False)
    assert near.difference is not None
    assert last.difference is not None
    assert (near.difference.value, last.difference.value) == (0.0, -47.5)
    assert not near.worse
    assert last.worse
    assert last.p == pytest.approx(2 * 2 / 4001)  # no sample reverses it, and two are compared


def test_a_difference_that_stands_alone_may_not_stand_among_many() -> None:
    """Four of forty documents speak for the best one, and none against it. With p = 0.97^40... or so it is 0.03."""
    good = [True] * 40
    near = [False] * 4 + [True] * 36
    alone = standings({"good": scored(good), "near": scored(near)})[1]
    assert alone.worse
    # A sample that draws none of the four has no difference: (1 - 4 / 40)^40 = 0.0148 of the samples.
    assert alone.p == pytest.approx(2 * 0.0148, abs=0.012)
    many = {f"near{index}": scored(near) for index in range(9)}
    among = standings({"good": scored(good), **many})
    assert not any(one.worse for one in among)


def test_one_document_says_nothing_of_others() -> None:
    found = standings({"a": scored([True]), "b": scored([False])})
    assert [(one.name, one.difference, one.p, one.worse) for one in found] == [
        ("a", None, None, False),
        ("b", None, None, False),
    ]


def test_other_questions_are_refused() -> None:
    with pytest.raises(DataError, match="only one of the two runs"):
        standings({"a": scored([True, True]), "b": scored([True, True, True])})
