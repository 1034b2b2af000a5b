"""Two results of one benchmark compared, item by item. Results under different rules are refused.

The interval of a difference of shares is that of Bonett and Price (2012, "Adjusted Wald confidence interval for a
difference of binomial proportions based on paired data"). Each of the two kinds of items that only one result has right
gets one item more, and all items two, so it has a width where every such item goes one way, and where there are none.
Which result is better is also put to the exact test of McNemar on these items: fewer than six of them say nothing. The
interval of Brier scores is 1.96 standard errors of the items' differences.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from palmette.choice.measures import BRIER, Outcome, Z, measures_of, value_of
from palmette.choice.results import Result
from palmette.errors import RunError

_LEVEL = 0.05
_SAME_DIFFERENCE = 1e-12  # of Brier scores that differ by rounding only
# What two results must have in common, and how messages name it.
_SAME = {
    "task": "task",
    "task_sha256": "wording of the task",
    "rule": "rule",
    "rendered": "kind of items",
    "shots": "number of examples",
    "seed": "seed of the examples",
    "limit": "limit of items",
}


@dataclass(frozen=True, slots=True)
class ComparedMeasure:
    """A measure under two results.

    Attributes:
        name: the measure.
        a, b: its values, shares or Brier scores.
        difference: b less a.
        low, high: the 95 % interval of the difference. None if nothing is known of it: for fewer than two items, and
            for Brier scores that differ by the same amount in every item.
        p: of McNemar's exact test, whether the items that only one result has right go one way by chance. None for
            Brier scores.
    """

    name: str
    a: float
    b: float
    difference: float
    low: float | None
    high: float | None
    p: float | None = None

    @property
    def better(self) -> str:
        """Which result is better, "A" or "B". "unclear" if there is no interval, it holds 0, or p is above 0.05."""
        if self.low is None or self.high is None or self.low <= 0.0 <= self.high:
            return "unclear"
        if self.p is not None and self.p > _LEVEL:
            return "unclear"
        return "B" if (self.difference > 0) is (self.name != BRIER) else "A"


@dataclass(frozen=True)
class ResultComparison:
    """Two results of the same items.

    Attributes:
        a, b: the results.
        compared: the measures that both have.
        only_a, only_b: the items that only one of them has right by the headline measure.
        notes: what else differs between them.
    """

    a: Result
    b: Result
    compared: tuple[ComparedMeasure, ...]
    only_a: tuple[tuple[Outcome, Outcome], ...]
    only_b: tuple[tuple[Outcome, Outcome], ...]
    notes: tuple[str, ...]


def compare_results(a: Result, b: Result) -> ResultComparison:
    """Compare two results.

    Raises:
        RunError: they are of different tasks, rules, examples or items.
    """
    _check_same(a.settings, b.settings)
    if [one.id for one in a.outcomes] != [one.id for one in b.outcomes]:
        raise RunError("the two results are of other items", "Compare results of the same data.")
    pairs = list(zip(a.outcomes, b.outcomes, strict=True))
    shared = [name for name in measures_of(a.outcomes) if name in measures_of(b.outcomes)]
    only = [(x, y) for x, y in pairs if x.right(a.headline) is not y.right(a.headline)]
    return ResultComparison(
        a,
        b,
        tuple(_compared(pairs, name) for name in shared),
        tuple(pair for pair in only if pair[0].right(a.headline)),
        tuple(pair for pair in only if pair[1].right(a.headline)),
        tuple(_notes(a.settings, b.settings)),
    )


def _check_same(a: Mapping[str, Any], b: Mapping[str, Any]) -> None:
    way_out = "Scores of different settings say nothing about the models. Run one of them again with the other's."
    for key, name in _SAME.items():
        if a.get(key) != b.get(key):
            raise RunError(f"the two results differ in their {name}: {a.get(key)!r} and {b.get(key)!r}", way_out)
    for key, name in (("data", "items"), ("shots_data", "examples")):
        hashes = [(one.get(key) or {}).get("sha256") for one in (a, b)]
        if hashes[0] != hashes[1]:
            sources = [(one.get(key) or {}).get("source") for one in (a, b)]
            raise RunError(f"the two results have other {name}: {sources[0]} and {sources[1]}", way_out)


def _notes(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    """What differs and may be meant to."""
    found = []
    if a["chat_template"] is not b["chat_template"]:
        one, other = ("A", "B") if a["chat_template"] else ("B", "A")
        found.append(f"{one} was asked through its chat template, and {other} was not.")
    hashes = {one.get("template_sha256") for one in (a, b)} - {None}  # older results do not name it
    if len(hashes) == 2:
        found.append("A and B have different chat templates.")
    if a["dtype"] != b["dtype"]:
        found.append(f"A computed in {a['dtype']}, and B in {b['dtype']}.")
    return found


def _compared(pairs: list[tuple[Outcome, Outcome]], name: str) -> ComparedMeasure:
    values = [(value_of(x, name), value_of(y, name)) for x, y in pairs]
    number = len(values)
    a, b = (math.fsum(pair[side] for pair in values) / number for side in (0, 1))
    if name == BRIER:
        low, high = _spread([y - x for x, y in values])
        return ComparedMeasure(name, a, b, b - a, low, high)
    won, lost = (sum((y - x) * side > 0 for x, y in values) for side in (1, -1))
    low, high = paired_interval(won, lost, number)
    return ComparedMeasure(name, a, b, b - a, low, high, mcnemar(won, lost))


def _spread(differences: list[float]) -> tuple[float, float] | tuple[None, None]:
    """The 95 % interval of the mean of differences. None where they do not vary."""
    number, mean = len(differences), math.fsum(differences) / len(differences)
    if max(differences) - min(differences) < _SAME_DIFFERENCE:
        return None, None
    half = Z * math.sqrt(math.fsum((one - mean) ** 2 for one in differences) / (number - 1) / number)
    return mean - half, mean + half


def paired_interval(won: int, lost: int, number: int) -> tuple[float, float] | tuple[None, None]:
    """The 95 % interval of a difference of two shares of the same items, by Bonett and Price (2012).

    >>> [round(end, 3) for end in paired_interval(9, 1, 48)]
    [0.032, 0.288]

    Args:
        won: items that only the second share counts.
        lost: items that only the first one counts.
        number: all items. Nothing is known from fewer than two.
    """
    if number < 2:
        return None, None
    up, down = (won + 1) / (number + 2), (lost + 1) / (number + 2)
    half = Z * math.sqrt((up + down - (up - down) ** 2) / (number + 2))
    return max(up - down - half, -1.0), min(up - down + half, 1.0)


def mcnemar(won: int, lost: int) -> float:
    """The two-sided p of McNemar's exact test: of a fair coin, at least as far from even.

    >>> mcnemar(6, 0), mcnemar(5, 0), mcnemar(0, 0)
    (0.03125, 0.0625, 1.0)
    """
    tail = sum(math.comb(won + lost, k) for k in range(min(won, lost) + 1))
    return min(1.0, tail / 2 ** (won + lost - 1)) if won + lost else 1.0
