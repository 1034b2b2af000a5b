"""Warning signs of a training run, by simple rules over its log.

The start of a run is its first tenth of steps, and its end the last tenth, of the steps in which the figure is known.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator
from dataclasses import dataclass

from palmette.numbers import readable
from palmette.pages.training.run import TrainingRun
from palmette.train.stages import STAGES

MAX_CLIP_SHARE = 0.3
MAX_FLAT_GROUPS = 0.5
MIN_ENDED = 0.9
MIN_ACCURACY = 0.5
_FEWEST = 10  # steps needed by a rule that compares start and end


@dataclass(frozen=True, slots=True)
class Finding:
    """A rule that was checked.

    Attributes:
        rule: the condition under which it warns.
        found: the numbers of this run.
        raised: whether it warns.
        advice: the meaning of the warning, and what to do.
    """

    rule: str
    found: str
    raised: bool
    advice: str


@dataclass(frozen=True, slots=True)
class _Limit:
    key: str
    name: str
    limit: float
    above: bool
    advice: str
    percent: bool = True


@dataclass(frozen=True, slots=True)
class _Change:
    key: str
    name: str
    advice: str
    factor: float  # the end may be this multiple of the start: no less if below 1, no more if above
    change: str  # words for a change beyond it


_LIMITS = (
    _Limit(
        "clip_share",
        "the clip share",
        MAX_CLIP_SHARE,
        True,
        "The policy has moved too far from the one that sampled its completions. Lower train.learning_rate or "
        "rollouts.passes.",
    ),
    _Limit(
        "explained_variance",
        "the explained variance",
        0.0,
        False,
        "The value function is worse than a constant, and so are the advantages. Raise ppo.value_coefficient, or "
        "train the value function for more steps.",
        False,
    ),
    _Limit(
        "flat_groups",
        "the share of questions whose completions all have the same reward",
        MAX_FLAT_GROUPS,
        True,
        "Nothing is learned from most questions, which are too easy or too hard. Choose others, raise "
        "rollouts.samples, or reward partial success (f1, for example).",
    ),
    _Limit(
        "ended",
        "the share of completions that ended",
        MIN_ENDED,
        False,
        "Many completions are cut, so the policy does not learn to end them. Raise rollouts.max_new_tokens.",
    ),
    _Limit(
        "accuracy",
        "the accuracy",
        MIN_ACCURACY,
        False,
        "The model is worse than chance on its own training data. Check the data (are the sides swapped?), or lower "
        "train.learning_rate.",
    ),
)
_CHANGES = (
    _Change(
        "entropy",
        "the entropy",
        "The policy hardly explores any more, and its completions are alike. Raise the KL coefficient, lower "
        "train.learning_rate, or stop earlier.",
        0.25,
        "fell below a quarter of what it was",
    ),
    _Change(
        "grad_norm",
        "the gradient norm",
        "Training is becoming unstable. Lower train.learning_rate.",
        5.0,
        "rose to over 5 times what it was",
    ),
)


def find_warnings(run: TrainingRun) -> list[Finding]:
    """Every rule that a run's figures allow, those that warn first."""
    found = [
        *_not_finite(run),
        *_limits(run),
        *_changes(run),
        *_loss_rose(run),
        *_distance(run),
        *_reward_fell(run),
        *_exploits_reward_model(run),
        *_less_likely(run),
    ]
    return sorted(found, key=lambda finding: not finding.raised)


def _samples(run: TrainingRun) -> bool:
    """Whether the model learned from its own completions."""
    return run.stage in STAGES and STAGES[run.stage].samples


def _tenth(run: TrainingRun, key: str) -> int:
    """The number of steps in a tenth of those in which a figure is known."""
    return max(1, len(run.points(key)) // 10)


def _start(run: TrainingRun, key: str) -> float | None:
    """The mean of a figure over the first tenth of its steps. None where it has no value."""
    points = run.points(key)
    return statistics.fmean(value for _, value in points[: _tenth(run, key)]) if points else None


def _end(run: TrainingRun, key: str) -> float | None:
    """The mean of a figure over the last tenth of its steps. None where it has no value."""
    points = run.points(key)
    return statistics.fmean(value for _, value in points[-_tenth(run, key) :]) if points else None


def _both(run: TrainingRun, key: str) -> tuple[float, float] | None:
    """A figure at the start and at the end. None where it is known in too few steps."""
    first, last = _start(run, key), _end(run, key)
    if first is None or last is None or len(run.points(key)) < _FEWEST:
        return None
    return first, last


def _not_finite(run: TrainingRun) -> Iterator[Finding]:
    broken = {key: run.num_broken(key) for key in run.keys}
    named = ", ".join(f"{key} in {count} of {len(run.lines)} steps" for key, count in broken.items() if count)
    yield Finding(
        "A figure is infinite or not a number.",
        named or f"every figure is finite in all {len(run.lines)} steps",
        bool(named),
        "Lower train.learning_rate, or set model.dtype: float32. These steps are missing from the charts.",
    )


def _limits(run: TrainingRun) -> Iterator[Finding]:
    for rule in _LIMITS:
        value = _end(run, rule.key)
        if value is None:
            continue
        shown, limit = (f"{readable(100 * x)} %" if rule.percent else readable(x) for x in (value, rule.limit))
        side = "above" if rule.above else "below"
        raised = value > rule.limit if rule.above else value < rule.limit
        yield Finding(f"In the last tenth of the steps, {rule.name} is {side} {limit}.", shown, raised, rule.advice)


def _changes(run: TrainingRun) -> Iterator[Finding]:
    for rule in _CHANGES:
        ends = _both(run, rule.key)
        if ends is None:
            continue
        first, last = ends
        raised = last < rule.factor * first if rule.factor < 1 else last > rule.factor * first
        words = f"From the first to the last tenth of the steps, {rule.name} {rule.change}."
        yield Finding(words, f"{readable(first)} became {readable(last)}", raised, rule.advice)


def _loss_rose(run: TrainingRun) -> Iterator[Finding]:
    """Whether the loss rose by more than two standard errors of the difference between two tenths of the steps.

    Steps learn different texts, whose losses differ. So does the loss of a stage that samples, which says little.
    """
    ends = None if _samples(run) else _both(run, "loss")
    if ends is None:
        return
    chance = 2 * _spread(run, "loss") * math.sqrt(2 / _tenth(run, "loss"))
    yield Finding(
        "From the first to the last tenth of the steps, the loss rose by more than chance explains.",
        f"{readable(ends[0])} became {readable(ends[1])}, where chance explains {readable(chance)}",
        ends[1] - ends[0] > chance,
        "The model did not learn, or it forgot again. Lower train.learning_rate.",
    )


def _distance(run: TrainingRun) -> Iterator[Finding]:
    target, limit = run.setting(run.stage, "kl_target"), run.setting(run.stage, "kl_limit")
    reached, kl = _end(run, "completion_kl"), _end(run, "kl")
    if target is not None and reached is not None:
        yield Finding(
            "In the last tenth of the steps, the KL divergence is above twice its target, "
            f"2 x {target:g} nats a completion.",
            f"{readable(reached)} nats a completion",
            reached > 2 * target,
            "The KL coefficient is too weak. Raise ppo.kl_coefficient or ppo.kl_gain, or lower train.learning_rate.",
        )
    if limit is not None and kl is not None:
        yield Finding(
            "In the last tenth of the steps, the KL divergence is above half of the limit at which the run stops, "
            f"{run.stage}.kl_limit = {limit:g}.",
            f"{readable(kl)} nats a completion",
            kl > limit / 2,
            "The policy moves away from its reference too fast. Raise the KL coefficient, or lower "
            "train.learning_rate.",
        )


def _reward_fell(run: TrainingRun) -> Iterator[Finding]:
    ends = _both(run, "reward") if _samples(run) else None
    if ends is None:
        return
    spread = _spread(run, "reward")
    yield Finding(
        "The reward is lower in the last tenth of the steps than in the first, by more than the standard deviation "
        "of single steps.",
        f"{readable(ends[0])} became {readable(ends[1])}, with a standard deviation of {readable(spread)}",
        ends[1] < ends[0] - spread,
        "The policy forgets what it is rewarded for. Lower train.learning_rate, and look at the samples.",
    )


def _exploits_reward_model(run: TrainingRun) -> Iterator[Finding]:
    """A reward model whose score rises while a reward by rule falls."""
    judged = _both(run, "reward_model")
    if judged is None:
        return
    spread = _spread(run, "reward_model")
    for key in run.keys:
        ends = _both(run, key) if key.startswith("reward_") and key != "reward_model" else None
        if ends is None:
            continue
        yield Finding(
            f"The reward model's score rose and {key} fell, each by more than the standard deviation of single steps.",
            f"the score went from {readable(judged[0])} to {readable(judged[1])}, "
            f"{key} from {readable(ends[0])} to {readable(ends[1])}",
            judged[1] > judged[0] + spread and ends[1] < ends[0] - _spread(run, key),
            "The policy exploits faults of the reward model. Stop earlier, raise the KL coefficient, or give the "
            "rule more weight.",
        )


def _less_likely(run: TrainingRun) -> Iterator[Finding]:
    """Whether preferred completions became less likely too."""
    chosen = _end(run, "chosen_reward")
    if chosen is None:
        return
    yield Finding(
        "In the last tenth of the steps, the reward of chosen completions is below 0.",
        f"{readable(chosen)}",
        chosen < 0,
        "Preferred completions became less likely than under the reference model. Lower train.learning_rate, or "
        "fine-tune on them first.",
    )


def _spread(run: TrainingRun, key: str) -> float:
    return statistics.pstdev(value for _, value in run.points(key))
