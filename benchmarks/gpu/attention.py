"""The attention backends against an oracle in float64: one branch a row, stock attention, none of Palmette's code.

Compared are the log-probabilities of learned tokens and the gradients of all weights, with and without gradient
checkpointing, for several sizes of heads.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch

from gpu.parts import Row, each
from gpu.shapes import device, random_model, random_trees, shape
from palmette.model.attention import BACKENDS, Attention
from palmette.model.forward import branch_logprobs, score_tokens
from palmette.train.steps.step import nll_objective
from palmette.tree.batch import PackedBatch
from palmette.tree.prefix_tree import Node, PrefixTree

HEADS = (64, 128, 256, 96)
# The largest relative errors of values and of gradients: the rounding of each dtype, with room. On a CPU they are
# 0.006 and 0.011 in bfloat16, and 8e-7 and 6e-7 in float32.
LIMITS = {torch.bfloat16: 0.05, torch.float32: 1e-3}
# Weights are drawn wide, so that attention matters, and less so in wide layers, so that all round alike.
_RANGE = 0.6
Values = dict[tuple[str, str], float]


def measure(tiny: bool) -> Iterator[Row]:
    """All sizes of heads in bfloat16, and one in float32."""
    heads = (16, 24) if tiny else HEADS
    cases = [(head, torch.bfloat16) for head in heads] + [(heads[0], torch.float32)]
    return each((f"heads of {head}, {name_of(dtype)}", partial(compare, head, dtype, tiny)) for head, dtype in cases)


def name_of(dtype: torch.dtype) -> str:
    """A dtype in words."""
    return str(dtype).removeprefix("torch.")


def compare(head: int, dtype: torch.dtype, tiny: bool) -> Iterator[Row]:
    """Both backends against the oracle, for one size of heads."""
    sizes = {"hidden_size": 4 * head, "intermediate_size": 8 * head, "num_hidden_layers": 2, "vocab_size": 512}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": head, "tie_word_embeddings": False}
    model = random_model(
        shape("1B", tiny=False, **sizes, **heads, initializer_range=_RANGE * head**-0.5), dtype, device()
    )
    length = 40 if tiny else 400
    trees = random_trees(3, document=length, questions=3, question=length // 4, learned=length // 8, vocabulary=512)
    values, gradients = oracle(copy.deepcopy(model).double(), trees)
    batch = PackedBatch.from_trees([trees[:2], trees[2:]]).to(device())
    limit = LIMITS[dtype]
    backends: tuple[Attention, ...] = ("flex", "sdpa")
    for backend in backends:
        name = f"{backend}, heads of {head}, {name_of(dtype)}"

        def against_oracle(backend: Attention = backend, name: str = name) -> Iterator[Row]:
            model.set_attn_implementation(BACKENDS[backend])
            yield _row(f"{name}: values", value_error(model, batch, values), limit)
            for checkpointing in (False, True):
                error = gradient_error(model, batch, gradients, checkpointing)
                yield _row(f"{name}: gradients{', checkpointing' if checkpointing else ''}", error, limit)

        yield from each([(name, against_oracle)])


def _row(what: str, error: float, limit: float) -> Row:
    return Row(what, error, "relative error", f"limit {limit:g}", ok=error <= limit)


@torch.no_grad()
def value_error(model: Any, batch: PackedBatch, expected: Values) -> float:
    """Root mean square of the errors of the branches' log-probabilities, over their spread."""
    rows = branch_logprobs(batch, score_tokens(model, batch))
    found = {name: float(value) for row in rows for name, value in row.items()}
    assert found.keys() == expected.keys()
    want = torch.tensor([expected[name] for name in expected], dtype=torch.float64)
    got = torch.tensor([found[name] for name in expected], dtype=torch.float64)
    return float((got - want).norm() / (want - want.mean()).norm())


def gradient_error(model: Any, batch: PackedBatch, expected: torch.Tensor, checkpointing: bool) -> float:
    """Norm of the error of all gradients together, over their norm."""
    tried = copy.deepcopy(model).train()
    if checkpointing:
        tried.activation_checkpointing_enable({"use_reentrant": False})
    nll_objective(tried, batch, batch.learn_weight).backward()  # type: ignore[no-untyped-call]
    return float((_flat(tried) - expected).norm() / expected.norm())


def oracle(model: Any, trees: list[PrefixTree]) -> tuple[Values, torch.Tensor]:
    """The log-probability of each branch, and the gradients of the mean over all learned tokens, in float64."""
    model.set_attn_implementation("sdpa")
    values: Values = {}
    total, learned = torch.zeros((), dtype=torch.float64, device=device()), 0
    for tree in trees:
        for leaf in tree.root.children:
            tokens, wanted = _row_of(tree.root, leaf)
            logits = model(input_ids=tokens[None], use_cache=False).logits[0]
            logprob = torch.log_softmax(logits, dim=-1)[wanted - 1, tokens[wanted]].sum()
            values[tree.name, leaf.name] = float(logprob.detach())
            total, learned = total - logprob, learned + len(wanted)
    (total / learned).backward()  # type: ignore[no-untyped-call]
    return values, _flat(model)


def _row_of(*path: Node) -> tuple[torch.Tensor, torch.Tensor]:
    """The tokens of a branch, and the places of those that are learned."""
    segments = [segment for node in path for segment in node.segments]
    tokens = [token for segment in segments for token in segment.tokens]
    learned = [bool(segment.learn) for segment in segments for _ in segment.tokens]
    return torch.tensor(tokens, device=device()), torch.tensor(learned, device=device()).nonzero()[:, 0]


def _flat(model: Any) -> torch.Tensor:
    return torch.cat([parameter.grad.double().flatten() for parameter in model.parameters()])
