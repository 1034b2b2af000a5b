"""The optimizer steps of a policy that learns from its own completions.

Each batch of rollouts is sampled just before the first step that learns from it, with the weights of that moment. The
order of the documents is new in each epoch. A batch is sampled from `documents` of them and learned `passes` times, in
steps of `trees_per_step` documents. So the documents of a step follow from (epoch, step), and only its completions do
not. A run may stop after any step, since a checkpoint keeps the rollouts that later steps learn from.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from palmette import processes, run
from palmette.errors import RunError, reason_of
from palmette.rollouts.batch import RolloutBatch
from palmette.rollouts.maker import RolloutMaker
from palmette.rollouts.questions import PromptGroup
from palmette.seeds import derive_seed
from palmette.train.steps.plan import StepPlan
from palmette.tree.batch import PackedBatch

ROLLOUTS, SAMPLES = "rollouts.json", "samples.jsonl"

Score = Callable[[RolloutBatch, Sequence[PackedBatch], RolloutBatch | None], None]


class RolloutPlan:
    """The steps of a run over rollouts, as a `train/steps/plan.py:Plan`.

    Args:
        model: the policy that is trained.
        groups: the groups of prompts of an epoch.
        maker: samples and rewards completions.
        score: adds numbers to the `scored` and `notes` of new rollouts, with the current weights. It is called with the
            new rollouts, their packed batches, and the rollouts before them, or None for the first.
        documents: number of documents in a batch of rollouts.
        trees_per_step: number of documents in an optimizer step.
        passes: how often each batch of rollouts is learned.
        row_tokens, tokens_per_batch, one_row: see `StepPlan`.
        seed: random seed of all orders.
    """

    def __init__(
        self,
        model: Any,
        groups: Sequence[PromptGroup],
        maker: RolloutMaker,
        *,
        score: Score,
        documents: int,
        trees_per_step: int,
        passes: int,
        row_tokens: int,
        tokens_per_batch: int,
        one_row: bool,
        seed: int,
    ) -> None:
        self._model, self._groups, self._maker, self._score = model, list(groups), maker, score
        self._documents, self._trees_per_step, self._passes = documents, min(trees_per_step, documents), passes
        self._seed = seed
        self._row_tokens, self._tokens_per_batch, self._one_row = row_tokens, tokens_per_batch, one_row
        self._samples: tuple[Path, int] | None = None
        self._current: tuple[RolloutBatch, StepPlan] | None = None
        full, rest = divmod(len(self._groups), documents)
        self._steps_per_batch = self._steps_over(documents)
        self._batches_per_epoch = full + bool(rest)
        self.steps_per_epoch = full * self._steps_per_batch + self._steps_over(rest)

    def _steps_over(self, documents: int) -> int:
        """Number of optimizer steps that learn from the rollouts of so many documents."""
        return -(-documents // self._trees_per_step) * self._passes

    @property
    def rollouts(self) -> RolloutBatch:
        """The rollouts that the current step learns from.

        Raises:
            ValueError: nothing was sampled yet.
        """
        if self._current is None:
            raise ValueError("no step has been taken yet, so there are no rollouts")
        return self._current[0]

    def keep_samples(self, path: Path, step: int, most: int) -> None:
        """From now on, write the first `most` questions of each batch, each with a completion, to a JSON Lines file.

        Args:
            path: the file. Lines of steps after `step` are dropped, since these steps are taken again.
            step: number of optimizer steps taken so far.
            most: number of questions of each batch.
        """
        if not processes.is_main():
            return
        lines = run.read_log(path) if path.is_file() else []
        run.write_json_lines(path, (line for line in lines if line["step"] <= step))
        self._samples = (path, most)

    def groups_of(self, number: int) -> list[PromptGroup]:
        """The groups of prompts of batch `number` of the run."""
        epoch, index = divmod(number, self._batches_per_epoch)
        generator = torch.Generator().manual_seed(derive_seed(self._seed, epoch))
        order: list[int] = torch.randperm(len(self._groups), generator=generator).tolist()
        return [self._groups[i] for i in order[index * self._documents : (index + 1) * self._documents]]

    def step_batches(self, epoch: int, step: int) -> list[PackedBatch]:
        """The packed batches of one step. If it is the first that learns from its rollouts, they are sampled now."""
        index, update = divmod(step, self._steps_per_batch)
        number = epoch * self._batches_per_epoch + index
        if self._current is None or self._current[0].number != number:
            if update:
                raise RunError(
                    f"the rollouts that step {step} of epoch {epoch} learns from are lost", "Start a new run."
                )
            self._sample(number, epoch * self.steps_per_epoch + step + 1)
        assert self._current is not None
        steps = self._current[1]
        return steps.step_batches(
            number * self._passes + update // steps.steps_per_epoch, update % steps.steps_per_epoch
        )

    def _sample(self, number: int, step: int) -> None:
        """Sample batch `number`, before optimizer step `step` (from 1)."""
        rollouts = self._maker.make(self.groups_of(number), number)
        steps = self._steps(rollouts)
        # The batches of the first pass. So the ratio of equal policies is exactly 1 in that pass.
        first = number * self._passes
        batches = [batch for part in range(steps.steps_per_epoch) for batch in steps.step_batches(first, part)]
        self._score(rollouts, batches, self._current[0] if self._current else None)
        self._current = rollouts, steps
        if self._samples is not None:
            path, most = self._samples
            for line in rollouts.shown(most):
                run.append_line(path, json.dumps({"step": step, **line}, ensure_ascii=False))

    def _steps(self, rollouts: RolloutBatch) -> StepPlan:
        return StepPlan(
            rollouts.trees(),
            trees_per_step=self._trees_per_step,
            row_tokens=self._row_tokens,
            tokens_per_batch=self._tokens_per_batch,
            seed=self._seed,
            one_row=self._one_row,
            parts=processes.count(),
        )

    def save(self, folder: Path, step: int) -> None:
        """Write the current rollouts."""
        if self._current is not None:
            run.write_json(folder / ROLLOUTS, self._current[0].to_json())
        if self._samples is not None and self._samples[0].is_file():
            run.flush(self._samples[0])

    def load(self, folder: Path) -> None:
        """Read the rollouts of a checkpoint.

        Raises:
            RunError: they cannot be read.
        """
        path = folder / ROLLOUTS
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            groups = self.groups_of(values["number"])
            rollouts = RolloutBatch.from_json(values, groups, self._maker.num_samples, self._model.device)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise RunError(
                f"{path} cannot be read: {reason_of(error)}", "Remove this checkpoint, and resume again."
            ) from error
        self._current = rollouts, self._steps(rollouts)
