"""The figures of the stages that learn from preferences: reward models, DPO and IPO, KTO."""

from __future__ import annotations

import math

from palmette.pages.training.figures import LEARNING, Figure, Groups, Guide, loss_figure, share
from palmette.pages.training.run import TrainingRun
from palmette.pages.training.warnings import MIN_ACCURACY

_NATS = "beta · log(policy / reference) (nats)"
_FALLS = (
    "How improbable the model finds the preferences of the training data. It should fall. Near 0 it has memorised "
    "them: train for fewer epochs."
)
_LOG2 = (Guide(math.log(2), "ln 2, the loss of a model that prefers neither side"),)
PREFERENCES = "Preferences"


def reward_figures(run: TrainingRun) -> Groups:
    """The figures of a reward model."""
    lists = run.setting("reward", "loss") == "plackett_luce"
    loss = loss_figure("nats a comparison", _FALLS, () if lists else _LOG2)
    return {PREFERENCES: _reward_model(), LEARNING: [loss]}


def dpo_figures(run: TrainingRun) -> Groups:
    """The figures of DPO, or of IPO."""
    if run.setting("dpo", "loss") == "ipo":
        loss = loss_figure(
            "nats squared a pair",
            "The squared distance of each margin from the one that IPO aims at. It should fall towards 0.",
        )
    else:
        loss = loss_figure("nats a pair", _FALLS, _LOG2)
    return {PREFERENCES: _dpo(), LEARNING: [loss]}


def kto_figures(_: TrainingRun) -> Groups:
    """The figures of KTO."""
    reading = (
        "How badly the rewards agree with the verdicts, from 0 to the weight of a verdict. It starts near half of "
        "the weight, and should fall."
    )
    return {PREFERENCES: _kto(), LEARNING: [loss_figure("loss a verdict", reading)]}


def _accuracy(side: str) -> Figure:
    reading = (
        f"Share of the pairs of a step in which {side}. Higher is better. If it is near 100 % long before the end, "
        "the model memorises these pairs: measure it on other pairs."
    )
    return share("accuracy", "Accuracy", reading, MIN_ACCURACY, "chance")


def _dpo() -> list[Figure]:
    return [
        Figure(
            ("chosen_reward", "rejected_reward"),
            "Rewards of both sides",
            _NATS,
            "How much likelier each side has become than under the reference model. Good: chosen above rejected. If "
            "both fall, preferred completions become less likely too. Once chosen is below 0, lower "
            "train.learning_rate or fine-tune on them first.",
            ("chosen", "rejected"),
        ),
        Figure(
            ("margin",),
            "Margin",
            _NATS,
            "The reward of the chosen side minus that of the rejected one. Good: above 0 and rising slowly. If it "
            "keeps climbing, the model only becomes surer, not better.",
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
            "The reward of the better side minus that of the other one. Good: above 0. A margin m means that the "
            "better side is preferred with the probability 1 / (1 + exp(-m)).",
        ),
        Figure(
            ("reward",),
            "Mean reward",
            "reward",
            "The mean over all completions. Only differences of rewards are learned, so a drift is harmless. "
            "reward.centring keeps it near 0.",
        ),
    ]


def _kto() -> list[Figure]:
    return [
        Figure(
            ("desirable_reward", "undesirable_reward"),
            "Rewards of both verdicts",
            _NATS,
            "How much likelier good and bad completions have become than under the reference model. Good: the lines "
            "part, good above bad. If both fall together, good completions become less likely too: lower "
            "train.learning_rate.",
            ("good", "bad"),
        ),
        Figure(
            ("kl",),
            "Reference point",
            "nats a completion",
            "How far the policy as a whole has moved from its reference, 0 or more. Rewards are compared with it. If "
            "it climbs steadily, lower train.learning_rate.",
        ),
    ]
