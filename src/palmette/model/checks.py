"""Which models can be trusted with a prefix tree: refusals by name, then a proof on a tiny tree.

Not covered: a model that treats long rows differently from short ones without saying so in its configuration.
"""

from __future__ import annotations

from typing import Any

import torch

from palmette.errors import ModelError
from palmette.model.forward import logits_at, model_name
from palmette.tree.batch import PackedBatch
from palmette.tree.prefix_tree import Node, PrefixTree
from palmette.tree.segments import Segment

_KNOWN_LAYERS = {"full_attention", "sliding_attention"}
_DROPOUTS = ("attention_dropout", "attn_pdrop", "attention_probs_dropout_prob", "attn_dropout")
# Largest relative difference of logits between the packed and the plain form: the rounding of each dtype, with room.
_TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-3, torch.bfloat16: 0.1, torch.float16: 0.02}


def check_model(model: Any, *, training: bool) -> None:
    """Refuse a model whose attention cannot honour a tree's mask.

    Args:
        model: a causal language model.
        training: whether it will be trained (then attention dropout counts).

    Raises:
        ModelError: state-space, linear or chunked layers; an encoder-decoder; attention outside `AttentionInterface`; attention
            dropout in training; or numbers on a small tree that differ from those of plain rows.
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
                f"{name} drops attention weights in training ({key} = {getattr(config, key)}), so branches would not be equal to plain rows",
                f"Set model.overrides: {{{key}: 0.0}}.",
            )
    _prove(model, name)


def check_positions(model: Any, num_positions: int, what: str) -> None:
    """Refuse text that is longer than the model was made for.

    Args:
        model: a causal language model.
        num_positions: tokens of the longest branch, or of a prompt with its reply.
        what: what they belong to, for the message.

    Raises:
        ModelError: there are more of them than the model has positions.
    """
    limit = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if limit is not None and num_positions > limit:
        raise ModelError(
            f"{what} needs {num_positions} positions, and {model_name(model)} has {limit}",
            "Split the document, or use a model with a longer context.",
        )


@torch.no_grad()
def _prove(model: Any, name: str) -> None:
    """Two branches and a placeholder, packed, against each branch in a row of its own."""
    vocabulary = int(model.get_input_embeddings().weight.shape[0])
    trunk, left, right = ((tuple((7 * i + k) % vocabulary for i in range(4))) for k in (1, 3, 5))
    leaves = tuple(Node((Segment(tokens),)) for tokens in (left, right))
    packed = PackedBatch.from_trees([[PrefixTree(Node((Segment(trunk),), leaves))]])
    alone = PackedBatch.from_trees([[PrefixTree(Node((Segment(trunk + right),)))]])
    was_training = model.training
    model.eval()
    try:
        got = logits_at(model, packed.to(model.device), torch.tensor([11], device=model.device)).double()
        want = logits_at(model, alone.to(model.device), torch.tensor([7], device=model.device)).double()
    finally:
        model.train(was_training)
    difference = float((got - want).norm() / want.norm())
    limit = _TOLERANCE[model.dtype]
    if not difference <= limit:
        raise ModelError(
            f"{name} gives a branch other numbers in a tree than in a row of its own (relative difference {difference:.2g}, limit {limit:g})",
            "Use another model: this one ignores the mask or the positions that it is given.",
        )
