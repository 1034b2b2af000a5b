"""What the page of chains concludes from their figures."""

from __future__ import annotations

from typing import Any

import pytest

from palmette.encoders.settings import McmcSettings
from palmette.encoders.summary import Diagnostics, Point
from palmette.pages.mcmc import conclusion


def points(r_hat: float | None, effective: float | None) -> list[Point]:
    return [Point(None, Diagnostics(250, 0.5, 0.5, effective, r_hat, 20.0, 9.0), (), ())]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "The same command with about 10,000 steps goes on."),
        ({"to": "The pier."}, "Give about 10,000 steps, and another folder."),
    ],
)
def test_chains_that_have_not_mixed_are_told_how_many_steps_would_do(changes: dict[str, Any], expected: str) -> None:
    """500 steps gave 20 effective values, and 400 are wanted: 20 times the steps."""
    said = conclusion(McmcSettings("m", "The ____.", **changes), points(1.2, 20.0))
    assert said.startswith("R-hat is 1.20, above 1.01: the chains have not mixed")
    assert said.endswith(f"400 effective values are usually enough, and there are 20. {expected}")


def test_chains_that_still_differ_after_many_effective_values_are_doubled() -> None:
    """800 values would be enough, so chains have not found the same texts yet."""
    assert "about 1,000 steps" in conclusion(McmcSettings("m", "The ____."), points(1.05, 800.0))


def test_other_conclusions() -> None:
    settings = McmcSettings("m", "The ____.")
    assert conclusion(settings, points(1.003, 900.0)) == "R-hat is 1.003. Nothing says that the chains have not mixed."
    assert conclusion(settings, points(None, None)).startswith("Too few steps, or chains that do not move")
