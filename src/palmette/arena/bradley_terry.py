"""The Bradley-Terry model: a strength for each model, from votes on pairs, with errors that respect who voted.

The probability that the left answer wins is logistic(strength of left - strength of right + slopes * style), as in
Bradley and Terry (1952). A tie is half a win for each side. The likelihood is maximised by Newton's method, with a
normal prior of standard deviation 10 on each strength and slope (a ridge of 0.01). It fixes the zero of the scale, and
keeps a model that never lost at a finite place. It hardly moves the others.

The votes of one person are correlated. So the covariance is the sandwich with one score per voter (Liang and Zeger,
1986), with the usual factor C / (C - 1). Simultaneous intervals take the 95 % quantile of the largest studentised
deviation under that covariance, so all of them hold together in 95 % of the cases. A range of ranks counts the models
that are better, and those that are worse, beyond the simultaneous intervals of all differences (Mogstad et al., 2024,
"Inference for ranks").

Letters: N votes, M models, F features of style, P = M + F parameters, C voters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]

RIDGE = 0.01
RATING_PER_NAT = 400.0 / np.log(10.0)  # of the scale of Elo: 400 points are odds of 10
MEAN_RATING = 1000.0
_STEPS, _CLOSE = 100, 1e-10
_NOTHING = 1e-12  # a variance in nats squared that no votes give
_DRAWS = 20_000


@dataclass(frozen=True)
class Pairs:
    """Votes as arrays.

    Attributes:
        models: the names of the models [M].
        left_N, right_N: the models of each vote.
        won_N: 1 if the left answer won, 0 if the right one did, 0.5 for a tie.
        weight_N: how much each vote counts.
        feature_NF: how the style of the left answer differs, standardised. F may be 0.
        voter_N: who voted, numbered from 0.
    """

    models: tuple[str, ...]
    left_N: Indices
    right_N: Indices
    won_N: Values
    weight_N: Values
    feature_NF: Values
    voter_N: Indices


@dataclass(frozen=True)
class Fit:
    """The maximum of the likelihood, and its curvature.

    Attributes:
        parameter_P: strengths in nats, whose mean is 0, then slopes in nats for a standard deviation of a feature.
        probability_N: the probability that the left answer of each vote wins.
        inverse_PP: the inverse of the information, the prior's included.
        ridge: the precision of the prior.
    """

    parameter_P: Values
    probability_N: Values
    inverse_PP: Values
    ridge: float


def fit(pairs: Pairs, ridge: float = RIDGE, start_P: Values | None = None) -> Fit:
    """Fit strengths and slopes.

    Two models, three votes for the first and one for the second:

    >>> left, right = np.zeros(4, dtype=int), np.ones(4, dtype=int)
    >>> votes = Pairs(("a", "b"), left, right, np.array([1.0, 1, 1, 0]), np.ones(4), np.empty((4, 0)), np.arange(4))
    >>> strength = fit(votes, ridge=1e-9).parameter_P
    >>> round(float(np.exp(strength[0] - strength[1])), 6)
    3.0

    Args:
        pairs: the votes.
        ridge: the precision of the prior.
        start_P: where to begin. At 0 if None.
    """
    size = len(pairs.models) + pairs.feature_NF.shape[1]
    parameter_P = np.zeros(size) if start_P is None else start_P
    for _ in range(_STEPS):
        probability_N = probabilities(pairs, parameter_P)
        residual_N = pairs.weight_N * (pairs.won_N - probability_N)
        slope_P = score(pairs, residual_N) - ridge * parameter_P
        information_PP = _information(pairs, pairs.weight_N * probability_N * (1.0 - probability_N), ridge)
        step_P = np.asarray(np.linalg.solve(information_PP, slope_P), dtype=np.float64)
        step_P /= max(1.0, float(np.abs(step_P).max()) / 2.0)  # far from the maximum, a full step may overshoot
        parameter_P = parameter_P + step_P
        if float(np.abs(step_P).max()) < _CLOSE:
            break
    probability_N = probabilities(pairs, parameter_P)
    information_PP = _information(pairs, pairs.weight_N * probability_N * (1.0 - probability_N), ridge)
    inverse_PP = np.asarray(np.linalg.inv(information_PP), dtype=np.float64)
    return Fit(parameter_P, probability_N, inverse_PP, ridge)


def probabilities(pairs: Pairs, parameter_P: Values) -> Values:
    """The probability that the left answer of each vote wins [N]."""
    strength_M, slope_F = np.split(parameter_P, [len(pairs.models)])
    odds_N = strength_M[pairs.left_N] - strength_M[pairs.right_N] + pairs.feature_NF @ slope_F
    probability_N: Values = 1.0 / (1.0 + np.exp(-odds_N))
    return probability_N


def score(pairs: Pairs, residual_N: Values) -> Values:
    """The sum over votes of residual times design [P]."""
    size = len(pairs.models)
    of_models = np.bincount(pairs.left_N, residual_N, size) - np.bincount(pairs.right_N, residual_N, size)
    return np.concatenate([of_models, residual_N @ pairs.feature_NF])


def _information(pairs: Pairs, weight_N: Values, ridge: float) -> Values:
    """The sum over votes of weight times design times design, plus the ridge [P, P]."""
    size = len(pairs.models)
    both_MM = np.bincount(pairs.left_N * size + pairs.right_N, weight_N, size * size).reshape(size, size)
    both_MM = both_MM + both_MM.T
    of_models = np.diag(both_MM.sum(axis=1)) - both_MM
    weighted_NF = weight_N[:, None] * pairs.feature_NF
    columns = [
        np.bincount(pairs.left_N, column_N, size) - np.bincount(pairs.right_N, column_N, size)
        for column_N in weighted_NF.T
    ]
    cross_MF = np.stack(columns, axis=1) if columns else np.empty((size, 0))
    of_features = pairs.feature_NF.T @ weighted_NF
    information_PP: Values = np.block([[of_models, cross_MF], [cross_MF.T, of_features]])
    return information_PP + ridge * np.eye(len(information_PP))


def covariance(pairs: Pairs, found: Fit) -> Values:
    """The covariance of the parameters [P, P].

    That is the sandwich, with the votes of one person as one observation. It knows no more directions than there are
    voters, and where nothing is left to explain it is 0. Then every vote is taken for independent (`is_sandwich`), with
    the variance that the model gives it. Without weights that is the inverse of the information. Of the prior's
    variance it keeps what concerns a strength against the mean of all, since no vote tells the mean.
    """
    sandwich_PP = _sandwich(pairs, found)
    if _is_sandwich(pairs, sandwich_PP):
        return sandwich_PP
    against_mean_PP = np.eye(len(sandwich_PP))
    against_mean_PP[: len(pairs.models), : len(pairs.models)] -= 1.0 / len(pairs.models)
    spread_N = found.probability_N * (1.0 - found.probability_N)
    score_PP = _information(pairs, pairs.weight_N**2 * spread_N, found.ridge)
    inverse_PP: Values = against_mean_PP @ found.inverse_PP
    return inverse_PP @ score_PP @ inverse_PP.T


def is_sandwich(pairs: Pairs, found: Fit) -> bool:
    """Whether `covariance` takes the votes of one person together."""
    return _is_sandwich(pairs, _sandwich(pairs, found))


def _is_sandwich(pairs: Pairs, sandwich_PP: Values) -> bool:
    known_P = np.concatenate([np.ones(len(pairs.models), dtype=bool), differs(pairs)])
    enough = int(pairs.voter_N.max()) >= int(known_P.sum())
    return enough and bool((np.diag(sandwich_PP)[known_P] > _NOTHING).all())


def differs(pairs: Pairs) -> npt.NDArray[np.bool_]:
    """Whether each feature of style differs between the two answers of any vote [F]. Else its slope is unknown."""
    return np.asarray(pairs.feature_NF.any(axis=0), dtype=np.bool_)


def _sandwich(pairs: Pairs, found: Fit) -> Values:
    size, num_voters = len(pairs.models), int(pairs.voter_N.max()) + 1
    residual_N = pairs.weight_N * (pairs.won_N - found.probability_N)

    def by_voter(column_N: Indices) -> Any:
        return np.bincount(pairs.voter_N * size + column_N, residual_N, num_voters * size).reshape(num_voters, size)

    of_models = by_voter(pairs.left_N) - by_voter(pairs.right_N)
    columns = [np.bincount(pairs.voter_N, residual_N * column_N, num_voters) for column_N in pairs.feature_NF.T]
    score_CP = np.column_stack([of_models, *columns])
    factor = num_voters / max(num_voters - 1, 1)
    sandwich_PP: Values = factor * found.inverse_PP @ score_CP.T @ score_CP @ found.inverse_PP
    return sandwich_PP


def subset(pairs: Pairs, indices: Sequence[int]) -> Pairs:
    """Some of the votes, on the same models."""
    columns = {
        name: getattr(pairs, name)[indices]
        for name in ("left_N", "right_N", "won_N", "weight_N", "feature_NF", "voter_N")
    }
    return replace(pairs, **columns)


def errors_of_differences(covariance_MM: Values) -> Values:
    """The standard error of the difference of each two strengths [M, M], next to 0 on the diagonal.

    It is never 0: two models on which everybody votes alike, one model under two names for example, differ by nothing.
    """
    variance_M = np.diag(covariance_MM)
    squares_MM = variance_M[:, None] + variance_M[None, :] - 2.0 * covariance_MM
    errors_MM: Values = np.sqrt(np.maximum(squares_MM, _NOTHING))
    return errors_MM


@dataclass(frozen=True)
class Simultaneous:
    """How many standard errors hold for all at once, in 95 % of the cases.

    Attributes:
        strengths: for the strengths of all models, each against the mean.
        differences: for the differences of all pairs of models.
    """

    strengths: float
    differences: float


def simultaneous(covariance_MM: Values, seed: int = 0, level: float = 0.95) -> Simultaneous:
    """The quantiles of the largest studentised deviations, by draws from the normal law with this covariance."""
    values_M, vectors_MM = np.linalg.eigh(covariance_MM)
    root_MM = vectors_MM * np.sqrt(np.maximum(values_M, 0.0))
    generator = np.random.default_rng(seed)
    error_M = np.sqrt(np.diag(covariance_MM))
    error_MM = errors_of_differences(covariance_MM)
    upper = np.triu_indices(len(error_M), 1)
    largest, largest_of_pairs = [], []
    for _ in range(_DRAWS // 500):
        draw_SM = generator.standard_normal((500, len(error_M))) @ root_MM.T
        largest.append(np.max(np.abs(draw_SM) / error_M, axis=1))
        differences_SD = np.abs(draw_SM[:, upper[0]] - draw_SM[:, upper[1]]) / error_MM[upper]
        largest_of_pairs.append(differences_SD.max(axis=1))
    return Simultaneous(*(float(np.quantile(np.concatenate(found), level)) for found in (largest, largest_of_pairs)))


def rank_ranges(strength_M: Values, covariance_MM: Values, critical: float) -> list[tuple[int, int]]:
    """The best and the worst rank of each model, counted from 1."""
    beyond_MM = critical * errors_of_differences(covariance_MM)
    better_MM = strength_M[None, :] - strength_M[:, None] > beyond_MM  # [i, j]: j is better than i for certain
    best_M, worst_M = 1 + better_MM.sum(axis=1), len(strength_M) - better_MM.sum(axis=0)
    return list(zip(best_M.tolist(), worst_M.tolist(), strict=True))


def parts(pairs: Pairs) -> list[list[str]]:
    """The models in groups that no vote connects, the largest first. One group is what a ranking needs."""
    group = list(range(len(pairs.models)))

    def root(model: int) -> int:
        while group[model] != model:
            model = group[model]
        return model

    for left, right in {(int(a), int(b)) for a, b in zip(pairs.left_N, pairs.right_N, strict=True)}:
        group[root(left)] = root(right)
    found: dict[int, list[str]] = {}
    for model, name in enumerate(pairs.models):
        found.setdefault(root(model), []).append(name)
    return sorted(found.values(), key=len, reverse=True)


def numbered(names: Sequence[str]) -> tuple[tuple[str, ...], Indices]:
    """Different names in alphabetical order, and the number of each name."""
    different = sorted(set(names))
    place = {name: number for number, name in enumerate(different)}
    return tuple(different), np.array([place[name] for name in names], dtype=np.int64)
