"""Log-probabilities of branches under the policy, and under the reference.

Those under the reference are computed once, before anything is learned, and kept on disk.

Letters: N branches, P learned tokens.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from palmette import processes, run
from palmette.inference.reference import open_reference
from palmette.model.forward import evaluating, score_tokens
from palmette.model.loading import LoadedModel
from palmette.objectives.branches import branch_counts, branch_sum
from palmette.progress import Say, progress
from palmette.train.job import Job
from palmette.train.steps.plan import StepPlan
from palmette.tree.batch import PackedBatch
from palmette.tree.branches import Branches, find_branches

Name = tuple[str, str]  # the name of a branch: that of its tree and that of its leaf
REFERENCE = "reference.jsonl"


@dataclass(frozen=True)
class BranchScores:
    """Log-probabilities of the branches of a batch under a model.

    Attributes:
        branches: the branches.
        logprob_N: log-probability of each branch (nats, summed over its learned tokens).
        num_tokens_N: number of learned tokens of each branch.
    """

    branches: Branches
    logprob_N: torch.Tensor
    num_tokens_N: torch.Tensor


def score_branches(model: Any, batch: PackedBatch) -> BranchScores:
    """Score the branches of a batch in one forward pass. Errors are those of `score_tokens` and `find_branches`."""
    scores, branches = score_tokens(model, batch), find_branches(batch)
    branch_P = branches.of_tokens(batch, scores.row_P, scores.column_P)
    count = len(branches)
    return BranchScores(branches, branch_sum(scores.logprob_P, branch_P, count), branch_counts(branch_P, count))


def stage_reference(job: Job, plan: StepPlan, other: str | None, folder: Path, say: Say) -> dict[Name, float]:
    """Log-probabilities (nats) of all branches of a plan under the reference of a run, kept in the run folder.

    Call this before the job's model learns anything or loads a checkpoint.

    Args:
        job: the job. Its model as it is now is the reference, unless `other` is given.
        plan: the steps over all trees.
        other: another run or model as the reference, or None.
        folder: the run folder.
        say: called with a line about the work.

    Raises:
        PalmetteError: the other model cannot be loaded, or the file cannot be written.
    """
    weights = [job.fingerprint.get(name) for name in (["reference"] if other else ["model", "start"])]

    def opened() -> LoadedModel:
        say(f"scoring all branches under {other or 'the model as it is'}")
        return open_reference(other, job.recipe.model.dtype) if other else job.loaded

    return reference_scores(plan, json.dumps(weights), folder / REFERENCE, opened)


def reference_scores(
    plan: StepPlan, weights: str, cache: Path, open_reference: Callable[[], LoadedModel]
) -> dict[Name, float]:
    """Log-probabilities (nats) of all branches of a plan under the reference, from a file if it holds them.

    Several processes share the batches of a step.

    The file holds each batch under a hash of weights and tokens, and a batch is written as soon as it is computed. The
    batches are those of the plan's first epoch. So where policy and reference are equal, their log-probabilities are
    equal to the last bit in that epoch.

    Args:
        plan: the steps over all trees.
        weights: identifies the reference's weights.
        cache: the file.
        open_reference: loads the reference. It is not called if the file holds all batches.

    Raises:
        RunError: the file cannot be written.
    """
    with processes.together():
        known = _read(cache) if processes.is_main() else {}
    known = processes.from_main(known)
    scores: dict[Name, float] = {}
    bar: Any = None
    model: Any = None
    for step in range(plan.steps_per_epoch):
        batches = plan.step_batches(0, step)
        keys = [_key(batch, weights) for batch in batches]
        missing = [index for index, key in enumerate(keys) if key not in known]
        if missing and model is None:
            model = open_reference().model
            bar = progress(plan.steps_per_epoch, "reference", "steps")
        for first in range(0, len(missing), processes.count()):
            side_by_side = missing[first : first + processes.count()]
            # A process without a batch scores the last one too, since every process must take part if the model is
            # divided among them.
            own = side_by_side[min(processes.number(), len(side_by_side) - 1)]
            found = processes.gather(_scored(model, batches[own]))
            for index, logprobs in zip(side_by_side, found, strict=False):
                known[keys[index]] = logprobs
                if processes.is_main():
                    run.append_line(cache, json.dumps({"batch": keys[index], "logprob": logprobs}))
        for batch, key in zip(batches, keys, strict=True):
            scores |= dict(zip(find_branches(batch).names, known[key], strict=True))
        if bar is not None:
            bar.update(step + 1 - bar.n)
    if bar is not None:
        bar.close()
    return scores


def _read(cache: Path) -> dict[str, list[float]]:
    """The log-probabilities in the file, by batch. A line that was cut off is removed, so that more can be added."""
    if not cache.is_file():
        return {}
    lines = run.read_log(cache)
    run.write_text(cache, "".join(json.dumps(line) + "\n" for line in lines))
    return {line["batch"]: line["logprob"] for line in lines}


def _key(batch: PackedBatch, weights: str) -> str:
    digest = hashlib.sha256(weights.encode())
    for row in batch.rows:
        digest.update(repr((row.token, row.attend, row.learn, row.predictor, row.nodes)).encode())
    return digest.hexdigest()


def _scored(model: Any, batch: PackedBatch) -> list[float]:
    with torch.no_grad(), evaluating(model):
        scored: list[float] = score_branches(model, batch.to(model.device)).logprob_N.tolist()
    return scored


def looked_up(reference: Mapping[Name, float], scores: BranchScores) -> torch.Tensor:
    """The reference's log-probabilities [N] of the branches that the policy scored."""
    values = [reference[name] for name in scores.branches.names]
    return torch.tensor(values, dtype=scores.logprob_N.dtype, device=scores.logprob_N.device)
