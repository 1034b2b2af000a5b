"""DPO and IPO: pairs of completions, compared with a reference. The completions of a pair share their prompt."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from palmette.data.preference import Comparison
from palmette.objectives.dpo import dpo_loss
from palmette.objectives.reward import ranked_pairs
from palmette.progress import Say
from palmette.tasks.leaf_labels import ranks
from palmette.tasks.preference import PreferenceTrees
from palmette.train.loop import run_steps
from palmette.train.preferences.job import PreferenceJob, comparisons_of, make_job
from palmette.train.preferences.reference import Name, looked_up, score_branches, stage_reference
from palmette.train.recipes.preferences import DpoRecipe, DpoSection
from palmette.train.steps.step import Tally
from palmette.tree.batch import PackedBatch
from palmette.tree.branches import find_branches

DpoJob = PreferenceJob[DpoRecipe, Comparison]


def prepare(recipe: DpoRecipe, say: Say) -> DpoJob:
    """Read, load and check everything, and write nothing. Errors are those of `make_job`."""
    comparisons, sources = comparisons_of(recipe)
    return make_job(recipe, comparisons, sources, PreferenceTrees.of_comparison, say, reference=recipe.dpo.reference)


def learn(job: DpoJob, folder: Path, checkpoint: Path | None, say: Say) -> None:
    """Train a job in its run folder, from a checkpoint if one is given."""
    section, tally = job.recipe.dpo, Tally()
    reference = stage_reference(job, job.plan, section.reference, folder, say)
    objective = DpoObjective(section, reference, tally)
    run_steps(job, folder, checkpoint, say, objective=objective, measure=num_pairs, tally=tally)


def num_pairs(batch: PackedBatch) -> float:
    """Number of pairs of completions that a batch compares. A ranked list of K completions has K (K - 1) / 2."""
    return float(len(ranked_pairs(*ranks(find_branches(batch)))[0]))


class DpoObjective:
    """The loss of the pairs of a batch, as in `objectives/dpo.py`. Each pair counts as one.

    Args:
        section: the recipe's settings.
        reference: log-probabilities of all branches under the reference.
        tally: counts rewards, margin and accuracy.
    """

    def __init__(self, section: DpoSection, reference: dict[Name, float], tally: Tally) -> None:
        self._section, self._reference, self._tally = section, reference, tally

    def __call__(self, model: Any, batch: PackedBatch, denominator: float) -> torch.Tensor:
        """The batch's share of the step's loss. The denominator is the number of pairs of the step."""
        section, scores = self._section, score_branches(model, batch)
        chosen_M, rejected_M, _ = ranked_pairs(*ranks(scores.branches))
        pairs = dpo_loss(
            scores.logprob_N,
            looked_up(self._reference, scores),
            chosen_M,
            rejected_M,
            denominator,
            beta=section.beta,
            kind=section.loss,
            label_smoothing=section.label_smoothing,
            num_tokens_N=scores.num_tokens_N if section.length_normalised else None,
        )
        count = len(chosen_M)
        self._tally.add("chosen_reward", pairs.chosen_reward_M.sum(), count)
        self._tally.add("rejected_reward", pairs.rejected_reward_M.sum(), count)
        self._tally.add("margin", pairs.margin_M.sum(), count)
        self._tally.add("accuracy", pairs.accuracy * count, count)
        return pairs.loss
