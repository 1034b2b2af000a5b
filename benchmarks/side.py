"""A side of a benchmark, in a process of its own: what it is asked to do, how it reports turn by turn, what it measures
of itself, and how TRL's trainers are set up whatever they train.

`benchmarks/peers.py` (fine-tuning) and `benchmarks/preference_peers.py` (preferences) hold the sides themselves.
"""

from __future__ import annotations

import functools
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import psutil
import torch
from counts import Row, count_layouts, count_rows, cut, joined_cost, layout_rows, padded_cost, rows_sha256, work
from transformers import TrainerCallback, TrainerState

from palmette.config.recipes import Recipe
from palmette.config.sections import DataSection, ModelSection, TrainSection
from palmette.model.fused import describe
from palmette.train.loop import training_arguments
from palmette.train.steps.plan import Plan, StepPlan
from palmette.train.steps.schedule import ScheduledTrainer
from palmette.tree.prefix_tree import PrefixTree

PALMETTE = "palmette"
ROW_TOKENS = 8192
# What TRL is given just as the recipe says it.
SHARED = (
    "learning_rate",
    "weight_decay",
    "lr_scheduler_type",
    "warmup_steps",
    "max_grad_norm",
    "seed",
    "num_train_epochs",
)


@dataclass(frozen=True)
class Job:
    """What a side is asked to do.

    Attributes:
        side: "palmette", or a setting of TRL such as "padded:8" (see peers.py).
        model: the model's name.
        data: file of what is trained on.
        held_out: file of what the loss is measured on afterwards.
        folder: where the trainer may write.
        documents: documents, each a prefix tree, of one optimizer step.
        warmup: optimizer steps before the first turn.
        steps: optimizer steps of a turn.
    """

    side: str
    model: str
    data: str
    held_out: str
    folder: str
    documents: int
    warmup: int
    steps: int

    def recipe(self) -> Recipe:
        """The recipe that both sides follow; what is not said here has its default."""
        return Recipe(
            output=str(Path(self.folder) / "run"),
            model=ModelSection(name=self.model),
            data=DataSection(train=[self.data]),
            train=TrainSection(epochs=1, trees_per_step=self.documents, row_tokens=ROW_TOKENS),
        )


@dataclass(frozen=True)
class Side:
    """A trainer that is ready to start.

    Attributes:
        trainer: the trainer.
        model: its model.
        counts: what each of its steps holds (see `count_layouts`).
        rows_sha256: hash of all that it trains on.
        path: how forward and backward are computed.
    """

    trainer: Any
    model: Any
    counts: list[dict[str, int]]
    rows_sha256: str
    path: str


AnyJob = TypeVar("AnyJob", bound=Job)


class Channel:
    """Lines to and from the process that started this one. What libraries print goes to the error stream."""

    def __init__(self) -> None:
        self._out = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)

    def send(self, **values: Any) -> None:
        """Send one message."""
        print(json.dumps(values), file=self._out, flush=True)

    def wait(self) -> None:
        """Sleep until told to go on."""
        if not sys.stdin.readline():
            raise SystemExit("nobody is waiting for this any more")


class Turns(TrainerCallback):  # type: ignore[misc]
    """Trains for one turn at a time: after the warm-up and after each turn, says how it went and waits."""

    def __init__(self, job: Job, channel: Channel) -> None:
        self._job, self._channel = job, channel
        self._setup: float | None = None
        self._started = self._inside = self._loss = 0.0
        self.steps: list[dict[str, int]] = []

    def watch(self, method: Callable[..., Any]) -> Callable[..., Any]:
        """The same `training_step`, its time added to that of forward and backward, and its share of the step's loss
        kept.
        """

        def watched(*args: Any, **kwargs: Any) -> Any:
            started = now()
            result = method(*args, **kwargs)
            self._inside += now() - started
            self._loss += float(result)
            return result

        return watched

    def on_step_begin(self, _args: Any, _state: TrainerState, _control: Any, **_kwargs: Any) -> None:
        """Note how long it took from the start of the process to the first step."""
        if self._setup is None:
            self._setup = time.time() - psutil.Process().create_time()

    def on_step_end(self, _args: Any, state: TrainerState, _control: Any, **_kwargs: Any) -> None:
        """Report and wait where a turn ends."""
        done = state.global_step - self._job.warmup
        if done < 0 or done % self._job.steps:
            return
        if done == 0:
            self._channel.send(setup=self._setup, training_loss=self._loss / self._job.warmup)
        else:
            seconds, memory = now() - self._started, memory_now()
            steps = self.steps[state.global_step - self._job.steps : state.global_step]
            held = {name: sum(step[name] for step in steps) for name in steps[0]}
            measured = {"forward_backward": self._inside, "memory": memory, "training_loss": self._loss / len(steps)}
            self._channel.send(seconds=seconds, **measured, **held)
        self._channel.wait()
        self._inside, self._loss, self._started = 0.0, 0.0, now()


def now() -> float:
    """Seconds, after whatever an accelerator still has to do."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def memory_now() -> int:
    """Bytes of resident memory; on an accelerator, bytes allocated there."""
    return int(torch.cuda.memory_allocated() if torch.cuda.is_available() else psutil.Process().memory_info().rss)


def memory_peak() -> int:
    """The most that `memory_now` has been in this process."""
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    # Not getrusage: on Linux its maximum passes from a process to those that it starts.
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise SystemExit("the peak of resident memory is read from VmHWM in /proc/self/status, which is not here")


def micro_batches(steps: list[list[int]], kind: str, most: int) -> list[list[int]]:
    """Indices of the examples of each micro-batch of at most `most`: as many micro-batches in each step, as few as that
    allows.

    >>> micro_batches([[9, 9, 9, 5, 5], [7, 7]], "padded", 3)
    [[0, 1, 2], [3, 4], [5], [6]]

    Args:
        steps: tokens of each example of each step.
        kind: "padded" or "free".
        most: examples of a micro-batch.
    """
    num = max(-(-len(step) // most) for step in steps)
    if num > min(map(len, steps)):
        raise SystemExit(f"steps of {sorted(map(len, steps))} questions cannot all be cut into {num} micro-batches")
    ends, batches = 0, []
    for step in steps:
        for size in cut(step, num, most, padded_cost if kind == "padded" else joined_cost):
            batches.append(list(range(ends, ends + size)))
            ends += size
    return batches


def attention_of(model: Any) -> str:
    """The attention that a model with an adapter uses."""
    return str(model.get_base_model().config._attn_implementation)


def steps_of(plan: StepPlan) -> list[list[PrefixTree]]:
    """The trees of each optimizer step of the first epoch."""
    return [[plan.trees[i] for i in plan.step_trees(0, step)] for step in range(plan.steps_per_epoch)]


def tree_side(trainer: Any, plan: Plan, **counts: int) -> Side:
    """Palmette's trainer over the steps of a plan, one epoch; `counts` are the same in each step."""
    # As they are packed: what trees of one row share counts once.
    steps = [
        [row for batch in plan.step_batches(0, step) for row in batch.rows] for step in range(plan.steps_per_epoch)
    ]
    held = [{**counts, **count_layouts(step)} for step in steps]
    digest = rows_sha256(row for step in steps for packed in step for row in layout_rows(packed))
    return Side(trainer, trainer.model, held, digest, describe(trainer.model))


def row_side(trainer: Any, steps: list[list[Row]], **counts: int) -> Side:
    """A trainer of TRL's over the plain rows of each step; `counts` are the same in each step."""
    held = [{**counts, **count_rows(step)} for step in steps]
    return Side(
        trainer, trainer.model, held, rows_sha256(row for step in steps for row in step), attention_of(trainer.model)
    )


def trl_options(job: Job, size: int, num_batches: int) -> dict[str, Any]:
    """Arguments that every trainer of TRL is given: the recipe's, what is off (see peers.py), and how steps are cut.

    Args:
        job: what is asked for.
        size: the most examples of a micro-batch.
        num_batches: micro-batches of an optimizer step.
    """
    recipe = job.recipe()
    shared = training_arguments(recipe, Path(job.folder), recipe.train.epochs)
    return {
        "output_dir": job.folder,
        **{name: getattr(shared, name) for name in SHARED},
        "per_device_train_batch_size": size,
        "gradient_accumulation_steps": num_batches,
        "bf16": False,
        "gradient_checkpointing": False,
        "logging_strategy": "no",
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
    }


def patch_head(extra: list[str]) -> None:
    """Let TRL's output layer score learned positions only, if what a setting adds asks for it ("learned-head"; see
    peers.py).
    """
    if "learned-head" in extra:
        import trl.trainer.utils

        trl.trainer.utils._use_triton = lambda _device: True


def give_schedule(trainer: Any) -> None:
    """Let one of TRL's trainers learn at Palmette's learning rates.

    Those of transformers begin at 0, so the sides would not learn the same.
    """
    trainer.from_zero, trainer.decay, trainer.final_rate = False, ScheduledTrainer.decay, ScheduledTrainer.final_rate
    trainer.create_scheduler = functools.partial(ScheduledTrainer.create_scheduler, trainer)


def give_batches(trainer: Any, batches: list[list[int]], collate: Callable[..., Any]) -> None:
    """Let one of TRL's trainers meet its examples in these micro-batches, in this order."""
    loader = torch.utils.data.DataLoader(trainer.train_dataset, batch_sampler=batches, collate_fn=collate)
    trainer.get_train_dataloader = lambda: trainer.accelerator.prepare(loader)


def read_job(kind: type[AnyJob]) -> AnyJob:
    """The job that the command line names."""
    return kind(**json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))


def take_part(
    job: AnyJob, channel: Channel, build: Callable[[AnyJob, Turns], Side], losses: Callable[[Side], tuple[float, float]]
) -> None:
    """Run one side, turn by turn.

    Args:
        job: what is asked for.
        channel: to whoever asked.
        build: makes the side ready.
        losses: held-out losses before and after training, measured when all is done.
    """
    turns = Turns(job, channel)
    side = build(job, turns)
    turns.steps = [{"flops": work(side.model, count), **count} for count in side.counts]
    side.trainer.training_step = turns.watch(side.trainer.training_step)
    side.trainer.train()
    peak = memory_peak()
    learned = {"rows_sha256": side.rows_sha256, "dtype": str(side.model.dtype).removeprefix("torch.")}
    untouched, loss = losses(side)
    channel.send(peak=peak, untouched=untouched, loss=loss, path=side.path, **learned)
