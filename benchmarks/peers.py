"""One side of `benchmarks/train.py`, in a process of its own: Palmette's trainer, or TRL's SFTTrainer in a setting given by name.

Both start from the same weights and the same fresh LoRA matrices, in the same dtype, and meet the same questions in the same
optimizer steps, as the same tokens with the same ones learned: both take them from `ExtractiveQa`, and hand back a hash of what they
train on. Learning rate, schedule, clipping and seed come from one recipe.

TRL 1.16.0, and what was chosen where it leaves a choice (names are those of its sources):

- Data: `input_ids` and `labels`, what `SFTTrainer._prepare_dataset` makes of prompts and completions with the loss on completions
  only; `max_length=None`, since it would cut off questions at 1,024 tokens.
- Order: a batch sampler goes through the steps and, within a step, from the longest example to the shortest. `group_by_length` can do no
  better within a step, and would put other examples into the steps than Palmette's.
- `padded:N`: micro-batches of at most N examples, with gradient accumulation up to the step. Documents have as many questions as they have,
  but `Trainer` wants as many micro-batches in every step: so their sizes differ, and are chosen such that least is padded (`counts.cut`).
  The loss stays that of the whole step, since `Trainer` counts the learned tokens of all its micro-batches.
- `free:N`: `padding_free=True`, at most N examples one after the other in one row. On a CPU this keeps them apart: the collator gives positions
  that begin anew and no attention mask, from which `transformers.masking_utils.find_packed_sequence_indices` makes a mask of
  blocks. But the scores of the whole square are computed, so the cost grows with the square of the row. `packing=True` runs the
  same way; it also puts examples of different steps into a row, and the number of examples in a step is then no longer fixed.
- Off: gradient checkpointing (on by default; it computes the forward pass twice) and autocast (`bf16=True` by default; the weights
  have the dtype already, casting them again only costs).
- The stock "sdpa" attention, which takes the fast causal path where no row is padded.
- Optimizer: the default `adamw_torch_fused`, on the LoRA matrices in their own dtype. Palmette keeps float32 masters of these; on
  TRL's side, updates that are small against a bfloat16 weight are lost.
- The output layer: on a CPU `add_fused_lm_head` scores all positions, learned or not (`compact = _use_triton(...)`), and multiplies
  in float32 on the way back. No setting changes that. `:learned-head` after a setting patches this one line, to show how much of the
  difference it makes.

    python benchmarks/peers.py JOB.json     # as benchmarks/train.py does
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import torch
from counts import count_layouts, count_rows, cut, joined_cost, layout_rows, padded_cost, rows_sha256, tree_rows, work
from transformers import TrainerCallback, TrainerState, set_seed

from palmette.config import DataSection, ModelSection, Recipe, TrainSection
from palmette.data.source import read_source
from palmette.model.attention import BACKENDS
from palmette.model.fused import describe
from palmette.model.loading import add_lora, load_model, load_tokenizer
from palmette.tasks.extractive_qa import ExtractiveQa, training_trees
from palmette.train.plan import StepPlan
from palmette.train.sft import prepare, training_arguments
from palmette.train.step import TreeTrainer, nll_objective
from palmette.tree.chat import ChatTemplate
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
        side: "palmette", or a setting of TRL such as "padded:8" (see the module).
        model: the model's name.
        data: SQuAD file of the documents to train on.
        held_out: SQuAD file of the documents that the loss is measured on afterwards.
        folder: where the trainer may write.
        documents: documents of one optimizer step.
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
        self._started = self._inside = 0.0
        self.steps: list[dict[str, int]] = []

    def watch(self, method: Callable[..., Any]) -> Callable[..., Any]:
        """The same method, its time added to that of forward and backward."""

        def watched(*args: Any, **kwargs: Any) -> Any:
            started = now()
            result = method(*args, **kwargs)
            self._inside += now() - started
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
            self._channel.send(setup=self._setup)
        else:
            seconds, memory = now() - self._started, memory_now()
            steps = self.steps[state.global_step - self._job.steps : state.global_step]
            held = {name: sum(step[name] for step in steps) for name in steps[0]}
            self._channel.send(seconds=seconds, forward_backward=self._inside, memory=memory, **held)
        self._channel.wait()
        self._inside, self._started = 0.0, now()


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


def palmette_side(job: Job, turns: Turns) -> Side:
    """Palmette's trainer, as `palmette train sft` sets it up."""
    recipe = job.recipe()
    ready = prepare(recipe, lambda line: print(line, file=sys.stderr), None)
    arguments = training_arguments(recipe, Path(job.folder), recipe.train.epochs)
    arguments.save_strategy = "no"
    model = ready.loaded.model
    trainer = TreeTrainer(model, arguments, ready.plan, callbacks=[turns])
    # As they are packed: what trees of one row share counts once.
    steps = [
        [row for batch in ready.plan.step_batches(0, step) for row in batch.rows]
        for step in range(ready.plan.steps_per_epoch)
    ]
    counts = [count_layouts(step) for step in steps]
    digest = rows_sha256(row for step in steps for packed in step for row in layout_rows(packed))
    return Side(trainer, model, counts, digest, describe(model))


def trl_side(job: Job, turns: Turns) -> Side:
    """TRL's trainer in the setting that the job names."""
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    kind, size, *extra = job.side.split(":")
    recipe = job.recipe()
    loaded = load_model(job.model)
    trees = training_trees(ExtractiveQa(ChatTemplate(loaded.tokenizer)), read_source(job.data).documents)
    train = recipe.train
    plan = StepPlan(
        trees,
        trees_per_step=train.trees_per_step,
        row_tokens=train.row_tokens,
        tokens_per_batch=train.tokens_per_batch,
        seed=train.seed,
    )
    set_seed(train.seed)
    model = add_lora(loaded.model, **recipe.lora.model_dump())
    model.get_base_model().set_attn_implementation("sdpa")
    steps = [
        sorted((row for tree in step for row in tree_rows(tree)), key=lambda row: (-len(row[0]), row))
        for step in steps_of(plan)
    ]
    rows = [row for step in steps for row in step]
    batches = micro_batches([[len(row[0]) for row in step] for step in steps], kind, int(size))
    shared = training_arguments(recipe, Path(job.folder), recipe.train.epochs)
    config = SFTConfig(
        output_dir=job.folder,
        **{name: getattr(shared, name) for name in SHARED},
        per_device_train_batch_size=int(size),
        gradient_accumulation_steps=len(batches) // len(steps),
        padding_free=kind == "free",
        max_length=None,
        bf16=False,
        gradient_checkpointing=False,
        logging_strategy="no",
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    if extra == ["learned-head"]:
        import trl.trainer.utils

        trl.trainer.utils._use_triton = lambda _device: True
    data = Dataset.from_dict({"input_ids": [list(row[0]) for row in rows], "labels": [list(row[1]) for row in rows]})
    trainer = SFTTrainer(model, config, train_dataset=data, processing_class=loaded.tokenizer, callbacks=[turns])
    loader = torch.utils.data.DataLoader(trainer.train_dataset, batch_sampler=batches, collate_fn=trainer.data_collator)
    trainer.get_train_dataloader = lambda: trainer.accelerator.prepare(loader)
    return Side(trainer, model, [count_rows(step) for step in steps], rows_sha256(rows), attention_of(model))


def micro_batches(steps: list[list[int]], kind: str, most: int) -> list[list[int]]:
    """Indices of the examples of each micro-batch of at most `most`: as many micro-batches in each step, as few as that allows.

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


@torch.no_grad()
def held_out_losses(model: Any, source: str, tokenizer_of: str) -> tuple[float, float]:
    """Loss on the held-out questions without the adapter and with it (nats per learned token), by the same code on both sides."""
    model.get_base_model().set_attn_implementation(BACKENDS["sdpa"])
    model.eval()
    task = ExtractiveQa(ChatTemplate(load_tokenizer(tokenizer_of)))
    trees = training_trees(task, read_source(source).documents)
    plan = StepPlan(trees, trees_per_step=len(trees), row_tokens=ROW_TOKENS, tokens_per_batch=4096, seed=0)
    batches = [batch.to(model.device) for batch in plan.step_batches(0, 0)]
    denominator = sum(batch.learn_weight for batch in batches)

    def loss() -> float:
        return sum(float(nll_objective(model, batch, denominator)) for batch in batches)

    with model.disable_adapter():
        untouched = loss()
    return untouched, loss()


def main() -> None:
    """Run one side, turn by turn."""
    channel = Channel()
    job = Job(**json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
    turns = Turns(job, channel)
    side = (palmette_side if job.side == PALMETTE else trl_side)(job, turns)
    turns.steps = [{"flops": work(side.model, count), **count} for count in side.counts]
    side.trainer.training_step = turns.watch(side.trainer.training_step)
    side.trainer.train()
    peak = memory_peak()
    untouched, loss = held_out_losses(side.model, job.held_out, job.model)
    dtype = str(side.model.dtype).removeprefix("torch.")
    learned = {"rows_sha256": side.rows_sha256, "dtype": dtype}
    channel.send(peak=peak, untouched=untouched, loss=loss, path=side.path, **learned)


if __name__ == "__main__":
    main()
