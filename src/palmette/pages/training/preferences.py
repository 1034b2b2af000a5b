"""The figures of the stages that learn from preferences: reward models, DPO and IPO, KTO."""

from __future__ import annotations

import math

from palmette.pages.training.figures import LEARNING, Figure, Groups, Guide, loss_figure, share
from palmette.pages.training.run import TrainingRun
from palmette.pages.training.warnings import MIN_ACCURACY

_NATS = "beta · log(policy / reference) (nats)"
_FALLS = "Should fall. Near 0 it has learned the comparisons by heart."
_LOG2 = (Guide(math.log(2), "ln 2, which says nothing either way"),)
PREFERENCES = "Preferences"


def reward_figures(run: TrainingRun) -> Groups:
    """The figures of a reward model."""
    lists = run.setting("reward", "loss") == "plackett_luce"
    loss = loss_figure("nats a comparison", _FALLS, () if lists else _LOG2)
    return {PREFERENCES: _reward_model(), LEARNING: [loss]}


def dpo_figures(run: TrainingRun) -> Groups:
    """The figures of DPO, or of IPO."""
    if run.setting("dpo", "loss") == "ipo":
        loss = loss_figure("nats squared a pair", "Should fall: 0 where each margin is just what ipo aims at.")
    else:
        loss = loss_figure("nats a pair", _FALLS, _LOG2)
    return {PREFERENCES: _dpo(), LEARNING: [loss]}


def kto_figures(_: TrainingRun) -> Groups:
    """The figures of KTO."""
    reading = "From 0 to the weight of a verdict; begins near half of it, and should fall."
    return {PREFERENCES: _kto(), LEARNING: [loss_figure("loss a verdict", reading)]}


def _accuracy(side: str) -> Figure:
    reading = f"Share of the pairs of a step in which {side}. Near 100 % long before the end: it learns them by heart. Measure on others."
    return share("accuracy", "Accuracy", reading, MIN_ACCURACY, "chance")


def _dpo() -> list[Figure]:
    return [
        Figure(
            ("chosen_reward", "rejected_reward"),
            "Rewards of both sides",
            _NATS,
            "Good: chosen above rejected. Where both fall, what was preferred becomes less likely too: a warning sign once chosen is below 0.",
            ("chosen", "rejected"),
        ),
        Figure(
            ("margin",),
            "Margin",
            _NATS,
            "Chosen less rejected; good is above 0 and rising slowly. A climb without end only makes it surer, not better.",
        ),
        _accuracy("the chosen side has the greater reward"),
    ]


def _reward_model() -> list[Figure]:
    return [
        _accuracy("the better side has the greater reward"),
        Figure(
            ("margin",),
            "Margin",
            "difference of rewards",
            "By how much the better side's reward is the greater one; a margin m means a probability of 1 / (1 + exp(-m)). Good is above 0.",
        ),
        Figure(
            ("reward",),
            "Mean reward",
            "reward",
            "Over all completions. Only differences are learned, so a drift is harmless; reward.centring ties it to 0.",
        ),
    ]


def _kto() -> list[Figure]:
    return [
        Figure(
            ("desirable_reward", "undesirable_reward"),
            "Rewards of both verdicts",
            _NATS,
            "Good: the two come apart, good above bad. Where both fall together, what was found good becomes less likely too.",
            ("good", "bad"),
        ),
        Figure(
            ("kl",),
            "Reference point",
            "nats a completion",
            "How far the policy moved from its reference as a whole, 0 or more; rewards are held against it. A steady climb is a warning sign.",
        ),
    ]
