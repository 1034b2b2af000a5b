"""Law 3: how trees share rows, batches, and processes never changes a step's loss or its gradients."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from palmette.errors import PackingError
from palmette.objectives.nll import weighted_nll
from palmette.train.steps.plan import StepPlan
from palmette.train.steps.step import nll_objective
from palmette.tree.packing import padded_length, plan_batches
from palmette.tree.prefix_tree import Node, PrefixTree, lay_out
from palmette.tree.segments import Segment
from tests.support.equality import gradients, plan, train_example
from tests.support.models import tiny_llama
from tests.support.paths import ROOT
from tests.support.trees import example


@given(st.lists(st.integers(1, 300), min_size=1, max_size=40), st.integers(300, 900), st.integers(1, 4000))
def test_a_plan_holds_every_tree_once_within_its_limits(lengths: list[int], row_tokens: int, budget: int) -> None:
    batches = plan_batches(lengths, row_tokens=row_tokens, tokens_per_batch=budget)
    assert sorted(index for rows in batches for row in rows for index in row) == list(range(len(lengths)))
    for rows in batches:
        used = [sum(lengths[index] for index in row) for row in rows]
        assert max(used) <= row_tokens
        assert len(rows) == 1 or len(rows) * padded_length(max(used)) <= budget


def test_several_batches_are_of_much_the_same_size() -> None:
    """Nine rows of 64, eight of which would fit: five and four, not eight and one."""
    batches = plan_batches([64] * 9, row_tokens=64, tokens_per_batch=8 * 64)
    assert [len(rows) for rows in batches] == [5, 4]


def step(model: Any, plan: StepPlan) -> tuple[float, list[torch.Tensor], tuple[int, ...]]:
    batches = plan.step_batches(0, 0)
    denominator = sum(batch.learn_weight for batch in batches)
    total = 0.0
    for batch in batches:
        loss = nll_objective(model, batch, denominator)
        loss.backward()
        total += float(loss.detach())
    return total, gradients(model), tuple(batch.token_BT.shape[0] for batch in batches)


def test_packing_and_accumulation_do_not_change_a_step() -> None:
    """One tree a forward pass, several rows a pass, several trees a row, all in one row: one loss, one gradient."""
    model = tiny_llama()
    wanted, wanted_gradients, shape = step(model, plan(4096, 1))
    shapes = {shape}
    sizes = ((4096, 128), (4096, 4096), (64, 4096), (22, 4096), (22, 4096, True), (22, 64, True))
    for size in sizes:
        loss, got, shape = step(model, plan(*size))
        shapes.add(shape)
        assert loss == pytest.approx(wanted, rel=1e-12)
        differences = [(a - b).abs() for a, b in zip(got, wanted_gradients, strict=True)]
        assert max(float(d.max()) for d in differences) < 1e-11
        assert sum(float(d.mean()) for d in differences) < 1e-11
    assert len(shapes) >= 4, f"the plans did not differ: {shapes}"


def test_the_loss_is_the_weighted_mean() -> None:
    """-(1 * -1 + 0.5 * -4) / 6 = 0.5."""
    loss = weighted_nll(torch.tensor([-1.0, -4.0]), torch.tensor([1.0, 0.5]), 6.0)
    assert float(loss) == pytest.approx(0.5)
    with pytest.raises(ValueError, match="must be positive, not 0"):
        weighted_nll(torch.zeros(1), torch.zeros(1), 0.0)


def test_every_epoch_takes_every_tree_once_in_an_order_of_its_own() -> None:
    made = StepPlan([example(i) for i in range(7)], trees_per_step=3, row_tokens=99, tokens_per_batch=99, seed=0)
    orders = [[tree for s in range(made.steps_per_epoch) for tree in made.step_trees(epoch, s)] for epoch in range(3)]
    assert all(sorted(order) == list(range(7)) for order in orders)
    assert len({tuple(order) for order in orders}) == 3


def test_trees_that_cannot_be_learned_are_refused_by_name() -> None:
    def tree(*segments: Segment) -> PrefixTree:
        return PrefixTree(Node(segments), "doc-7")

    def build(tree: PrefixTree, row_tokens: int = 10) -> StepPlan:
        return StepPlan([tree], trees_per_step=1, row_tokens=row_tokens, tokens_per_batch=10, seed=0)

    with pytest.raises(PackingError, match="'doc-7' has no learned token"):
        build(tree(Segment((1, 2))))
    with pytest.raises(PackingError, match=r"'doc-7' has 3 tokens, more than train.row_tokens = 2"):
        build(tree(Segment((1, 2)), Segment((3,), learn=1.0)), row_tokens=2)
    with pytest.raises(PackingError, match="'doc-7' learns its first token"):
        lay_out(tree(Segment((1, 2), learn=1.0)))
    with pytest.raises(PackingError, match="nothing to train on"):
        StepPlan([], trees_per_step=1, row_tokens=1, tokens_per_batch=1, seed=0)


def train_in_processes(count: int, out: Path) -> dict[str, torch.Tensor]:
    out.mkdir()
    # The processes meet here, as under torchrun: a port that one of them opened could be taken by then.
    store = torch.distributed.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    code = "import sys; from tests.support.equality import train_example as train; train(sys.argv[1])"
    running = []
    for rank in range(count):
        env = {**os.environ, "PYTHONWARNINGS": "ignore", "ACCELERATE_USE_CPU": "true"}
        env |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(count)}
        env |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port), "TORCHELASTIC_USE_AGENT_STORE": "True"}
        command = [sys.executable, "-c", code, str(out)]
        running.append(subprocess.Popen(command, env=env, cwd=ROOT, stderr=subprocess.PIPE))
    errors = [process.communicate(timeout=300)[1].decode() for process in running]
    assert [process.returncode for process in running] == [0] * count, errors
    return load_file(out / "weights.safetensors")


def test_two_processes_train_as_one(tmp_path: Path) -> None:
    """AdamW divides by the root of small squares, which magnifies the last digits of a sum taken in another order."""
    train_example(str(tmp_path / "one"))
    one, two = load_file(tmp_path / "one" / "weights.safetensors"), train_in_processes(2, tmp_path / "two")
    start = dict(tiny_llama().named_parameters())
    moved = max(float((one[name] - start[name]).abs().max().detach()) for name in one)
    assert moved > 0.01  # three steps of 0.01 were taken
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=0, atol=1e-8)
