"""Learning rates over the steps of a run: a warm-up whose first step already learns, then a schedule of transformers.

transformers starts its warm-up at a learning rate of 0, so the first step of a run changes nothing. A run of ten steps
then wastes a tenth of its work, and a run of one step learns nothing at all. Here the warm-up ends at the same
step, and rises to it in equal parts of which the first step has one.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from transformers import Trainer

from palmette import run

WARMUP, FROM_FIRST_STEP = "warmup", "from the first step"  # an entry of the manifest, and its value


def rate_factor(
    schedule: str,
    step: int,
    num_steps: int,
    num_warmup: int,
    *,
    from_zero: bool = False,
    decay: float = 0.2,
    final: float = 0.0,
) -> float:
    """The share of the peak learning rate that a step has.

    Four steps, of which one is warm-up:

    >>> [round(rate_factor("linear", step, 4, 1), 2) for step in range(4)]
    [0.5, 1.0, 0.67, 0.33]

    Warming up again and decaying again, at a peak of its own, is how pre-training is continued (Ibrahim et al., 2024,
    with a cosine to a tenth of the peak).

    Args:
        schedule: "linear" falls to `final` in a line, "cosine" in half a cosine wave, "constant_with_warmup" does not
            fall, and "warmup_stable_decay" (Hu et al., 2024) in a line over the last steps. The step after the last
            one would have `final`.
        step: the optimizer step, counted from 0.
        num_steps: the steps of the run.
        num_warmup: the steps of the warm-up. The step after them has the peak.
        from_zero: whether the warm-up begins at 0, as in transformers and in runs of earlier versions.
        decay: share of all steps over which "warmup_stable_decay" falls.
        final: the share of the peak that is left at the end.

    Raises:
        ValueError: the schedule is unknown.
    """
    if step < num_warmup:
        return step / num_warmup if from_zero else (step + 1) / (num_warmup + 1)
    done = (step - num_warmup) / max(1, num_steps - num_warmup)
    if schedule == "constant_with_warmup":
        return 1.0
    if schedule == "warmup_stable_decay":
        num_decay = min(num_steps - num_warmup, max(1, round(decay * num_steps))) if decay else 0
        done = (step - (num_steps - num_decay)) / num_decay if num_decay else 0.0
    if schedule in ("linear", "warmup_stable_decay"):
        return final + (1.0 - final) * min(1.0, max(0.0, 1.0 - done))
    if schedule == "cosine":
        return final + (1.0 - final) * max(0.0, 0.5 * (1.0 + math.cos(math.pi * done)))
    raise ValueError(f"schedule is {schedule!r}")


def begins_at_zero(folder: Path) -> bool:
    """Whether a run was begun by an earlier version, whose first step has the learning rate 0.

    Its manifest lacks an entry that later versions write. Such a run keeps the learning rates that it began with.
    """
    return (folder / run.MANIFEST).is_file() and run.read_manifest(folder).get(WARMUP) != FROM_FIRST_STEP


class ScheduledTrainer(Trainer):  # type: ignore[misc]  # transformers' decorators hide its type
    """A `Trainer` whose first step learns.

    Attributes:
        from_zero: whether the warm-up begins at 0 all the same, to continue a run that began so.
        decay, final_rate: see `rate_factor`.
    """

    from_zero = False
    decay, final_rate = 0.2, 0.0
    lr_scheduler: Any = None  # of Trainer

    def create_scheduler(
        self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None
    ) -> torch.optim.lr_scheduler.LRScheduler:
        """The learning rates of all steps, by `rate_factor`."""
        if self.lr_scheduler is None:
            schedule = str(self.args.lr_scheduler_type.value)
            options: dict[str, Any] = {"from_zero": self.from_zero, "decay": self.decay, "final": self.final_rate}
            num_warmup = self.args.get_warmup_steps(num_training_steps)
            self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(
                optimizer or self.optimizer,
                lambda step: rate_factor(schedule, step, num_training_steps, num_warmup, **options),
            )
            self._created_lr_scheduler = True
        scheduler: torch.optim.lr_scheduler.LRScheduler = self.lr_scheduler
        return scheduler
