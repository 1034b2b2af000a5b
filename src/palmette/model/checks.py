"""Whether a model can be trusted with a prefix tree: what is known not to work is refused, then a tiny tree is a proof.

The proof compares the model as it will be run, packed and with fused layers if it has any, with plain rows on stock
layers. In 16 bits, rounding alone can make the two differ by more than a fault would. Then the proof is given in
float32, with the same layers and weights, on a CPU that has the memory for it. It is repeated only where something has
changed since it last succeeded (`proof`).

Not covered: a model that treats long rows differently from short ones although its configuration does not say so.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from psutil import virtual_memory

from palmette.errors import ModelError
from palmette.model.forward import evaluating, logits_at, model_name, stock_logits_at
from palmette.model.proof import is_kept, keep, proof_of
from palmette.model.quantize import is_quantized
from palmette.tree.batch import PackedBatch
from palmette.tree.prefix_tree import Node, PrefixTree
from palmette.tree.segments import Segment

_KNOWN_LAYERS = {"full_attention", "sliding_attention"}
_DROPOUTS = ("attention_dropout", "attn_pdrop", "attention_probs_dropout_prob", "attn_dropout")
# Largest relative difference of logits between the packed and the plain form: the rounding of each dtype, with room.
# SmolLM2-135M with fused layers: 2e-6 in float32, 0.02 in bfloat16. Qwen2.5-Coder-0.5B: 1e-5 and 0.074.
_TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-3, torch.bfloat16: 0.05, torch.float16: 0.02}
_NARROW = (torch.bfloat16, torch.float16)
_ROUNDING = 0.25  # the largest that is taken for rounding to 16 bits, of a model that is proved in float32


def check_model(model: Any, *, training: bool, weights: str | None = None) -> None:
    """Refuse a model whose attention cannot honour a tree's mask.

    A proof that succeeded is kept in the cache, and holds until anything that it depends on differs. `model/proof.py`
    says what that is, and for which models none is kept. The other checks are made at every call.

    Args:
        model: a causal language model.
        training: whether it will be trained. Only then is attention dropout refused.
        weights: a hash of what the model's weights were loaded from. None if it is not known, or if they have been
            changed since. Then the model is proved at every call.

    Raises:
        ModelError: the model has state-space, linear or chunked layers, it is an encoder-decoder, it attends outside
            `AttentionInterface`, it would drop attention weights in training, or its numbers on a small tree differ
            from those of stock layers on plain rows.
    """
    name, config = model_name(model), model.config.get_text_config()
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    if getattr(model.config, "is_encoder_decoder", False):
        raise ModelError(f"{name} is an encoder-decoder", "Use a decoder-only model.")
    odd = sorted(set(getattr(config, "layer_types", None) or ()) - _KNOWN_LAYERS)
    if odd or getattr(base, "_is_stateful", False):
        what = f"layers of type {', '.join(odd)}" if odd else "a recurrent state"
        raise ModelError(
            f"{name} has {what}, which carry every earlier token of a row along and cannot honour a mask",
            "Use a model with attention in every layer (Llama, Qwen, Gemma, Mistral, SmolLM, ...).",
        )
    if not getattr(base, "_supports_attention_backend", False):
        raise ModelError(
            f"{name} does not attend through transformers' AttentionInterface, so the mask might be ignored",
            "Use a model that does (Llama, Qwen, Gemma, Mistral, SmolLM, ...).",
        )
    for key in _DROPOUTS:
        if training and getattr(config, key, None):
            raise ModelError(
                f"{name} drops attention weights in training ({key} = {getattr(config, key)}), so branches would not "
                "equal plain rows",
                f"Set model.overrides: {{{key}: 0.0}}.",
            )
    statement = None if weights is None else proof_of(model, weights)
    if statement is not None and is_kept(statement):
        return
    _prove(model, name)
    if statement is not None:
        keep(statement)


@torch.no_grad()
def _prove(model: Any, name: str) -> None:
    """Compare two branches in a tree with each branch in a row of its own, in float32 where 16 bits do not decide."""
    difference, limit = _difference(model), _TOLERANCE[model.dtype]
    if limit < difference <= _ROUNDING and model.dtype in _NARROW and _fits_in_float32(model):
        with _in_float32(model):
            difference, limit = _difference(model), _TOLERANCE[torch.float32]
    if not difference <= limit:
        raise ModelError(
            f"{name} gives a branch other numbers in a tree than in a row of its own "
            f"(relative difference {difference:.2g}, limit {limit:g})",
            "Set model.fused: false if something replaces parts of the model. If that does not help, use another "
            "model: this one ignores the mask or the positions that it is given.",
        )


def _fits_in_float32(model: Any) -> bool:
    """Whether the weights can be widened in place, with a quarter of the free memory to spare."""
    widened = sum(4 * tensor.numel() for tensor in model.parameters())
    return model.device.type == "cpu" and not is_quantized(model) and widened < 0.75 * virtual_memory().available


@contextmanager
def _in_float32(model: Any) -> Iterator[None]:
    """The model's 16-bit weights and buffers as float32 for a while. Each comes back as it was, bit for bit."""
    narrow = [tensor for tensor in (*model.parameters(), *model.buffers()) if tensor.dtype in _NARROW]
    kept = [tensor.data for tensor in narrow]
    try:
        for tensor in narrow:
            tensor.data = tensor.data.float()
        yield
    finally:
        for tensor, data in zip(narrow, kept, strict=True):
            tensor.data = data


def _difference(model: Any) -> float:
    """Largest relative difference of logits between branches in a tree, as the model will be run, and stock rows.

    The trunk holds a placeholder that nobody may look at, and the tree holds another placeholder than the rows. Logits
    are compared without their mean over the vocabulary, which says nothing and would hide what differs.
    """
    vocabulary = int(model.get_input_embeddings().weight.shape[0])

    def segment(count: int, step: int) -> Segment:
        return Segment(tuple((step * (index + 3) + 5) % vocabulary for index in range(count)))

    def trunk(placeholder: int) -> tuple[Segment, ...]:
        return segment(14, 7), replace(segment(4, placeholder), attend=False), segment(10, 11)

    left, right = segment(6, 13), segment(5, 17)
    packed = PackedBatch.from_trees([[PrefixTree(Node(trunk(19), (Node((left,)), Node((right,)))))]])
    ends = [28 + 6 - 1, 28 + 6 + 5 - 1]
    differences = []
    with evaluating(model):
        packed_QV = logits_at(model, packed.to(model.device), torch.tensor(ends, device=model.device))
        for index, branch in enumerate((left, right)):
            row = PackedBatch.from_trees([[PrefixTree(Node((*trunk(23), branch)))]])
            end = torch.tensor([28 + len(branch.tokens) - 1], device=model.device)
            stock_V = stock_logits_at(model, row.to(model.device), end)[0]
            differences.append(_relative(packed_QV[index], stock_V))
    return max(differences, key=lambda one: math.inf if math.isnan(one) else one)


def _relative(packed_V: torch.Tensor, stock_V: torch.Tensor) -> float:
    packed_V, stock_V = (logits.double() - logits.double().mean() for logits in (packed_V, stock_V))
    return float((packed_V - stock_V).norm() / stock_V.norm())
