"""The figures of the stages in which a policy learns from its own completions: GRPO, RLOO and PPO."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from palmette.pages.training.figures import LEARNING, REWARDS, Figure, Groups, Guide, loss_figure, share
from palmette.pages.training.run import TrainingRun
from palmette.pages.training.warnings import MAX_CLIP_SHARE, MAX_FLAT_GROUPS, MIN_ENDED

_LOSS = "Says little: advantages are held against others, so it stays near 0 however well completions do. Jumps are a warning sign."


def rollout_figures(run: TrainingRun) -> Groups:
    """The figures of a policy: what it earns, how far it goes for that, what its completions look like, what its values are worth."""
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
        share(
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
        share(
            "ended",
            "Completions that came to their end",
            "The others were cut, and learn no end. Good is near 100 %.",
            MIN_ENDED,
            "below, too many are cut",
        ),
        share(
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
