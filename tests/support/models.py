"""Tiny models, made in the process, and the ways through them."""

from __future__ import annotations

from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from palmette.model.attention import BACKENDS
from palmette.model.fused import describe, fuse

VOCABULARY = 61


# The shape of every tiny model: weights drawn far wider than usual, so that attention matters.
SMALL = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "initializer_range": 0.4,
}


# The ways through a model on a CPU: attention backend, and whether layers are fused.
PATHS = {
    "eager": (BACKENDS["eager"], False),
    "flex": (BACKENDS["flex"], False),
    "fused": (BACKENDS["sdpa"], True),
    "sdpa": (BACKENDS["sdpa"], False),
}


def on_path(path: str, dtype: torch.dtype = torch.float64) -> LlamaForCausalLM:
    """A Llama of two layers that computes in one of the `PATHS`."""
    backend, fused = PATHS[path]
    model = tiny_llama(dtype, backend)
    if fused:
        fuse(model)
        assert describe(model).startswith("fused")
    return model


def tiny_llama(dtype: torch.dtype = torch.float64, backend: str = BACKENDS["sdpa"], **changes: Any) -> LlamaForCausalLM:
    """A Llama of two layers."""
    torch.manual_seed(7)
    settings = {**SMALL, "max_position_embeddings": 4096, **changes}
    model = with_exact_norms(LlamaForCausalLM(LlamaConfig(**settings)).to(dtype).eval())
    model.set_attn_implementation(backend)
    return model


def with_exact_norms(model: Any) -> Any:
    """Norms in the model's own dtype: those of transformers compute in float32, which would hide what float64 is to
    show.
    """
    for parent in list(model.modules()):
        for name, norm in list(parent.named_children()):
            if type(norm).__name__.endswith("RMSNorm"):
                exact = torch.nn.RMSNorm(norm.weight.shape, eps=norm.variance_epsilon, dtype=norm.weight.dtype)
                setattr(parent, name, exact)
    return model
