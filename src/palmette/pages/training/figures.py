"""What the figures of a training run are called, what they are counted in, and how to read them; by stage, in the order of the page."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from palmette.pages.training.run import TrainingRun
from palmette.pages.training.warnings import MAX_CLIP_SHARE, MAX_FLAT_GROUPS, MIN_ACCURACY, MIN_ENDED

STAGES = {
    "sft": "Fine-tuning",
    "reward": "Reward model",
    "dpo": "DPO",
    "kto": "KTO",
    "grpo": "GRPO",
    "ppo": "PPO",
}
REWARDS = {
    "exact": "exact match",
    "f1": "F1",
    "valid_json": "valid JSON",
    "abstention": "right abstention",
    "model": "reward model",
}
SECONDS, PER_SECOND, MEMORY = "seconds", "_per_second", "resident_mib"
SPEED, OTHERS = "Speed and memory", "Other figures"
_NATS = "beta · log(policy / reference) (nats)"


@dataclass(frozen=True, slots=True)
class Guide:
    """A value to hold a figure against, marked by a dashed line.

    Attributes:
        value: in the unit of the axis.
        meaning: what it is.
    """

    value: float
    meaning: str


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure, or two that belong on one axis.

    Attributes:
        keys: what metrics.jsonl calls them.
        title: what they are, in plain words.
        label: the unit, for the axis.
        reading: what is good, and what is a warning sign.
        names: what sets each apart, where there are two.
        scale: what the logged values are multiplied by.
        guides: values to hold them against.
        least: what lies below is drawn there.
    """

    keys: tuple[str, ...]
    title: str
    label: str
    reading: str
    names: tuple[str, ...] = ("",)
    scale: float = 1.0
    guides: tuple[Guide, ...] = ()
    least: float | None = None


Groups = dict[str, list[Figure]]


def figure_groups(run: TrainingRun) -> Groups:
    """The figures that a run's log holds, by group, each in exactly one; what is not known here is among the others, as it is.

    A group is empty nowhere. Figures that are never a finite number are left out (`TrainingRun.num_broken` counts those).
    """
    drawable = [key for key in run.keys if run.points(key)]
    parts = [key for key in drawable if key.startswith("reward_")]
    known: Groups = {**_of_stage(run, parts), "TrainerOptions": _learning(run), SPEED: _speed(drawable)}
    groups: Groups = {}
    for name, figures in known.items():
        here = [found for figure in figures if (found := _known_part(figure, drawable))]
        if here:
            groups[name] = here
    named = {key for figures in groups.values() for figure in figures for key in figure.keys}
    others = [_plain(key) for key in drawable if key not in named]
    return {**groups, **({OTHERS: others} if others else {})}


def _known_part(figure: Figure, drawable: Sequence[str]) -> Figure | None:
    """A figure with those of its lines that the log holds; None if it holds none."""
    held = [(key, name) for key, name in zip(figure.keys, figure.names, strict=True) if key in drawable]
    return replace(figure, keys=tuple(k for k, _ in held), names=tuple(n for _, n in held)) if held else None


def not_drawable(run: TrainingRun) -> list[str]:
    """Names in the log that no chart can show, since their value is never a finite number."""
    return [key for key in run.keys if not run.points(key)]


def _of_stage(run: TrainingRun, parts: Iterable[str]) -> Groups:
    if run.stage == "dpo":
        return {"Preferences": _dpo()}
    if run.stage == "reward":
        return {"Preferences": _reward_model()}
    if run.stage == "kto":
        return {"Preferences": _kto()}
    if run.stage in ("grpo", "ppo"):
        return {
            "Rewards": _rewards(run, parts),
            "Distance and exploration": _distance(run),
            "Completions": _completions(run),
            "Value function": _values(),
        }
    return {}


def _share(key: str, title: str, reading: str, guide: float, meaning: str) -> Figure:
    """A share, in percent, with a guide at a share."""
    return Figure((key,), title, "%", reading, scale=100.0, guides=(Guide(100 * guide, meaning),))


def _accuracy(side: str) -> Figure:
    reading = f"Share of the pairs of a step in which {side}. Near 100 % long before the end: it learns them by heart. Measure on others."
    return _share("accuracy", "Accuracy", reading, MIN_ACCURACY, "chance")


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


def _rewards(run: TrainingRun, parts: Iterable[str]) -> list[Figure]:
    weights = run.setting("rollouts", "rewards") or {}
    shown = [
        Figure(
            ("reward",),
            "Reward",
            "reward a completion",
            "What completions earned, all parts by their weights. It jumps, since questions differ; what counts is that the dark line rises.",
        ),
        Figure(
            ("score",),
            "Reward after the end-of-sequence rule",
            "reward a completion",
            "The same with what completions that were cut lose (ppo.unfinished). Far below the reward: many are cut.",
        ),
    ]
    return shown + [_part(key.removeprefix("reward_"), weights, run) for key in parts]


def _part(name: str, weights: Mapping[str, float], run: TrainingRun) -> Figure:
    """A part of the reward."""
    key, title = f"reward_{name}", REWARDS.get(name, name)
    weight = run.setting("rollouts", "reward_model_weight") if name == "model" else weights.get(name)
    counts = f"A part of the reward; it counts {weight:g} times." if weight is not None else "A part of the reward."
    title = title[0].upper() + title[1:]
    if name == "model":
        reading = f"{counts} If it rises while rewards by rule fall, the policy exploits the reward model."
        return Figure((key,), title, "score a completion", reading)
    if name in REWARDS:
        return Figure((key,), title, "% of completions" if name != "f1" else "%", counts, scale=100.0)
    return Figure((key,), title, "reward a completion", counts)


def _distance(run: TrainingRun) -> list[Figure]:
    limit, target = (run.setting(run.stage, name) for name in ("kl_limit", "kl_target"))
    stop = (Guide(limit, f"{run.stage}.kl_limit, where the run stops"),) if limit is not None else ()
    aim = (Guide(target, "ppo.kl_target"), Guide(2 * target, "twice that")) if target is not None else ()
    unit = "nats a completion" if run.setting("grpo", "objective") == "rloo" else "nats a token"
    return [
        Figure(
            ("kl",),
            "KL divergence to the reference",
            "nats a completion",
            "What the reward was bought for. It may rise slowly and level off; a steep climb is a policy that runs away.",
            guides=stop,
        ),
        Figure(
            ("completion_kl",),
            "KL divergence when completions were sampled",
            "nats a completion",
            "What an adaptive coefficient steers. It may go below 0, being an estimate. Good: it stays near its target.",
            guides=aim,
        ),
        Figure(
            ("kl_coefficient",),
            "KL coefficient",
            "reward a nat",
            "With a target it rises while the policy is too far away, and falls otherwise; without, it stays.",
        ),
        Figure(
            ("entropy",),
            "Entropy",
            "nats a token",
            "How undecided the policy is. It falls as it learns; near 0 all completions are alike, and nothing new is found any more.",
        ),
        _share(
            "clip_share",
            "Clip share",
            "Tokens (rloo: completions) whose gradient the clip took away. 0 where each completion is learned from once; a few percent are usual.",
            MAX_CLIP_SHARE,
            "too far a step at a time",
        ),
        Figure(
            ("old_kl",),
            "KL divergence to the policy that sampled",
            unit,
            "How far the steps over one batch of completions went. Good is near 0; peaks go with a high clip share.",
        ),
    ]


def _completions(run: TrainingRun) -> list[Figure]:
    most = run.setting("rollouts", "max_new_tokens")
    cut = (Guide(most, "rollouts.max_new_tokens, where they are cut"),) if most is not None else ()
    return [
        Figure(
            ("completion_tokens",),
            "Length of completions",
            "tokens",
            "A steady climb or a collapse means that length itself is rewarded.",
            guides=cut,
        ),
        _share(
            "ended",
            "Completions that came to their end",
            "The others were cut, and learn no end. Good is near 100 %.",
            MIN_ENDED,
            "below, too many are cut",
        ),
        _share(
            "flat_groups",
            "Questions whose completions all earned the same",
            "They teach nothing. Rising to 100 %: the questions are learned, or hopeless.",
            MAX_FLAT_GROUPS,
            "half of the questions",
        ),
    ]


def _values() -> list[Figure]:
    return [
        Figure(
            ("explained_variance",),
            "Explained variance of the returns",
            "share (1 is perfect)",
            "How well the values foretold what was earned. Good: rising towards 1. Below 0 they are worse than a constant.",
            guides=(Guide(0.0, "a constant"),),
            least=-1.0,
        ),
        Figure(
            ("value_loss",),
            "Value loss",
            "reward squared",
            "Should fall at first, and rise again only where rewards change quickly.",
        ),
    ]


def _learning(run: TrainingRun) -> list[Figure]:
    norm = run.setting("train", "max_grad_norm")
    clip = (Guide(norm, "train.max_grad_norm: longer gradients are scaled down to it"),) if norm else ()
    return [
        _loss(run),
        Figure(
            ("learning_rate",),
            "Learning rate",
            "a step",
            "As train.schedule plans it; look here when another figure turns.",
        ),
        Figure(
            ("grad_norm",),
            "Gradient norm",
            "before clipping",
            "Single peaks are harmless; a climb to many times the beginning is a warning sign.",
            guides=clip,
        ),
    ]


def _loss(run: TrainingRun) -> Figure:
    label, guides = "loss (nats per learned token)", tuple[Guide, ...]()
    reading = "Falls fast, then slowly. Rising again: lower train.learning_rate. What it is worth on others, an evaluation says."
    preference = "Should fall. Near 0 it has learned the comparisons by heart."
    log2 = (Guide(math.log(2), "ln 2, which says nothing either way"),)
    if run.stage == "reward":
        lists = run.setting("reward", "loss") == "plackett_luce"
        label, reading, guides = "nats a comparison", preference, () if lists else log2
    elif run.stage == "dpo" and run.setting("dpo", "loss") == "ipo":
        label, reading = "nats squared a pair", "Should fall: 0 where each margin is just what ipo aims at."
    elif run.stage == "dpo":
        label, reading, guides = "nats a pair", preference, log2
    elif run.stage == "kto":
        label, reading = "loss a verdict", "From 0 to the weight of a verdict; begins near half of it, and should fall."
    elif run.stage in ("grpo", "ppo"):
        label = "loss"
        reading = "Says little: advantages are held against others, so it stays near 0 however well completions do. Jumps are a warning sign."
    return Figure(("loss",), "Loss", label, reading, guides=guides)


def _speed(keys: Iterable[str]) -> list[Figure]:
    rates = [key for key in keys if key.endswith(PER_SECOND)]
    return [
        *(
            Figure(
                (key,),
                f"{key.removesuffix(PER_SECOND).replace('_', ' ').capitalize()} a second",
                "a second, since the beginning",
                "A mean since the beginning, so it levels off. A slow fall: the machine does other things too.",
            )
            for key in rates
        ),
        Figure(
            (SECONDS,),
            "Time of a step",
            "seconds",
            "Differs with the length of documents and completions. The first step may take longer.",
        ),
        Figure(
            (MEMORY,),
            "Memory of the process",
            "MiB",
            "Should level off after the first steps; a climb without end is ended by the system.",
        ),
    ]


def _plain(key: str) -> Figure:
    return Figure(
        (key,), key.replace("_", " "), "as logged", "A figure that this page does not know, as it stands in the log."
    )
