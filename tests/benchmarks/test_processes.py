"""The benchmark of one process against two: what it makes of the figures."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from tests.support.scripts import benchmark_scripts


@pytest.fixture(scope="module")
def bench() -> Iterator[SimpleNamespace]:
    """The module."""
    with benchmark_scripts(("processes",)) as modules:
        yield modules


def test_a_way_is_compared_with_the_first_one_in_the_same_round(bench: SimpleNamespace) -> None:
    """10 and 40 seconds against 20 and 20: twice and half as fast. The largest loss is 0.25 off."""
    turn = bench.processes.Turn
    first = [turn(20.0, 1000.0, [0.5, 1.0]), turn(20.0, 1200.0, [0.5, 1.0])]
    other = [turn(10.0, 3000.0, [0.5, 1.25]), turn(40.0, 2000.0, [0.5, 1.0])]
    assert bench.processes.row("training", "other", other, first) == (
        "| training | other | 25.0 (10.0 to 40.0) | 1.25 (0.50 to 2.00) | 3,000 | losses within 2.5e-01 |"
    )


def test_answers_that_differ_are_counted(bench: SimpleNamespace) -> None:
    turn = bench.processes.Turn
    first, other = [turn(1.0, 1.0, ["a", "b", "c"])], [turn(1.0, 1.0, ["a", "x", "c"])]
    assert bench.processes.alike(other, first) == "2 of 3 answers the same"
    with pytest.raises(ValueError, match="longer"):
        bench.processes.alike([turn(1.0, 1.0, ["a"])], first)
