"""One side of `benchmarks/pretrain.py`, in a process of its own: Palmette's trainer, or TRL's SFTTrainer on the same
pieces of text.

Both start from the same weights and the same fresh LoRA matrices, and meet the same pieces in the same optimizer steps:
each is one given token and the tokens that are learned after it. Both hand back a hash of what they train on. What TRL
is given is otherwise that of peers.py. `free:N` puts N pieces one after the other into one row, with positions that
begin anew, as TRL's packing does. transformers keeps them apart by a mask of blocks. `padded:N` gives each piece a row.

    python benchmarks/pretrain_peers.py JOB.json     # as benchmarks/pretrain.py does
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from counts import tree_rows
from side import (
    PALMETTE,
    Channel,
    Job,
    Side,
    Turns,
    give_batches,
    give_schedule,
    micro_batches,
    read_job,
    row_side,
    steps_of,
    take_part,
    tree_side,
    trl_options,
)
from transformers import set_seed

from palmette.corpus.sources import open_source
from palmette.inference.perplexity import score_sources, some_pieces
from palmette.model.attention import BACKENDS, skips_hidden
from palmette.model.checks import check_model
from palmette.model.loading import add_lora, load_model
from palmette.tasks.text_pieces import TextPieces
from palmette.train.loop import training_arguments
from palmette.train.steps.plan import StepPlan
from palmette.train.steps.step import TreeTrainer
from palmette.tree.prefix_tree import PrefixTree

HELD_OUT = 4  # pieces


@dataclass(frozen=True)
class TextJob(Job):
    """What a side is asked to do. `data` is a source of texts, and `documents` counts pieces.

    Attributes:
        piece_tokens: the most tokens of a piece.
        num_pieces: how many pieces are learned.
    """

    piece_tokens: int = 256
    num_pieces: int = 16


def pieces_of(job: TextJob, tokenizer: Any) -> tuple[list[PrefixTree], list[PrefixTree]]:
    """The pieces to learn, and those that the loss is measured on afterwards."""
    source = open_source(job.data)
    found = some_pieces(source, TextPieces(tokenizer, job.piece_tokens), 1 << 60)
    pieces = [tree for tree, _ in zip(found, range(job.num_pieces + HELD_OUT), strict=False)]
    if len(pieces) < job.num_pieces + HELD_OUT:
        raise SystemExit(f"{job.data} holds {len(pieces)} pieces, and {job.num_pieces + HELD_OUT} are needed")
    return pieces[:-HELD_OUT], pieces[-HELD_OUT:]


def adapted(job: TextJob) -> tuple[Any, Any]:
    """The model with fresh LoRA matrices, and its tokenizer."""
    loaded = load_model(job.model)
    set_seed(job.recipe().train.seed)
    return add_lora(loaded.model, **job.recipe().lora.model_dump()), loaded.tokenizer


def plan_of(job: TextJob, trees: list[PrefixTree], *, one_row: bool) -> StepPlan:
    """The optimizer steps over the pieces."""
    train = job.recipe().train
    limits = {"row_tokens": train.row_tokens, "tokens_per_batch": train.tokens_per_batch}
    return StepPlan(trees, trees_per_step=train.trees_per_step, seed=train.seed, one_row=one_row, **limits)


def palmette_side(job: TextJob, turns: Turns) -> Side:
    """Palmette's trainer, packed as `palmette train pretrain` packs."""
    model, tokenizer = adapted(job)
    check_model(model, training=True)
    plan = plan_of(job, pieces_of(job, tokenizer)[0], one_row=skips_hidden(model))
    arguments = training_arguments(job.recipe(), Path(job.folder), 1)
    arguments.save_strategy = "no"
    return tree_side(TreeTrainer(model, arguments, plan, callbacks=[turns]), plan)


def trl_side(job: TextJob, turns: Turns) -> Side:
    """TRL's trainer in the setting that the job names."""
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    kind, size = job.side.split(":")
    model, tokenizer = adapted(job)
    model.get_base_model().set_attn_implementation("sdpa")
    plan = plan_of(job, pieces_of(job, tokenizer)[0], one_row=False)
    steps = [[row for tree in step for row in tree_rows(tree)] for step in steps_of(plan)]
    rows = [row for step in steps for row in step]
    batches = micro_batches([[len(row[0]) for row in step] for step in steps], kind, int(size))
    options = trl_options(job, int(size), len(batches) // len(steps))
    config = SFTConfig(**options, padding_free=kind == "free", max_length=None)
    data = Dataset.from_dict({"input_ids": [list(row[0]) for row in rows], "labels": [list(row[1]) for row in rows]})
    trainer = SFTTrainer(model, config, train_dataset=data, processing_class=tokenizer, callbacks=[turns])
    give_schedule(trainer)
    give_batches(trainer, batches, trainer.data_collator)
    return row_side(trainer, steps)


@torch.no_grad()
def held_out_losses(job: TextJob, model: Any) -> tuple[float, float]:
    """Loss on the held-out pieces without the adapter and with it, by the same code on both sides (nats a token)."""
    from palmette.model.tokenizer import load_tokenizer

    model.get_base_model().set_attn_implementation(BACKENDS["sdpa"])
    held_out = pieces_of(job, load_tokenizer(job.model))[1]

    def loss() -> float:
        (score,) = score_sources(model, held_out, row_tokens=job.piece_tokens, tokens_per_batch=2048)
        return score.loss

    with model.disable_adapter():
        untouched = loss()
    return untouched, loss()


def main() -> None:
    """Run one side, turn by turn."""
    channel, job = Channel(), read_job(TextJob)
    build: Any = palmette_side if job.side == PALMETTE else trl_side
    take_part(job, channel, build, lambda side: held_out_losses(job, side.model))


if __name__ == "__main__":
    main()
