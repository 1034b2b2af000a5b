"""How well rewards agree with verdicts: accuracy, and whether their probabilities are calibrated.

Under Bradley and Terry (1952) one completion beats another with probability sigmoid(its reward - the other's). All
pairs of a ranked list count together as one comparison. Letters: N comparisons, M pairs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import numpy as np

from palmette.evaluate.confidence import ReliabilityBin, Values, expected_calibration_error, reliability_bins

_SAMPLES = 1000
_NUM_BINS = 5  # of probabilities from 0.5 to 1: those of whichever side is held to be the better one


@dataclass(frozen=True)
class RewardMetrics:
    """How well rewards agree with verdicts.

    Attributes:
        comparisons: how many there are.
        pairs: how many pairs these hold.
        accuracy: share of the pairs whose better side has the greater reward, 0 to 1. A tie counts half.
        log_loss: mean of -log P(the verdict), in nats. It is ln 2 for rewards that say nothing.
        margin: mean reward of the better side less that of the other.
        reward, deviation: mean and standard deviation of all rewards.
        calibration_error: expected calibration error over pairs, 0 to 1, of the probability that the side with the
            greater reward is the better one.
        intervals: 95 % intervals of accuracy, log_loss and margin by bootstrap over comparisons. Empty for fewer than
            two.
        reliability: the bins of the reliability diagram.
    """

    comparisons: int
    pairs: int
    accuracy: float
    log_loss: float
    margin: float
    reward: float
    deviation: float
    calibration_error: float
    intervals: dict[str, tuple[float, float]]
    reliability: tuple[ReliabilityBin, ...]

    def to_json(self) -> dict[str, Any]:
        """As JSON holds it."""
        return asdict(self)


def reward_metrics(rewards: Sequence[Sequence[float]], *, seed: int = 0) -> RewardMetrics:
    """Measure rewards against rankings.

    >>> metrics = reward_metrics([[1.0, 0.0], [0.0, 2.0]])
    >>> metrics.accuracy, round(metrics.log_loss, 4)
    (0.5, 1.2201)

    Args:
        rewards: the rewards of each comparison's completions, two or more, best first by the verdict.
        seed: random seed of the intervals.

    Raises:
        ValueError: there is no comparison, one has fewer than two completions, or a reward is not finite.
    """
    if not rewards or any(len(one) < 2 for one in rewards):
        raise ValueError("rewards of comparisons are needed, two or more each")
    if not all(np.isfinite(one).all() for one in rewards):
        raise ValueError("a reward is not finite")
    leads = [np.array([better - worse for better, worse in combinations(one, 2)]) for one in rewards]
    right_N = np.array([np.mean((lead > 0) + 0.5 * (lead == 0)) for lead in leads])
    loss_N = np.array([np.mean(np.logaddexp(0.0, -lead)) for lead in leads])
    margin_N = np.array([np.mean(lead) for lead in leads])
    lead_M, all_rewards = np.concatenate(leads), np.concatenate([np.asarray(one) for one in rewards])
    # Of [0, 1] only the upper half is used, so that its bins are twice as many in the whole.
    sure_M, right_M = 1 / (1 + np.exp(-np.abs(lead_M))), (lead_M > 0) + 0.5 * (lead_M == 0)
    return RewardMetrics(
        comparisons=len(rewards),
        pairs=len(lead_M),
        accuracy=float(right_N.mean()),
        log_loss=float(loss_N.mean()),
        margin=float(margin_N.mean()),
        reward=float(all_rewards.mean()),
        deviation=float(all_rewards.std()),
        calibration_error=expected_calibration_error(sure_M, right_M, num_bins=2 * _NUM_BINS),
        intervals=_intervals({"accuracy": right_N, "log_loss": loss_N, "margin": margin_N}, seed),
        reliability=reliability_bins(sure_M, right_M, num_bins=2 * _NUM_BINS),
    )


def _intervals(values: dict[str, Values], seed: int) -> dict[str, tuple[float, float]]:
    """Percentile intervals of means over comparisons, by bootstrap. All use the same draws."""
    count = len(next(iter(values.values())))
    if count < 2:
        return {}
    drawn = np.random.default_rng(seed).integers(count, size=(_SAMPLES, count))
    ends = {name: np.percentile(value_N[drawn].mean(axis=1), [2.5, 97.5]) for name, value_N in values.items()}
    return {name: (float(low), float(high)) for name, (low, high) in ends.items()}
