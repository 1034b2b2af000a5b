"""Plans: the trees of each optimizer step, and their packed batches.

Both depend only on seed and step, so a run can resume anywhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol, TypedDict

import numpy as np
import torch

from palmette.errors import PackingError
from palmette.seeds import derive_seed
from palmette.tree.batch import PackedBatch
from palmette.tree.packing import plan_packing
from palmette.tree.prefix_tree import PrefixTree

# The search for the largest batch packs no more trees than these, which takes seconds.
_MOST_PACKED = 100_000


class PackingLimits(TypedDict):
    """The limits of `plan_packing`."""

    row_tokens: int
    tokens_per_batch: int
    one_row: bool
    parts: int


class Plan(Protocol):
    """The optimizer steps of a run, from any source.

    Each step is requested just before it is taken, in order and with the current weights, so a plan may sample from the
    model. A resumed run does not request the steps that were taken before. So a step must be a function of (epoch,
    step), of the weights, and of what `save` wrote. A plan has its own random generators, since the global state
    belongs to the model (dropout).

    Attributes:
        steps_per_epoch: number of steps in an epoch.
    """

    steps_per_epoch: int

    def step_batches(self, epoch: int, step: int) -> list[PackedBatch]:
        """The packed batches of one step of one epoch, both counted from 0."""

    def save(self, folder: Path, step: int) -> None:
        """Write what later steps need besides the weights, such as rollouts, into the folder of a checkpoint.

        Args:
            folder: the folder.
            step: optimizer steps taken so far. If a step broke off, it is one less than the steps that were requested.
        """

    def load(self, folder: Path) -> None:
        """Read what `save` wrote, to resume from that checkpoint."""


class StepPlan:
    """The optimizer steps of a run over given trees, in a new order in each epoch.

    Args:
        trees: the trees to learn, which may be on disk. They must not change.
        trees_per_step: number of trees in an optimizer step.
        row_tokens: most tokens of a tree. Unless `one_row`, also of a row.
        tokens_per_batch: most tokens of a forward pass, counted as in `plan_batches` and `plan_single_rows`.
        seed: random seed of the order.
        one_row: whether the trees of a forward pass are put into one row. This is faster where attention skips hidden
            tokens (on a CPU), and slower where its cost is the square of the row (a dense mask). The numbers are the
            same.
        parts: the number of processes that share a step, see `plan_packing`.
        learns: whether each tree must have learned tokens. The trees of a reward model have none.

    Raises:
        PackingError: there are no trees, a tree is longer than a row, or a tree learns nothing although it should.
    """

    def __init__(
        self,
        trees: Sequence[PrefixTree],
        *,
        trees_per_step: int,
        row_tokens: int,
        tokens_per_batch: int,
        seed: int,
        one_row: bool = False,
        parts: int = 1,
        learns: bool = True,
    ) -> None:
        if not trees:
            raise PackingError("there is nothing to train on", "Give documents with questions.")
        self.trees = trees
        lengths = (check_tree(tree, row_tokens, learns=learns) for tree in trees)
        self._lengths = np.fromiter(lengths, dtype=np.int64, count=len(trees))
        self._trees_per_step, self._seed = trees_per_step, seed
        self._limits = PackingLimits(
            row_tokens=row_tokens, tokens_per_batch=tokens_per_batch, one_row=one_row, parts=parts
        )
        self.steps_per_epoch = -(-len(trees) // trees_per_step)
        self._order: tuple[int, torch.Tensor] | None = None

    def step_trees(self, epoch: int, step: int) -> list[int]:
        """Indices of the trees of one step of one epoch."""
        chosen: list[int] = self._epoch_order(epoch)[self._of_step(step)].tolist()
        return chosen

    def _of_step(self, step: int) -> slice:
        return slice(step * self._trees_per_step, (step + 1) * self._trees_per_step)

    def _epoch_order(self, epoch: int) -> torch.Tensor:
        """The order of the trees in an epoch. It is drawn once, and kept until another epoch is asked for."""
        if self._order is None or self._order[0] != epoch:
            generator = torch.Generator().manual_seed(derive_seed(self._seed, epoch))
            self._order = epoch, torch.randperm(len(self.trees), generator=generator)
        return self._order[1]

    def step_batches(self, epoch: int, step: int) -> list[PackedBatch]:
        """The packed batches of one step."""
        chosen = [self.trees[index] for index in self.step_trees(epoch, step)]
        return PackedBatch.pack(chosen, **self._limits)

    def save(self, folder: Path, step: int) -> None:
        """Write nothing, since the trees are given and their order is a function of the seed."""

    def load(self, folder: Path) -> None:
        """Read nothing, as `save` writes nothing."""

    def largest_batch(self, num_epochs: int) -> PackedBatch:
        """The packed batch whose trees have the most tokens, of all steps of so many epochs, the first one on a tie.

        Steps whose trees have fewer tokens together than the largest batch so far are not packed. In large data sets
        no more than 100,000 trees are packed, those of the steps with the most tokens and of a step with the longest
        tree. Then the result may be a little smaller than the largest batch, but no batch exceeds the limits of the
        plan.
        """
        lengths = torch.from_numpy(self._lengths)
        room = -(-_MOST_PACKED // (num_epochs * self._trees_per_step))
        most, largest = 0, (0, 0, 0)
        for epoch in range(num_epochs):
            order = self._epoch_order(epoch)
            for total, step in self._fullest_steps(lengths[order], room):
                if total < most or (total == most and (epoch, step) > largest[:2]):
                    continue
                chosen: list[int] = order[self._of_step(step)].tolist()
                for index, rows in enumerate(self._plan(chosen)):
                    tokens = sum(int(self._lengths[chosen[i]]) for row in rows for i in row)
                    if tokens > most or (tokens == most and (epoch, step, index) < largest):
                        most, largest = tokens, (epoch, step, index)
        epoch, step, index = largest
        return self.step_batches(epoch, step)[index]

    def _fullest_steps(self, lengths: torch.Tensor, room: int) -> list[tuple[int, int]]:
        """The steps of an epoch with the most tokens, as (tokens, step), most first, and one with the longest tree.

        Args:
            lengths: tokens of each tree, in the order of the epoch.
            room: how many steps are wanted.
        """
        filled = torch.nn.functional.pad(lengths, (0, -len(lengths) % self._trees_per_step))
        totals = filled.view(-1, self._trees_per_step).sum(1)
        steps: list[int] = totals.argsort(descending=True, stable=True)[:room].tolist()
        steps.append(int(lengths.argmax()) // self._trees_per_step)
        return [(int(totals[step]), step) for step in steps]

    def _plan(self, chosen: list[int]) -> list[list[list[int]]]:
        return plan_packing([self.trees[index] for index in chosen], **self._limits)


def check_tree(tree: PrefixTree, row_tokens: int, *, learns: bool = True) -> int:
    """Check that a tree fits into a row and, if it should, learns something.

    Returns:
        Its number of tokens.

    Raises:
        PackingError: it does not. The message names the tree.
    """
    num_tokens = tree.num_tokens
    if num_tokens > row_tokens:
        raise PackingError(
            f"the tree of {tree.name!r} has {num_tokens} tokens, more than train.row_tokens = {row_tokens}",
            "Raise train.row_tokens, or set data.on_too_long: drop.",
        )
    if learns and not tree.learn_weight > 0:
        raise PackingError(
            f"the tree of {tree.name!r} has no learned token", "Give its branches a learn mask, or take it out."
        )
    return num_tokens


class StepSampler:
    """Yields (epoch, step) keys. The training loop sets the epoch."""

    def __init__(self, steps_per_epoch: int) -> None:
        self._steps, self._epoch = steps_per_epoch, 0
        self.batch_size, self.drop_last = 1, False

    def set_epoch(self, epoch: int) -> None:
        """The epoch of the keys to come."""
        self._epoch = epoch

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        return iter([[(self._epoch, step)] for step in range(self._steps)])

    def __len__(self) -> int:
        return self._steps


class StepDataset(torch.utils.data.Dataset[list[PackedBatch]]):
    """The steps of a plan, by (epoch, step)."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan

    def __getitem__(self, key: tuple[int, int]) -> list[PackedBatch]:
        return self._plan.step_batches(*key)

    def __len__(self) -> int:
        return self._plan.steps_per_epoch


class StepLoader(torch.utils.data.DataLoader[list[PackedBatch]]):
    """Loads one optimizer step at a time, without touching the global random state."""

    def __init__(self, plan: Plan) -> None:
        self.steps = StepSampler(plan.steps_per_epoch)
        super().__init__(
            StepDataset(plan),
            batch_sampler=self.steps,
            collate_fn=_only,
            generator=torch.Generator().manual_seed(0),
        )

    def set_epoch(self, epoch: int) -> None:
        """The epoch of the steps to come."""
        self.steps.set_epoch(epoch)


def _only(items: list[list[PackedBatch]]) -> list[PackedBatch]:
    return items[0]
