"""The numbers of a packed step, and whether they are the oracle's."""

from __future__ import annotations

import os
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import TrainingArguments

from palmette.model.forward import branch_logprobs, score_tokens
from palmette.objectives.nll import weighted_nll
from palmette.train.steps.plan import StepPlan
from palmette.train.steps.step import TreeTrainer
from palmette.tree.batch import PackedBatch
from palmette.tree.prefix_tree import PrefixTree
from tests.support.models import tiny_llama
from tests.support.oracle import oracle
from tests.support.trees import example

# float64 carries 15 to 16 digits; sums over a few dozen terms lose two or three of them.
TOLERANCE = 1e-11


def packed_numbers(model: Any, rows: list[list[PrefixTree]]) -> tuple[list[dict[str, torch.Tensor]], torch.Tensor]:
    batch = PackedBatch.from_trees(rows)
    scores = score_tokens(model, batch)
    found = [{leaf: value for (_, leaf), value in row.items()} for row in branch_logprobs(batch, scores)]
    return found, weighted_nll(scores.logprob_P, batch.learn_BT[scores.row_P, scores.column_P], batch.learn_weight)


def gradients(model: Any) -> list[torch.Tensor]:
    found = [p.grad.clone() if p.grad is not None else torch.zeros_like(p) for p in model.parameters()]
    model.zero_grad()
    return found


def assert_equal_to_oracle(model: Any, plain: Any, rows: list[list[PrefixTree]]) -> None:
    found, loss = packed_numbers(model, rows)
    loss.backward()
    got = gradients(model)
    weight = sum(tree.learn_weight for row in rows for tree in row)
    expected_loss = torch.zeros((), dtype=torch.float64)
    for row, branch_values in zip(rows, found, strict=True):
        expected = {}
        for tree in row:
            totals, weighted = oracle(plain, tree)
            expected.update(totals)
            expected_loss = expected_loss - weighted / weight
        assert branch_values.keys() == expected.keys()
        for name, value in expected.items():
            torch.testing.assert_close(branch_values[name], value, rtol=TOLERANCE, atol=TOLERANCE)
    torch.testing.assert_close(loss, expected_loss, rtol=TOLERANCE, atol=TOLERANCE)
    expected_loss.backward()
    for packed_gradient, plain_gradient in zip(got, gradients(plain), strict=True):
        torch.testing.assert_close(packed_gradient, plain_gradient, rtol=1e-9, atol=1e-10)


def plan(row_tokens: int, tokens_per_batch: int, one_row: bool = False) -> StepPlan:
    trees = [example(offset) for offset in range(5)]
    return StepPlan(
        trees, trees_per_step=5, row_tokens=row_tokens, tokens_per_batch=tokens_per_batch, seed=1, one_row=one_row
    )


def train_example(out: str) -> None:
    """Three epochs of `plan`, as the stages train them, in this process or, where its environment says so, in one of
    several.
    """
    torch.set_num_threads(1)
    model, distributed = tiny_llama(), "WORLD_SIZE" in os.environ
    args = TrainingArguments(
        output_dir=f"{out}/checkpoints",
        num_train_epochs=3,
        learning_rate=0.01,
        use_cpu=True,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
        per_device_train_batch_size=1,
        logging_steps=1,
        ddp_backend="gloo" if distributed else None,
    )
    TreeTrainer(model, args, plan(4096, 1)).train()
    if args.process_index == 0:
        weights = {name: parameter.detach().contiguous() for name, parameter in model.named_parameters()}
        save_file(weights, f"{out}/weights.safetensors")
    if distributed:  # else the first process to end may take the other's connection away
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()
