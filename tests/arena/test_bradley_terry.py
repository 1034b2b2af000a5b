"""Strengths and their errors: against Evalica, by derivation, and by simulation with known strengths."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from statistics import NormalDist
from typing import Any

import evalica
import numpy as np
import pytest

from palmette.arena import bradley_terry, counting
from palmette.arena.bradley_terry import Pairs

NAMES = ("ash", "birch", "cedar", "dogwood", "elm", "fir")


def draw(
    generator: np.random.Generator, strength_M: Any, votes: int, *, ties: float = 0.0, copies: int = 1, voters: int = 50
) -> Pairs:
    """Votes of the Bradley-Terry model, each given `copies` times by the same voter."""
    size = len(strength_M)
    left_N = generator.integers(0, size, votes)
    right_N = (left_N + generator.integers(1, size, votes)) % size
    p_N = 1.0 / (1.0 + np.exp(strength_M[right_N] - strength_M[left_N]))
    won_N = (generator.random(votes) < p_N).astype(float)
    won_N[generator.random(votes) < ties] = 0.5
    voter_N = generator.integers(0, voters, votes)
    _, voter_N = np.unique(voter_N, return_inverse=True)
    left_N, right_N, won_N, voter_N = (np.repeat(column, copies) for column in (left_N, right_N, won_N, voter_N))
    number = votes * copies
    return Pairs(NAMES[:size], left_N, right_N, won_N, np.ones(number), np.empty((number, 0)), voter_N)


def by_evalica(pairs: Pairs, algorithm: Callable[..., Any]) -> list[float]:
    winner = {1.0: evalica.Winner.X, 0.0: evalica.Winner.Y, 0.5: evalica.Winner.Draw}
    found = algorithm(
        [pairs.models[index] for index in pairs.left_N],
        [pairs.models[index] for index in pairs.right_N],
        [winner[won] for won in pairs.won_N],
    )
    return [float(found.scores[name]) for name in pairs.models]


def shares(values: list[float]) -> list[float]:
    """The values divided by their sum: strengths are known up to a factor."""
    return [value / sum(values) for value in values]


@pytest.mark.parametrize("seed", range(3))
def test_all_scores_are_those_of_evalica(seed: int) -> None:
    generator = np.random.default_rng(seed)
    pairs = draw(generator, generator.normal(size=6), 400, ties=0.3)
    strength_M = np.exp(bradley_terry.fit(pairs, ridge=1e-10).parameter_P)
    theirs = by_evalica(pairs, partial(evalica.bradley_terry, tolerance=1e-12, limit=10_000))
    assert shares(strength_M.tolist()) == pytest.approx(shares(theirs), rel=1e-6)
    assert counting.counts(pairs).tolist() == by_evalica(pairs, evalica.counting)
    assert counting.win_rates(pairs).tolist() == pytest.approx(by_evalica(pairs, evalica.average_win_rate), rel=1e-12)
    assert counting.elo(pairs).tolist() == pytest.approx(by_evalica(pairs, evalica.elo), rel=1e-12)


def test_a_weight_of_two_is_the_vote_twice() -> None:
    pairs = draw(np.random.default_rng(1), np.array([0.5, 0.0, -0.5]), 60)
    twice = draw(np.random.default_rng(1), np.array([0.5, 0.0, -0.5]), 60, copies=2)
    weighted = replace(pairs, weight_N=2.0 * pairs.weight_N)
    assert bradley_terry.fit(weighted).parameter_P == pytest.approx(bradley_terry.fit(twice).parameter_P)


def test_the_error_of_two_models_is_that_of_a_clustered_proportion() -> None:
    """With p the share of wins, the variance of its log odds is that of the voters' sums over (N p (1 - p))^2."""
    won_N = np.array([1.0, 1, 0, 1, 1, 0, 0, 1, 1, 1])
    voter_N = np.array([0, 0, 0, 1, 1, 2, 2, 2, 3, 3])
    zeros = np.zeros(10, dtype=int)
    pairs = Pairs(("a", "b"), zeros, zeros + 1, won_N, np.ones(10), np.empty((10, 0)), voter_N)
    found = bradley_terry.fit(pairs, ridge=1e-7)
    p = 0.7
    sums = [sum(won_N[voter_N == voter] - p) for voter in range(4)]
    expected = 4 / 3 * sum(total**2 for total in sums) / (10 * p * (1 - p)) ** 2
    error = bradley_terry.errors_of_differences(bradley_terry.covariance(pairs, found))
    assert error[0, 1] ** 2 == pytest.approx(expected, rel=1e-6)
    assert max(error[0, 0], error[1, 1]) < 1e-5


def test_intervals_cover_known_strengths_where_people_repeat_themselves() -> None:
    """Every vote is given three times by its voter. Taken for independent, they promise too much."""
    generator, true_M = np.random.default_rng(7), np.array([0.8, 0.4, 0.0, -0.4, -0.8])
    covered: dict[str, list[bool]] = {"together": [], "apart": [], "all": []}
    for _ in range(300):
        pairs = draw(generator, true_M, 250, copies=3, voters=10_000)
        apart = replace(pairs, voter_N=np.arange(750))
        found = bradley_terry.fit(pairs)
        for name, votes in (("together", pairs), ("apart", apart)):
            error_M = np.sqrt(np.diag(bradley_terry.covariance(votes, found)))
            covered[name] += (np.abs(found.parameter_P - true_M) <= 1.96 * error_M).tolist()
        covariance_MM = bradley_terry.covariance(pairs, found)
        width = bradley_terry.simultaneous(covariance_MM).strengths * np.sqrt(np.diag(covariance_MM))
        covered["all"].append(bool((np.abs(found.parameter_P - true_M) <= width).all()))
    assert np.mean(covered["together"]) == pytest.approx(0.95, abs=0.02)
    assert np.mean(covered["all"]) == pytest.approx(0.95, abs=0.04)  # three standard errors of 300 draws
    # A third of the variance: 1.96 / sqrt(3) standard errors hold in 74 % of the cases.
    assert np.mean(covered["apart"]) == pytest.approx(2 * NormalDist().cdf(1.96 / 3**0.5) - 1, abs=0.03)


def test_the_simultaneous_width_of_independent_strengths() -> None:
    """The largest of M independent deviations stays below z with probability (2 F(z) - 1)^M."""
    found = bradley_terry.simultaneous(np.diag([1.0, 4.0, 9.0, 0.25]))
    assert found.strengths == pytest.approx(NormalDist().inv_cdf((1 + 0.95**0.25) / 2), rel=0.01)
    two = bradley_terry.simultaneous(np.eye(2))
    assert two.differences == pytest.approx(NormalDist().inv_cdf(0.975), rel=0.03)


def test_ranks_by_hand() -> None:
    """Differences have an error of 1 or so: the first is beyond the third alone."""
    covariance_MM = 0.5 * np.eye(3)
    assert bradley_terry.rank_ranges(np.array([2.5, 1.0, 0.0]), covariance_MM, 2.0) == [(1, 2), (1, 3), (2, 3)]
    assert bradley_terry.rank_ranges(np.array([0.0, 9.0, 3.0]), covariance_MM, 2.0) == [(3, 3), (1, 1), (2, 2)]


def test_a_model_that_never_lost_stays_finite_and_first() -> None:
    """At the maximum, the missing probability of n wins equals the pull of the prior on half of the difference."""
    zeros = np.zeros(40, dtype=int)
    pairs = Pairs(("a", "b"), zeros, zeros + 1, np.ones(40), np.ones(40), np.empty((40, 0)), np.arange(40))
    strength = bradley_terry.fit(pairs).parameter_P
    difference = strength[0] - strength[1]
    assert 40 / (1 + np.exp(difference)) == pytest.approx(bradley_terry.RIDGE * difference / 2, rel=1e-6)


def test_too_few_voters_are_taken_for_independent_votes() -> None:
    """Two people give 30 and 10 of 40 votes to a model. Then p = 3/4, and the log odds have a variance of 1 / (N p q).

    Each strength is half of the difference, so its variance is a quarter of that. The variance of the prior, a hundred,
    is that of the mean of both, of which no vote tells anything.
    """
    zeros = np.zeros(40, dtype=int)
    won_N = np.array([1.0] * 30 + [0.0] * 10)
    pairs = Pairs(("a", "b"), zeros, zeros + 1, won_N, np.ones(40), np.empty((40, 0)), np.arange(40) % 2)
    found = bradley_terry.fit(pairs)
    assert not bradley_terry.is_sandwich(pairs, found)
    covariance_MM = bradley_terry.covariance(pairs, found)
    expected = 1 / (40 * 0.75 * 0.25)
    assert bradley_terry.errors_of_differences(covariance_MM)[0, 1] ** 2 == pytest.approx(expected, rel=0.01)
    assert np.diag(covariance_MM).tolist() == pytest.approx([expected / 4] * 2, rel=0.01)
    assert bradley_terry.is_sandwich(replace(pairs, voter_N=np.arange(40)), found)


def test_too_few_voters_with_weights() -> None:
    """Two weights, 1 and 3, on votes of two people. The estimate is the weighted share p of wins.

    Its variance is p q times the sum of squared weights over the square of their sum, so that of the log odds is the
    sum of squares over p q and over the squared sum.
    """
    zeros, weight_N = np.zeros(40, dtype=int), np.array([1.0, 3.0] * 20)
    won_N = np.array([1.0] * 30 + [0.0] * 10)
    pairs = Pairs(("a", "b"), zeros, zeros + 1, won_N, weight_N, np.empty((40, 0)), np.arange(40) % 2)
    found = bradley_terry.fit(pairs)
    assert not bradley_terry.is_sandwich(pairs, found)
    p = float(weight_N @ won_N / weight_N.sum())
    expected = float((weight_N**2).sum() / weight_N.sum() ** 2) / (p * (1 - p))
    covariance_MM = bradley_terry.covariance(pairs, found)
    assert bradley_terry.errors_of_differences(covariance_MM)[0, 1] ** 2 == pytest.approx(expected, rel=0.01)
    assert expected > 1.2 / (40 * p * (1 - p))  # it is more than that of votes that count alike


def test_a_model_under_two_names_does_not_hide_the_ranks_of_others() -> None:
    """Everybody votes alike on both names, so their difference has no error at all."""
    generator = np.random.default_rng(4)
    left, right, won, voter = [], [], [], []
    for index in range(200):
        better, worse = (float(generator.random() < p) for p in (0.9, 0.1))
        for name, result in ((1, better), (2, worse), (3, worse)):  # d against c, a1 and a2 against c
            left.append({1: 3, 2: 0, 3: 1}[name])
            right.append(2)
            won.append(result)
            voter.append(index)
    number = len(won)
    pairs = Pairs(
        ("a1", "a2", "c", "d"), np.array(left), np.array(right), np.array(won), np.ones(number), np.empty((number, 0)),
        np.array(voter),
    )  # fmt: skip
    found = bradley_terry.fit(pairs)
    covariance_MM = bradley_terry.covariance(pairs, found)
    critical = bradley_terry.simultaneous(covariance_MM).differences
    assert bradley_terry.rank_ranges(found.parameter_P, covariance_MM, critical) == [(3, 4), (3, 4), (2, 2), (1, 1)]


def test_parts_that_never_met() -> None:
    pairs = Pairs(
        tuple("abcde"), np.array([0, 3]), np.array([1, 4]), np.ones(2), np.ones(2), np.empty((2, 0)), np.arange(2)
    )
    assert bradley_terry.parts(pairs) == [["a", "b"], ["d", "e"], ["c"]]
