"""One side of `benchmarks/train.py`, in a process of its own: Palmette's trainer, or TRL's SFTTrainer in a setting
given by name.

Both start from the same weights and the same fresh LoRA matrices, in the same dtype, and meet the same questions in the
same optimizer steps, as the same tokens with the same ones learned: both take them from `ExtractiveQa`, and hand back a
hash of what they train on. Learning rate, schedule, clipping and seed come from one recipe.

TRL 1.16.0, and what was chosen where it leaves a choice (names are those of its sources):

- Data: `input_ids` and `labels`, what `SFTTrainer._prepare_dataset` makes of prompts and completions with the loss on
  completions only; `max_length=None`, since it would cut off questions at 1,024 tokens.
- Order: a batch sampler goes through the steps and, within a step, from the longest example to the shortest.
  `group_by_length` can do no better within a step, and would put other examples into the steps than Palmette's.
- `padded:N`: micro-batches of at most N examples, with gradient accumulation up to the step. Documents have as many
  questions as they have, but `Trainer` wants as many micro-batches in every step: so their sizes differ, and are chosen
  such that least is padded (`counts.cut`). The loss stays that of the whole step, since `Trainer` counts the learned
  tokens of all its micro-batches.
- `free:N`: `padding_free=True`, at most N examples one after the other in one row. On a CPU this keeps them apart: the
  collator gives positions that begin anew and no attention mask, from which
  `transformers.masking_utils.find_packed_sequence_indices` makes a mask of blocks. But the scores of the whole square
  are computed, so the cost grows with the square of the row. `packing=True` runs the same way; it also puts examples of
  different steps into a row, and the number of examples in a step is then no longer fixed.
- Off: gradient checkpointing (on by default; it computes the forward pass twice) and autocast (`bf16=True` by default;
  the weights have the dtype already, casting them again only costs).
- The stock "sdpa" attention, which takes the fast causal path where no row is padded; `:eager` after a setting takes
  the other one that runs on a CPU.
- `:compile` after a setting is `torch_compile=True`; what is compiled in the warm-up is not timed.
- Optimizer: the default `adamw_torch_fused`, on the LoRA matrices in their own dtype. Palmette keeps float32 masters of
  these; on TRL's side, updates that are small against a bfloat16 weight are lost.
- The output layer: on a CPU `add_fused_lm_head` scores all positions, learned or not (`compact = _use_triton(...)`),
  and multiplies in float32 on the way back. No setting changes that. `:learned-head` after a setting patches this one
  line, to show how much of the difference it makes.

    python benchmarks/peers.py JOB.json     # as benchmarks/train.py does
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from counts import tree_rows
from side import (
    PALMETTE,
    ROW_TOKENS,
    Channel,
    Job,
    Side,
    Turns,
    give_batches,
    give_schedule,
    micro_batches,
    patch_head,
    read_job,
    row_side,
    steps_of,
    take_part,
    tree_side,
    trl_options,
)
from transformers import set_seed

from palmette.data.source import read_source
from palmette.model.attention import BACKENDS
from palmette.model.loading import add_lora, load_model
from palmette.model.tokenizer import load_tokenizer
from palmette.tasks.extractive_qa import ExtractiveQa
from palmette.train.loop import training_arguments
from palmette.train.sft import prepare
from palmette.train.steps.plan import StepPlan
from palmette.train.steps.step import TreeTrainer, nll_objective
from palmette.tree.chat import ChatTemplate
from palmette.tree.prefix_tree import PrefixTree


def palmette_side(job: Job, turns: Turns) -> Side:
    """Palmette's trainer, as `palmette train sft` sets it up."""
    recipe = job.recipe()
    ready = prepare(recipe, lambda line: print(line, file=sys.stderr))
    arguments = training_arguments(recipe, Path(job.folder), recipe.train.epochs)
    arguments.save_strategy = "no"
    model = ready.loaded.model
    trainer = TreeTrainer(model, arguments, ready.plan, callbacks=[turns])
    return tree_side(trainer, ready.plan)


def training_trees(task: ExtractiveQa, source: str) -> list[PrefixTree]:
    """One training tree for each document of a source that has questions."""
    return [task.training_tree(document) for document in read_source(source).documents if document.questions]


def trl_side(job: Job, turns: Turns) -> Side:
    """TRL's trainer in the setting that the job names."""
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    kind, size, *extra = job.side.split(":")
    recipe = job.recipe()
    loaded = load_model(job.model)
    trees = training_trees(ExtractiveQa(ChatTemplate(loaded.tokenizer)), job.data)
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
    model.get_base_model().set_attn_implementation("eager" if "eager" in extra else "sdpa")
    steps = [
        sorted((row for tree in step for row in tree_rows(tree)), key=lambda row: (-len(row[0]), row))
        for step in steps_of(plan)
    ]
    rows = [row for step in steps for row in step]
    batches = micro_batches([[len(row[0]) for row in step] for step in steps], kind, int(size))
    options = trl_options(job, int(size), len(batches) // len(steps))
    config = SFTConfig(**options, padding_free=kind == "free", max_length=None, torch_compile="compile" in extra)
    patch_head(extra)
    data = Dataset.from_dict({"input_ids": [list(row[0]) for row in rows], "labels": [list(row[1]) for row in rows]})
    trainer = SFTTrainer(model, config, train_dataset=data, processing_class=loaded.tokenizer, callbacks=[turns])
    give_schedule(trainer)
    give_batches(trainer, batches, trainer.data_collator)
    return row_side(trainer, steps)


@torch.no_grad()
def held_out_losses(model: Any, source: str, tokenizer_of: str) -> tuple[float, float]:
    """Loss on the held-out questions without the adapter and with it (nats per learned token), by the same code on
    both sides.
    """
    model.get_base_model().set_attn_implementation(BACKENDS["sdpa"])
    model.eval()
    task = ExtractiveQa(ChatTemplate(load_tokenizer(tokenizer_of)))
    trees = training_trees(task, source)
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
    channel, job = Channel(), read_job(Job)
    build = palmette_side if job.side == PALMETTE else trl_side
    take_part(job, channel, build, lambda side: held_out_losses(side.model, job.held_out, job.model))


if __name__ == "__main__":
    main()
