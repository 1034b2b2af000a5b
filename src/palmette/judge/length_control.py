"""Win rates at equal length, by one logistic model of all preferences.

Judges like long outputs. So AlpacaEval 2 (Dubois et al., 2024) predicts what each win rate would be if both outputs
were equally long. Its fit takes one model at a time, two anchors that were made for its set, and a table of how
difficult its instructions are. This one takes all models together and needs no more than the preferences:

    logit P(model m is preferred on item i) = strength_m + slope_m * tanh(d_mi / s_m) + weight * difficulty_i

- d_mi is the length of the model's output less that of the reference's in characters, and s_m its standard deviation.
  Where it never varies, tanh is that of infinity: 1 or -1, or 0 at equal length.
- slope_m ~ Normal(mean slope, 0.2^2) and mean slope ~ Normal(0, 0.4^2): the slopes of all models support one another.
- difficulty_i is the log-odds of the other models' mean preference on the item, one observation of the overall mean
  being added. It has mean 0 over all rows. A model by itself has none.
- strength_m ~ Normal(0, 10^2), so that a model that never wins has a finite one.

The length-controlled win rate is the mean over a model's items of that probability at d = 0. It is extrapolated where
no output is about as long as the reference's, so such models get none. Letters: N preferences, M models, P parameters.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

from palmette.errors import DataError
from palmette.evaluate.bootstrap import weighted_intervals
from palmette.judge.preferences import Preference

Values = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]

SPREAD = 0.2  # standard deviation of slopes around their mean
# Of the mean slope: from 0.15 to 3, this came nearest to AlpacaEval's figures for one to eight of eleven models.
_MEAN_SPREAD, _STRENGTH_SPREAD = 0.4, 10.0
_PRIOR = 1.0  # observations of the overall mean that each item's difficulty gets
_NEAR = 0.5  # standard deviations of the difference within which two lengths are about equal
_LEAST_NEAR = 10  # items of about equal length below which a win rate at equal length says nothing
_ROUNDS, _PRECISION = 100, 1e-8


@dataclass(frozen=True, slots=True)
class Controlled:
    """The win rate of one model at equal length.

    Attributes:
        win_rate: in percent. None where too few items have outputs of about equal length.
        interval: its 95 % interval over items. None where there is none.
        slope: what one unit of tanh(difference of lengths / standard deviation) is worth, as log-odds.
        near: items whose outputs are about equally long.
    """

    win_rate: float | None
    interval: tuple[float, float] | None
    slope: float
    near: int


@dataclass(frozen=True, slots=True)
class LengthControl:
    """Win rates at equal length.

    Attributes:
        models: by name.
        mean_slope: the mean of the slopes.
        difficulty: the weight of the difficulty.
        left_out: preferences without a verdict or without lengths.
    """

    models: Mapping[str, Controlled]
    mean_slope: float
    difficulty: float
    left_out: int


def length_controlled(preferences: Sequence[Preference], *, num_samples: int = 200, seed: int = 0) -> LengthControl:
    """Fit win rates at equal length.

    Args:
        preferences: of one or several models over one reference.
        num_samples: how often items are drawn with replacement for intervals. None with 0.
        seed: seed of the draws.

    Raises:
        DataError: no preference has a verdict and lengths.
    """
    used = [one for one in preferences if one.share is not None and one.lengths is not None]
    if not used:
        raise DataError(
            "no preference has the lengths of both outputs",
            "Give output_1 and output_2, or len_output_1 and len_output_2.",
        )
    rows = _Rows(used)
    whole = rows.fit(np.ones(len(used)))

    def drawn(count_N: Indices) -> dict[str, float | None]:
        found = rows.win_rates(rows.fit(count_N.astype(np.float64), whole), count_N)
        return dict(zip(rows.models, found, strict=True))

    ends = (
        weighted_intervals([one.item for one in used], drawn, num_samples=num_samples, seed=seed) if num_samples else {}
    )
    rates, near = rows.win_rates(whole, np.ones(len(used), dtype=np.int64)), rows.near()
    size = len(rows.models)
    found = {}
    for number, name in enumerate(rows.models):
        enough = near[number] >= _LEAST_NEAR
        found[name] = Controlled(
            rates[number] if enough else None,
            ends.get(name) if enough else None,
            float(whole[size + number]),
            near[number],
        )
    return LengthControl(found, float(whole[2 * size + 1]), float(whole[2 * size]), len(preferences) - len(used))


class _Rows:
    """Preferences as arrays. The parameters are strengths [M], slopes [M], the weight of difficulty, the mean slope."""

    def __init__(self, used: Sequence[Preference]) -> None:
        self.models = tuple(sorted({one.model for one in used}))
        number = {name: index for index, name in enumerate(self.models)}
        item = {name: index for index, name in enumerate(dict.fromkeys(one.item for one in used))}
        self._model_N = np.array([number[one.model] for one in used])
        self._share_N = np.array([one.share for one in used], dtype=np.float64)
        item_N = np.array([item[one.item] for one in used])
        length_N2 = np.array([one.lengths for one in used], dtype=np.float64)
        self._scaled_N = self._scaled(length_N2[:, 1] - length_N2[:, 0])
        self._difficulty_N = _difficulty(item_N, self._share_N)
        self._design_NP = self._design()

    def _scaled(self, longer_N: Values) -> Values:
        """Differences of length in standard deviations of each model's. Infinite where they never vary, unless 0."""
        scale_M = np.array([longer_N[self._model_N == model].std() for model in range(len(self.models))])
        with np.errstate(divide="ignore"):
            scaled_N: Values = np.divide(
                longer_N, scale_M[self._model_N], out=np.zeros_like(longer_N), where=longer_N != 0
            )
        return scaled_N

    def _design(self) -> Values:
        size, everywhere = len(self.models), np.arange(len(self._share_N))
        design_NP = np.zeros((len(everywhere), 2 * size + 2))
        design_NP[everywhere, self._model_N] = 1.0
        design_NP[everywhere, size + self._model_N] = np.tanh(self._scaled_N)
        design_NP[:, 2 * size] = self._difficulty_N
        return design_NP

    def _prior(self) -> Values:
        """The precision [P, P] of the parameters."""
        size = len(self.models)
        slopes, mean = np.arange(size, 2 * size), 2 * size + 1
        prior_PP = np.zeros((2 * size + 2, 2 * size + 2))
        prior_PP[np.arange(size), np.arange(size)] = _STRENGTH_SPREAD**-2
        prior_PP[slopes, slopes] = SPREAD**-2
        prior_PP[slopes, mean] = prior_PP[mean, slopes] = -(SPREAD**-2)
        prior_PP[mean, mean] = size * SPREAD**-2 + _MEAN_SPREAD**-2
        prior_PP[2 * size, 2 * size] = _STRENGTH_SPREAD**-2
        return prior_PP

    def fit(self, weight_N: Values, start_P: Values | None = None) -> Values:
        """The likeliest parameters [P] by Newton's method, where each preference counts so many times."""
        design_NP, prior_PP = self._design_NP, self._prior()
        parameter_P = np.zeros(design_NP.shape[1]) if start_P is None else start_P.copy()
        for _ in range(_ROUNDS):
            p_N = special.expit(design_NP @ parameter_P)
            gradient_P = design_NP.T @ (weight_N * (self._share_N - p_N)) - prior_PP @ parameter_P
            hessian_PP = (design_NP.T * (weight_N * p_N * (1.0 - p_N))) @ design_NP + prior_PP
            step_P = np.linalg.solve(hessian_PP, gradient_P)
            # Far from the optimum a whole step may overshoot.
            parameter_P += step_P * min(1.0, 2.0 / max(float(np.abs(step_P).max()), 1e-300))
            if np.abs(step_P).max() < _PRECISION:
                break
        return parameter_P

    def win_rates(self, parameter_P: Values, count_N: Indices) -> list[float | None]:
        """The win rates [M] at equal length in percent. None for a model of which nothing was drawn."""
        size = len(self.models)
        at_equal_N = special.expit(parameter_P[self._model_N] + parameter_P[2 * size] * self._difficulty_N)
        total_M = np.bincount(self._model_N, count_N * at_equal_N, size)
        count_M = np.bincount(self._model_N, count_N, size)
        return [
            100.0 * total / count if count else None
            for total, count in zip(total_M.tolist(), count_M.tolist(), strict=True)
        ]

    def near(self) -> list[int]:
        """For each model the items with outputs of about equal length."""
        close_N = np.abs(self._scaled_N) <= _NEAR
        return [int(close_N[self._model_N == model].sum()) for model in range(len(self.models))]


def _difficulty(item_N: Indices, share_N: Values) -> Values:
    """The log-odds of the mean preference of the other models on each row's item, less the mean over rows."""
    others_N = np.bincount(item_N)[item_N] - 1
    sum_N = np.bincount(item_N, share_N)[item_N] - share_N
    mean = float(np.clip(share_N.mean(), 1e-6, 1.0 - 1e-6))
    difficulty_N: Values = special.logit((sum_N + _PRIOR * mean) / (others_N + _PRIOR))
    difficulty_N -= difficulty_N.mean()
    return difficulty_N
