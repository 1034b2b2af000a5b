"""Whether something is continued with the settings that it was begun with: one function, for runs, jobs, sweeps and
chains.
"""

from __future__ import annotations

from typing import Any

import pytest

from palmette.errors import RunError
from palmette.run import check_same

DEFAULTS: dict[str, Any] = {"seed": 0, "train": {"epochs": 2, "schedule": "cosine"}, "patterns": {}}


def same(before: dict[str, Any], now: dict[str, Any], defaults: dict[str, Any] | None = None) -> None:
    check_same(before, now, where="runs/a", way_out="Choose another output.", defaults=defaults)


@pytest.mark.parametrize(
    ("before", "now"),
    [
        ({}, {}),
        ({"train": {"epochs": 2}}, {"train": {"epochs": 2}}),
        ({"data": [1, 2]}, {"data": (1, 2)}),  # JSON knows lists only
        ({"parts": {1: "a"}}, {"parts": {"1": "a"}}),  # and keys that are text
        ({"train.epochs": 5}, {"train": {"epochs": 5}}),  # as sweeps wrote it once
        ({}, {"seed": 0}),  # a setting that came later
        ({}, {"train": {"schedule": "cosine"}}),
        ({"train": {"epochs": 3}}, {"train": {"epochs": 3, "schedule": "cosine"}, "seed": 0}),
        ({"seed": 0}, {}),  # a setting that is said no more, or is gone
        ({}, {"patterns": {}}),
        ({}, {"other": None}),
    ],
)
def test_the_same(before: dict[str, Any], now: dict[str, Any]) -> None:
    same(before, now, DEFAULTS)
    same(now, before, DEFAULTS)


@pytest.mark.parametrize(
    ("before", "now", "message"),
    [
        ({"seed": 1}, {"seed": 2}, "seed = 1, and now it is 2"),
        ({"train": {"epochs": 3}}, {"train": {"epochs": 4}}, "train.epochs = 3, and now it is 4"),
        ({}, {"train": {"epochs": 3}}, "train.epochs = 2, and now it is 3"),
        ({"train": {"epochs": 3}}, {}, "train.epochs = 3, and now it is 2"),
        ({"seed": None}, {"seed": 0}, "seed = None, and now it is 0"),  # said to be None, so not the default
        ({}, {"new": 1}, "new = None, and now it is 1"),  # no default known
        ({"old": "x"}, {}, "old = 'x', and now it is None"),
        ({"patterns": {}}, {"patterns": {"q": 4}}, "patterns.q = None, and now it is 4"),
        ({"patterns": {"q": 4}}, {"patterns": {}}, "patterns.q = 4, and now it is None"),
        ({"learn": "answer"}, {"learn": {"answer": 1.0}}, "learn = 'answer', and now it is None"),
        ({"data": ["a", "b"]}, {"data": ["b", "a"]}, r"data = ['a', 'b'], and now it is ['b', 'a']"),
        ({"b": 1, "a": 1}, {"b": 2, "a": 2}, "a = 1, and now it is 2"),  # the first by name
    ],
)
def test_another(before: dict[str, Any], now: dict[str, Any], message: str) -> None:
    with pytest.raises(RunError) as caught:
        same(before, now, DEFAULTS)
    assert caught.value.problem == f"runs/a was begun with {message}"
    assert caught.value.way_out == "Choose another output."


def test_without_defaults_what_is_new_differs() -> None:
    with pytest.raises(RunError, match=r"seed = None, and now it is 0"):
        same({}, {"seed": 0})
