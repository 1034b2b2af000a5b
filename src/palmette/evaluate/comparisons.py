"""Scores comparisons with reward models."""

from __future__ import annotations

import json

from palmette import run
from palmette.data.preference import Comparison
from palmette.data.preference_sets import Opened, PreferenceSet, read_comparisons
from palmette.inference.names import ModelName, resolve_run
from palmette.inference.reward_model import RewardModel, load_reward
from palmette.model.attention import AttentionChoice
from palmette.tasks.preference import PreferenceTrees
from palmette.tree.chat import ChatTemplate


def score_comparisons(
    model: ModelName,
    data: str,
    limit: int | None = None,
    attention: AttentionChoice | None = None,
    *,
    opened: Opened | None = None,
) -> tuple[RewardModel, PreferenceSet[Comparison], list[list[float]]]:
    """Score the completions of comparisons with a reward model.

    Args:
        model: the run of the reward model.
        data: the comparisons.
        limit: use only the first `limit` comparisons. All if None.
        attention: the attention backend. If None, the one that the run was trained with.
        opened: the hash and the rows of the comparisons, if they were opened already. Then `data` only names them.

    Returns:
        The reward model, the comparisons, and the rewards of the completions of each comparison.
    """
    source = read_comparisons(data, limit=limit, opened=opened)
    loaded = load_reward(model, attention=attention)
    builder = PreferenceTrees(ChatTemplate(loaded.loaded.tokenizer), learned=False)
    return loaded, source, loaded.score_trees([builder.of_comparison(comparison) for comparison in source.records])


def was_learned(model: ModelName, sha256: str) -> bool:
    """Whether a run was trained on a source with this hash.

    Args:
        model: the run.
        sha256: the hash of the source.

    Raises:
        RunError: the model is not a finished run.
    """
    folder = resolve_run(model).folder
    assert folder is not None
    manifest = json.loads((folder / run.MANIFEST).read_text(encoding="utf-8"))
    return sha256 in [source["sha256"] for source in manifest["data"]]
