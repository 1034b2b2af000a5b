"""The figures of the stages in which a policy learns from its own completions: GRPO, RLOO and PPO."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from palmette.pages.training.figures import LEARNING, REWARDS, Figure, Groups, Guide, loss_figure, share
from palmette.pages.training.run import TrainingRun
from palmette.pages.training.warnings import MAX_CLIP_SHARE, MAX_FLAT_GROUPS, MIN_ENDED

_LOSS = (
    "It says little. Completions are compared with each other, so it stays near 0 however good they are. Look at the "
    "reward instead. Jumps are a warning sign."
)


def rollout_figures(run: TrainingRun) -> Groups:
    """The figures of a policy: rewards, distance from the reference model, completions, and the value function."""
    parts = [key for key in run.keys if key.startswith("reward_") and run.points(key)]
    return {
        "Rewards": _rewards(run, parts),
        "Distance and exploration": _distance(run),
        "Completions": _completions(run),
        "Value function": _values(),
        LEARNING: [loss_figure("loss", _LOSS)],
    }


def _rewards(run: TrainingRun, parts: Iterable[str]) -> list[Figure]:
    weights = run.setting("rollouts", "rewards") or {}
    shown = [
        Figure(
            ("reward",),
            "Reward",
            "reward a completion",
            "The weighted sum of all parts of the reward, as a mean over completions. It jumps, since questions "
            "differ. Good: the dark line rises. If it does not, see the warnings and the samples.",
        ),
        Figure(
            ("score",),
            "Reward after the end-of-sequence rule",
            "reward a completion",
            "The reward minus the penalty of completions that were cut (ppo.unfinished). If it is far below the "
            "reward, many are cut: raise rollouts.max_new_tokens.",
        ),
    ]
    return shown + [_part(key.removeprefix("reward_"), weights, run) for key in parts]


def _part(name: str, weights: Mapping[str, float], run: TrainingRun) -> Figure:
    """A part of the reward."""
    key, title = f"reward_{name}", REWARDS.get(name, name)
    weight = run.setting("rollouts", "reward_model_weight") if name == "model" else weights.get(name)
    counts = (
        f"A part of the reward, with the weight {weight:g}. Higher is better."
        if weight is not None
        else "A part of the reward. Higher is better."
    )
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
            "How far the policy has moved from the reference model. It may rise slowly and level off. If it climbs "
            "steeply, raise the KL coefficient or lower train.learning_rate.",
            guides=stop,
        ),
        Figure(
            ("completion_kl",),
            "KL divergence when completions were sampled",
            "nats a completion",
            "The distance that an adaptive KL coefficient controls. It is an estimate, so it may be below 0. Good: "
            "it stays near its target.",
            guides=aim,
        ),
        Figure(
            ("kl_coefficient",),
            "KL coefficient",
            "reward a nat",
            "What a nat of KL divergence costs in reward. With a target it rises while the policy is too far away, "
            "and falls otherwise. Without a target it is constant.",
        ),
        Figure(
            ("entropy",),
            "Entropy",
            "nats a token",
            "How varied the completions are. It falls as the policy learns. Near 0 all completions are alike, and "
            "the policy explores no more: raise the KL coefficient, or stop earlier.",
        ),
        share(
            "clip_share",
            "Clip share",
            "Share of tokens (RLOO: completions) whose gradient was clipped to 0. A few percent are usual. It is 0 "
            "where each completion is learned once. If it is high, lower train.learning_rate or rollouts.passes.",
            MAX_CLIP_SHARE,
            "above it steps are too large",
        ),
        Figure(
            ("old_kl",),
            "KL divergence to the policy that sampled",
            unit,
            "How far the steps over one batch of completions moved the policy. Good: near 0. Peaks come with a high "
            "clip share.",
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
            "A steady climb or a collapse means that the reward depends on length itself. Look at the samples.",
            guides=cut,
        ),
        share(
            "ended",
            "Completions that ended",
            "The others were cut, so the policy does not learn to end them. Good: near 100 %. Otherwise raise "
            "rollouts.max_new_tokens.",
            MIN_ENDED,
            "below it too many are cut",
        ),
        share(
            "flat_groups",
            "Questions whose completions all earned the same",
            "Nothing is learned from these questions: they are too easy or too hard. If the share rises towards 100 "
            "%, choose other questions or raise rollouts.samples.",
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
            "How well the value function predicts rewards. Good: rising towards 1. Below 0 it is worse than a "
            "constant: raise ppo.value_coefficient.",
            guides=(Guide(0.0, "as good as a constant"),),
            least=-1.0,
        ),
        Figure(
            ("value_loss",),
            "Value loss",
            "reward squared",
            "The squared error of the value function. It should fall at first, and rise again only where rewards "
            "change quickly.",
        ),
    ]
