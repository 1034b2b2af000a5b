"""Two results of one benchmark compared, item by item. Results under different rules are refused."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from palmette.choice.measures import Outcome, measures_of, value_of
from palmette.choice.results import Result
from palmette.errors import RunError

_Z = 1.959963984540054
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
class Compared:
    """A measure under two results.

    Attributes:
        name: the measure.
        a, b: its values, shares or Brier scores.
        difference: b less a.
        low, high: the 95 % interval of the difference, from the differences of the items.
    """

    name: str
    a: float
    b: float
    difference: float
    low: float
    high: float

    @property
    def better(self) -> str:
        """Which result is better, "A" or "B". "unclear" if the interval holds 0."""
        if self.low <= 0.0 <= self.high:
            return "unclear"
        return "B" if (self.difference > 0) is (self.name != "brier") else "A"


@dataclass(frozen=True)
class Comparison:
    """Two results of the same items.

    Attributes:
        a, b: the results.
        compared: the measures that both have.
        only_a, only_b: the items that only one of them has right by the headline measure.
        notes: what else differs between them.
    """

    a: Result
    b: Result
    compared: tuple[Compared, ...]
    only_a: tuple[tuple[Outcome, Outcome], ...]
    only_b: tuple[tuple[Outcome, Outcome], ...]
    notes: tuple[str, ...]


def compare_results(a: Result, b: Result) -> Comparison:
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
    return Comparison(
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
    if a["dtype"] != b["dtype"]:
        found.append(f"A computed in {a['dtype']}, and B in {b['dtype']}.")
    return found


def _compared(pairs: list[tuple[Outcome, Outcome]], name: str) -> Compared:
    values = [(value_of(x, name), value_of(y, name)) for x, y in pairs]
    number = len(values)
    a, b = (math.fsum(pair[side] for pair in values) / number for side in (0, 1))
    mean = b - a
    variance = math.fsum((y - x - mean) ** 2 for x, y in values) / max(number - 1, 1)
    half = _Z * math.sqrt(variance / number)
    return Compared(name, a, b, mean, mean - half, mean + half)
