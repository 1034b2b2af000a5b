"""KTO: single completions that were judged good or bad, compared with a reference.

The reference point, an estimate of the KL divergence of the policy from the reference, is computed over the whole
optimizer step before anything of the step is learned. For it, each completion is also put under another prompt
(`tasks.preference.mismatched`), and scored there without gradients and without dropout.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from palmette import processes
from palmette.data.preference import Verdict
from palmette.errors import DataError
from palmette.model.attention import skips_hidden
from palmette.objectives.kto import kto_loss, reference_point
from palmette.progress import Say
from palmette.tasks.leaf_labels import labels
from palmette.tasks.preference import OTHER, PreferenceTrees, mismatched
from palmette.train.job import step_plan
from palmette.train.loop import run_steps
from palmette.train.preferences.job import PreferenceJob, make_job, verdicts_of
from palmette.train.preferences.reference import Name, looked_up, score_branches, stage_reference
from palmette.train.recipes.preferences import KtoRecipe, KtoSection
from palmette.train.steps.plan import StepPlan
from palmette.train.steps.step import Tally
from palmette.tree.batch import PackedBatch
from palmette.tree.branches import find_branches
from palmette.tree.prefix_tree import PrefixTree

KtoJob = PreferenceJob[KtoRecipe, Verdict]


def prepare(recipe: KtoRecipe, say: Say) -> KtoJob:
    """Read, load and check everything, and write nothing. Errors are those of `make_job`.

    The job's trees hold the mismatched completions too. The trees of its plan do not.

    Raises:
        DataError: all verdicts are of one kind.
    """
    verdicts, sources = verdicts_of(recipe, pairs=recipe.kto.pairs)
    others = {verdict.id: other for verdict, other in zip(verdicts, mismatched(verdicts), strict=True)}
    check_both_kinds(verdicts)

    def tree_of(builder: PreferenceTrees, verdict: Verdict) -> PrefixTree:
        return builder.of_verdict(verdict, others[verdict.id])

    job = make_job(
        recipe,
        verdicts,
        sources,
        tree_of,
        say,
        unit="verdicts",
        reference=recipe.kto.reference,
        learned=partial(_only, other=False),
    )
    say(describe_balance(job.recipe.kto, *check_both_kinds(job.records)))
    return job


def check_both_kinds(verdicts: Sequence[Verdict]) -> tuple[int, int]:
    """Check that there are good and bad completions. From one kind alone, KTO learns to push every completion one way.

    Args:
        verdicts: the verdicts to learn from.

    Returns:
        How many are good, and how many are bad.

    Raises:
        DataError: all are of one kind.
    """
    good = sum(verdict.label for verdict in verdicts)
    bad = len(verdicts) - good
    if verdicts and not (good and bad):
        kind, other = ("good", "bad") if good else ("bad", "good")
        way_out = "Add verdicts of the other kind"
        raise DataError(
            f"all {len(verdicts)} verdicts are {kind} and none is {other}, but KTO learns from both",
            f"{way_out}, or fine-tune on the good completions with `palmette train sft`." if good else f"{way_out}.",
        )
    return good, bad


def describe_balance(section: KtoSection, good: int, bad: int) -> str:
    """The counts of both kinds in words, with a warning where the weights do not balance them.

    Ethayarajh et al. (2024), "KTO", advise that desirable_weight times the number of good completions is 1 to 4/3 times
    as much as undesirable_weight times the number of bad ones.
    """
    counts = f"{good} good and {bad} bad completions"
    good_total, bad_total = section.desirable_weight * good, section.undesirable_weight * bad
    if bad_total <= good_total <= 4 / 3 * bad_total:
        return counts
    return (
        f"{counts}, which weigh {good_total:g} and {bad_total:g} in all. The good ones should weigh 1 to 1.33 times as "
        "much as the bad ones: change kto.desirable_weight or kto.undesirable_weight"
    )


def _only(tree: PrefixTree, *, other: bool) -> PrefixTree:
    """A tree with only the mismatched completion, or with only the judged one."""
    leaves = tuple(leaf for leaf in tree.root.children if (leaf.name == OTHER) == other)
    return replace(tree, root=replace(tree.root, children=leaves))


def learn(job: KtoJob, folder: Path, checkpoint: Path | None, say: Say) -> None:
    """Train a job in its run folder, from a checkpoint if one is given."""
    section, tally = job.recipe.kto, Tally()

    def plan_of(trees: list[PrefixTree]) -> StepPlan:
        return step_plan(trees, (), job.recipe, one_row=skips_hidden(job.loaded.model))

    reference = stage_reference(job, plan_of(list(job.trees)), section.reference, folder, say)
    others = {tree.name: _only(tree, other=True) for tree in job.trees}
    objective = KtoObjective(section, reference, tally, others, plan_of)
    run_steps(
        job,
        folder,
        checkpoint,
        say,
        objective=objective,
        measure=num_verdicts,
        before_step=objective.look_ahead,
        tally=tally,
    )


def num_verdicts(batch: PackedBatch) -> float:
    """Number of verdicts in a batch."""
    return float(len(find_branches(batch)))


class KtoObjective:
    """The loss of the verdicts of a batch, as in `objectives/kto.py`.

    Args:
        section: the recipe's settings.
        reference: log-probabilities of all branches under the reference, also of the mismatched ones.
        tally: counts rewards and the reference point.
        others: tree of each verdict's prompt with the mismatched completion, by the verdict's name.
        plan_of: packs the trees of one step.
    """

    def __init__(
        self,
        section: KtoSection,
        reference: dict[Name, float],
        tally: Tally,
        others: dict[str, PrefixTree],
        plan_of: Callable[[list[PrefixTree]], StepPlan],
    ) -> None:
        self._section, self._reference, self._tally = section, reference, tally
        self._others, self._plan_of = others, plan_of
        self._baseline = 0.0

    def look_ahead(self, model: Any, batches: list[PackedBatch]) -> None:
        """Compute the reference point (nats) of the whole step."""
        trees = [self._others[name] for batch in batches for name in find_branches(batch).by_tree()]
        packed = self._plan_of(trees).step_batches(0, 0)
        own = processes.share([batch.num_tokens for batch in packed])
        scores = [score_branches(model, packed[index].to(model.device)) for index in own]
        found = [(one.logprob_N.cpu(), looked_up(self._reference, one).cpu()) for one in scores]
        policies, references = zip(*(pair for part in processes.gather(found) for pair in part), strict=True)
        self._baseline = reference_point(torch.cat(policies), torch.cat(references))
        self._tally.note("kl", self._baseline)

    def __call__(self, model: Any, batch: PackedBatch, denominator: float) -> torch.Tensor:
        """The batch's share of the step's loss. The denominator is the number of verdicts of the step."""
        section, scores = self._section, score_branches(model, batch)
        _, good_N = labels(scores.branches)
        verdicts = kto_loss(
            scores.logprob_N,
            looked_up(self._reference, scores),
            good_N,
            denominator,
            baseline=self._baseline,
            beta=section.beta,
            desirable_weight=section.desirable_weight,
            undesirable_weight=section.undesirable_weight,
        )
        self._tally.add("desirable_reward", verdicts.reward_N[good_N].sum(), int(good_N.sum()))
        self._tally.add("undesirable_reward", verdicts.reward_N[~good_N].sum(), int((~good_N).sum()))
        return verdicts.loss
