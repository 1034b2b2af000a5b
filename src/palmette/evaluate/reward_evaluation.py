"""A reward model measured on comparisons, and the files that this leaves."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from palmette import run
from palmette.data.preference_sets import Opened
from palmette.evaluate.comparisons import score_comparisons, was_learned
from palmette.evaluate.reward_metrics import RewardMetrics, reward_metrics
from palmette.model.attention import AttentionChoice
from palmette.model.loading import weights_hash
from palmette.run import trained_folder

METRICS, REWARDS = "metrics.json", "rewards.jsonl"


@dataclass(frozen=True)
class RewardEvaluation:
    """What a reward model says of comparisons, and how good that is.

    Attributes:
        metrics: the figures.
        rewards: the reward of each completion of each comparison, in the order of the data.
        made_by: what the figures depend on.
        learned: whether the model was trained on these very comparisons.
    """

    metrics: RewardMetrics
    rewards: Mapping[str, Sequence[float]]
    made_by: Mapping[str, Any]
    learned: bool

    def write(self, folder: Path) -> None:
        """Write metrics.json and rewards.jsonl into a folder that does not exist yet.

        Raises:
            RunError: the folder exists or cannot be written.
        """
        with run.whole_folder(folder) as staging:
            record = {**run.environment(), **self.made_by, **self.metrics.to_json()}
            run.write_json(staging / METRICS, record)
            lines = (json.dumps({"id": name, "rewards": given}) + "\n" for name, given in self.rewards.items())
            run.write_text(staging / REWARDS, "".join(lines))


def evaluate_reward(
    model: Path,
    data: str,
    *,
    limit: int | None = None,
    attention: AttentionChoice | None = None,
    opened: Opened | None = None,
) -> RewardEvaluation:
    """Measure a reward model on comparisons.

    Args:
        model: its finished run.
        data: the comparisons.
        limit: use only so many, from the start.
        attention: the attention backend. The run's own if None.
        opened: the hash and the rows of the comparisons, if they were opened already. Then `data` only names them.

    Raises:
        RunError: the folder is not a finished run of a reward model.
        DataError: the comparisons cannot be read.
    """
    loaded, source, rewards = score_comparisons(model, data, limit, attention, opened=opened)
    made_by = {
        "model": str(model),
        "weights_sha256": weights_hash(str(trained_folder(model))),
        "base": loaded.loaded.name,
        "data": source.describe(),
    }
    by_id = dict(zip([comparison.id for comparison in source.records], rewards, strict=True))
    return RewardEvaluation(reward_metrics(rewards), by_id, made_by, was_learned(model, source.sha256))
