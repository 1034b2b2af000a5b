"""Whether rankings are right where an arena prefers pairs of which a vote tells most.

    python benchmarks/arena_drawing.py --arenas 200 --votes 400

Votes are drawn by known strengths, or by chances that no strengths explain (a beats b, b beats c, c beats a, each in
85 %). Then what is wanted are the strengths that votes on all pairs alike would give. Pairs are drawn as an arena draws
them, one after the other, each by the votes before it. The table says how often a 95 % interval holds
what is wanted, with and without weights, and how far the mean estimate is from it.
"""

from __future__ import annotations

import argparse
import itertools
import random
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from palmette.arena import bradley_terry
from palmette.arena.bradley_terry import Pairs
from palmette.arena.drawing import draw_pair
from palmette.arena.events import Shown
from palmette.arena.state import Tally

MODELS = ("a", "b", "c", "d", "e", "f")
PAIRS = [frozenset(pair) for pair in itertools.combinations(MODELS, 2)]
STRENGTHS = np.array([1.5, 0.7, 0.1, -0.1, -0.7, -1.5])
Chances = Mapping[frozenset[str], float]


def by_strengths() -> Chances:
    """The chance that the first model of each pair by name wins, by the strengths."""
    place = {model: STRENGTHS[index] for index, model in enumerate(MODELS)}
    return {pair: float(1.0 / (1.0 + np.exp(place[max(pair)] - place[min(pair)]))) for pair in PAIRS}


def in_a_circle() -> Chances:
    """The same, but a beats b, b beats c, and c beats a."""
    return {**by_strengths(), frozenset("ab"): 0.85, frozenset("bc"): 0.85, frozenset("ac"): 0.15}


def wanted(chances: Chances) -> Any:
    """The strengths that very many votes on all pairs alike would give."""
    ends = np.array([[MODELS.index(end) for end in sorted(pair)] for pair in PAIRS])
    number, won = len(PAIRS), np.array([chances[pair] for pair in PAIRS])
    every = Pairs(MODELS, ends[:, 0], ends[:, 1], won, np.full(number, 1e6), np.empty((number, 0)), np.arange(number))
    return bradley_terry.fit(every).parameter_P


def arena(chances: Chances, votes: int, each: int, source: random.Random) -> Pairs:
    """The votes of one arena, of people who give so many each."""
    tally = Tally()
    rows = []
    for number in range(votes):
        drawn = draw_pair(PAIRS, tally, (), source)
        assert drawn is not None
        left, right = sorted(drawn.models)
        won = source.random() < chances[drawn.models]
        tally.count(Shown("", left, right, "", "", 1.0), "left" if won else "right", 1)
        rows.append((MODELS.index(left), MODELS.index(right), float(won), drawn.weight, number // each))
    left_N, right_N, won_N, weight_N, voter_N = map(np.array, zip(*rows, strict=True))
    return Pairs(MODELS, left_N, right_N, won_N, weight_N / weight_N.mean(), np.empty((votes, 0)), voter_N)


def measure(
    chances: Chances, arenas: int, votes: int, each: int, source: random.Random
) -> dict[str, tuple[float, float, float]]:
    """For votes with and without weights: coverage, the largest bias, and the mean width of an interval, in nats."""
    truth_M = wanted(chances)
    found: dict[str, list[tuple[Any, Any]]] = {"weighted": [], "not weighted": []}
    for _ in range(arenas):
        pairs = arena(chances, votes, each, source)
        for name, used in (("weighted", pairs), ("not weighted", replace(pairs, weight_N=np.ones(votes)))):
            fitted = bradley_terry.fit(used)
            error_M = np.sqrt(np.diag(bradley_terry.covariance(used, fitted)))
            found[name].append((fitted.parameter_P - truth_M, error_M))
    table = {}
    for name, rows in found.items():
        miss_AM, error_AM = np.array([row[0] for row in rows]), np.array([row[1] for row in rows])
        coverage = float(np.mean(np.abs(miss_AM) <= 1.959964 * error_AM))
        table[name] = (coverage, float(np.abs(miss_AM.mean(axis=0)).max()), float(3.92 * error_AM.mean()))
    return table


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arenas", type=int, default=200, help="how many arenas are simulated for each case")
    parser.add_argument("--votes", type=int, default=400, help="votes of each arena")
    parser.add_argument("--each", type=int, default=5, help="votes of each person")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    print("| who wins | votes | coverage | largest bias, nats | mean width, nats |\n|---|---|---|---|---|")
    for case, chances in (("known strengths", by_strengths()), ("a circle", in_a_circle())):
        found = measure(chances, given.arenas, given.votes, given.each, random.Random(given.seed))
        for name, (coverage, bias, width) in found.items():
            print(f"| {case} | {name} | {100 * coverage:.1f} % | {bias:.3f} | {width:.2f} |", flush=True)


if __name__ == "__main__":
    main()
