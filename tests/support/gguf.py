"""GGUF files of tiny models, written with the gguf package under llama.cpp's conventions."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch

# Of the three kinds of tokens that these files hold, in the numbers of the specification.
_NORMAL, _CONTROL = 1, 3


def write_gguf(
    path: Path,
    model: Any,
    tokenizer: Any,
    *,
    architecture: str,
    keys: Mapping[str, Any] | None = None,
    tensors: Mapping[str, np.ndarray] | None = None,
) -> Path:
    """Write a model of the families Llama, Qwen2 or Phi3 in float32.

    Args:
        path: the file.
        model: the model.
        tokenizer: its byte-level tokenizer.
        architecture: its name in GGUF files.
        keys: further keys, without the architecture in front.
        tensors: further tensors.
    """
    config = model.config
    writer = gguf.GGUFWriter(str(path), architecture)
    writer.add_name("tiny")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_rope_dimension_count(config.hidden_size // config.num_attention_heads)
    writer.add_vocab_size(config.vocab_size)
    for key, value in (keys or {}).items():
        name = f"{architecture}.{key}"
        if isinstance(value, str):
            writer.add_string(name, value)
        elif isinstance(value, bool):
            writer.add_bool(name, value)
        elif isinstance(value, int):
            writer.add_uint32(name, value)
        else:
            writer.add_float32(name, value)
    _add_tokenizer(writer, tokenizer)
    kind = next(number for number, name in gguf.MODEL_ARCH_NAMES.items() if name == architecture)
    names = gguf.get_tensor_name_map(kind, config.num_hidden_layers)
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        array = tensor.detach().float()
        if architecture == "llama" and ("q_proj" in name or "k_proj" in name):
            array = _interleaved(array, config, is_query="q_proj" in name)
        writer.add_tensor(names.get_name(name, try_suffixes=(".weight", ".bias")), array.numpy())
    for name, values in (tensors or {}).items():
        writer.add_tensor(name, np.asarray(values, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _interleaved(weight: torch.Tensor, config: Any, *, is_query: bool) -> torch.Tensor:
    """Rows in the order of llama.cpp's Llama, whose rotary pairs are neighbours; transformers' are half a head
    apart.
    """
    heads = config.num_attention_heads if is_query else config.num_key_value_heads
    half = weight.shape[0] // heads // 2
    return weight.view(heads, 2, half, -1).transpose(1, 2).reshape(weight.shape).contiguous()


def _add_tokenizer(writer: gguf.GGUFWriter, tokenizer: Any) -> None:
    vocabulary = {number: token for token, number in tokenizer.get_vocab().items()}
    tokens = [vocabulary[number] for number in range(len(vocabulary))]
    special = set(tokenizer.all_special_tokens)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_types([_CONTROL if token in special else _NORMAL for token in tokens])
    merges = json.loads(tokenizer.backend_tokenizer.to_str())["model"]["merges"]
    writer.add_token_merges([" ".join(pair) for pair in merges])
    writer.add_eos_token_id(tokenizer.eos_token_id)
