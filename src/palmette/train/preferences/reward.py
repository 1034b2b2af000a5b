"""Reward models: a number for each completion, read at its last token, learned from comparisons."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from palmette.data.preference import Comparison
from palmette.errors import DataError
from palmette.model.heads import branch_rewards
from palmette.objectives.reward import bradley_terry_loss, pair_accuracy, plackett_luce_loss, ranked_pairs
from palmette.progress import Say
from palmette.tasks.leaf_labels import ranks
from palmette.tasks.preference import PreferenceTrees
from palmette.train.loop import run_steps
from palmette.train.preferences.job import PreferenceJob, comparisons_of, make_job
from palmette.train.recipes.preferences import RewardRecipe, RewardSection
from palmette.train.steps.step import Tally
from palmette.tree.batch import PackedBatch
from palmette.tree.branches import find_branches

RewardJob = PreferenceJob[RewardRecipe, Comparison]


def prepare(recipe: RewardRecipe, say: Say) -> RewardJob:
    """Read, load and check everything, and write nothing. Errors are those of `make_job`."""
    comparisons, sources = comparisons_of(recipe)
    if recipe.reward.margins and all(comparison.margin is None for comparison in comparisons):
        raise DataError(
            "reward.margins is set, but no record has a 'margin'", "Take it out, or give the records margins."
        )
    return make_job(recipe, comparisons, sources, PreferenceTrees.of_comparison, say, reward_head=True)


def learn(job: RewardJob, folder: Path, checkpoint: Path | None, say: Say) -> None:
    """Train a job in its run folder, from a checkpoint if one is given."""
    tally = Tally()
    margins = {record.id: record.margin or 0.0 for record in job.records} if job.recipe.reward.margins else None
    objective = RewardObjective(job.recipe.reward, margins, tally)
    run_steps(job, folder, checkpoint, say, objective=objective, measure=num_comparisons, tally=tally)


def num_comparisons(batch: PackedBatch) -> float:
    """Number of comparisons in a batch, which are pairs or ranked lists."""
    return float(len(find_branches(batch).by_tree()))


class RewardObjective:
    """The loss of the comparisons of a batch, as in `objectives/reward.py`. Each comparison counts as one.

    Args:
        section: the recipe's settings.
        margins: the margin of each record. None if margins are not used.
        tally: counts rewards, margin and accuracy.
    """

    def __init__(self, section: RewardSection, margins: dict[str, float] | None, tally: Tally) -> None:
        self._section, self._margins, self._tally = section, margins, tally

    def __call__(self, model: Any, batch: PackedBatch, denominator: float) -> torch.Tensor:
        """The batch's share of the step's loss. The denominator is the number of comparisons of the step."""
        branches = find_branches(batch)
        reward_N, (rank_N, list_N) = branch_rewards(model, batch, branches), ranks(branches)
        chosen_M, rejected_M, weight_M = ranked_pairs(rank_N, list_N)
        lead_M = (reward_N[chosen_M] - reward_N[rejected_M]).detach()
        self._tally.add("reward", reward_N.detach().sum(), len(reward_N))
        self._tally.add("margin", lead_M.sum(), len(lead_M))
        self._tally.add("accuracy", pair_accuracy(lead_M) * len(lead_M), len(lead_M))
        if self._section.loss == "plackett_luce":
            return plackett_luce_loss(reward_N, rank_N, list_N, denominator)
        margin_M = None
        if self._margins is not None:
            margin_N = torch.tensor([self._margins[tree] for tree, _ in branches.names], device=reward_N.device)
            margin_M = margin_N.to(reward_N.dtype)[chosen_M]
        return bradley_terry_loss(
            reward_N,
            chosen_M,
            rejected_M,
            denominator,
            margin_M=margin_M,
            weight_M=weight_M,
            centring=self._section.centring,
        )
