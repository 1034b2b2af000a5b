"""What sharing the document buys: forward and backward of packed trees against one question a row, side by side.

Prints a table; the last line is the ratio alone. Both forms learn the same tokens, so their losses must agree.

    python benchmarks/packing.py [--documents 8] [--repeats 3] [--data builtin:train] [--model NAME]
"""

from __future__ import annotations

import argparse
import statistics
import time
from dataclasses import replace

import torch

from palmette.data.source import read_source
from palmette.model.embedded import DEFAULT_MODEL
from palmette.model.loading import add_lora, load_model
from palmette.run import machine
from palmette.tasks.extractive_qa import ExtractiveQa
from palmette.train.steps.plan import StepPlan
from palmette.train.steps.step import nll_objective
from palmette.tree.chat import ChatTemplate
from palmette.tree.prefix_tree import PrefixTree


def plan(trees: list[PrefixTree]) -> StepPlan:
    """All trees in one optimizer step."""
    return StepPlan(trees, trees_per_step=len(trees), row_tokens=4096, tokens_per_batch=4096, seed=0)


def step(model: torch.nn.Module, made: StepPlan) -> tuple[float, float]:
    """Seconds and loss of forward and backward over the plan's one step."""
    started, total = time.monotonic(), 0.0
    batches = made.step_batches(0, 0)
    denominator = sum(batch.learn_weight for batch in batches)
    for batch in batches:
        loss = nll_objective(model, batch, denominator)
        loss.backward()  # type: ignore[no-untyped-call]
        total += float(loss.detach())
    model.zero_grad()
    return time.monotonic() - started, total


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--documents", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--data", default="builtin:train")
    parser.add_argument("--model", default=DEFAULT_MODEL)
    options = parser.parse_args()
    loaded = load_model(options.model)
    task = ExtractiveQa(ChatTemplate(loaded.tokenizer))
    documents = read_source(options.data, limit_documents=options.documents).documents
    model = add_lora(loaded.model, rank=16, alpha=32, dropout=0.0, targets="all-linear").train()
    packed = [task.training_tree(document) for document in documents]
    plain = [task.training_tree(replace(d, questions=(q,))) for d in documents for q in d.questions]
    print(f"{options.model}, {loaded.model.dtype}, {options.data}: {len(documents)} documents, {len(plain)} questions")
    print(f"machine: {machine()}")
    plans = {"tree per document": plan(packed), "question per row": plan(plain)}
    seconds: dict[str, list[float]] = {name: [] for name in plans}
    losses: dict[str, float] = {}
    for name, made in plans.items():  # warm up
        losses[name] = step(model, made)[1]
    for _ in range(options.repeats):
        for name, made in plans.items():
            seconds[name].append(step(model, made)[0])
    print(f"{'form':20} {'tokens':>8} {'questions/s':>12} {'spread':>15} {'loss':>8}")
    rates = {name: [len(plain) / s for s in taken] for name, taken in seconds.items()}
    for name, made in plans.items():
        tokens = sum(tree.num_tokens for tree in made.trees)
        spread = f"{min(rates[name]):.2f} to {max(rates[name]):.2f}"
        print(f"{name:20} {tokens:8} {statistics.median(rates[name]):12.2f} {spread:>15} {losses[name]:8.4f}")
    ratio = statistics.median(rates["tree per document"]) / statistics.median(rates["question per row"])
    print(f"ratio {ratio:.1f}")


if __name__ == "__main__":
    main()
