"""What a model is made of, known without its weights: from its configuration, or from the header of a GGUF file.

A configuration becomes a model on torch's meta device, whose parameters have shapes and no values. So counts are those
of the family's own code. A GGUF file lists the shapes of its tensors.

Not covered: models that bring code of their own, and how many experts of a mixture a token passes, apart from the key
`num_experts_per_tok`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from palmette.errors import ModelError
from palmette.model.gguf_header import GgufLayout, read_layout

PARTS = ("embedding", "attention", "MLP", "output layer", "other")
# What the names of the MLP's parameters hold. OPT has its two layers without a module around them.
_OF_MLP = ("mlp", "feed_forward", "ffn", "expert", ".fc1.", ".fc2.")


@dataclass(frozen=True)
class Outline:
    """What a model is made of.

    Attributes:
        family: the architecture, such as "llama".
        num_layers: layers with attention.
        hidden_size: width of the hidden states.
        intermediate_size: width inside the MLP, of all experts that a token passes.
        num_heads, num_key_heads, head_size: query heads, key heads, and the width of each.
        vocabulary: rows of the embedding.
        num_positions: length of the context in tokens. None if the configuration sets no limit.
        tied: whether the output layer is the embedding.
        rope: parameters of the rotary positions. Empty without them.
        window: tokens of a sliding window. None for full attention.
        parameters: number of parameters by part, see `PARTS`. Tied weights are counted once.
        linear_parameters: weights of the linear layers, without the output layer. 4 bits are for these.
        linear_width: inputs plus outputs of these layers, added up. An adapter of rank r on all of them has r times as
            many weights.
        stored_dtype: what the weights are stored as, such as "bfloat16" or "Q4_K". None if nothing says it.
        stored_bytes: size of the files with the weights. None if they are not on this machine.
    """

    family: str
    num_layers: int
    hidden_size: int
    intermediate_size: int
    num_heads: int
    num_key_heads: int
    head_size: int
    vocabulary: int
    num_positions: int | None
    tied: bool
    rope: Mapping[str, Any]
    window: int | None
    parameters: Mapping[str, int]
    linear_parameters: int
    linear_width: int
    stored_dtype: str | None = None
    stored_bytes: int | None = None

    @property
    def num_parameters(self) -> int:
        """The number of parameters."""
        return sum(self.parameters.values())

    @property
    def cached_values(self) -> int:
        """Values of keys and values that are cached for each token."""
        return 2 * self.num_layers * self.num_key_heads * self.head_size


def outline_of_config(config: Any, stored_bytes: int | None = None) -> Outline:
    """The outline of a model with a configuration of transformers.

    Args:
        config: the configuration.
        stored_bytes: size of the files with the weights, if it is known.

    Raises:
        ModelError: it is no causal language model that transformers knows, or one without attention.
    """
    import torch
    from transformers import AutoModelForCausalLM

    try:
        with torch.device("meta"):
            model: Any = AutoModelForCausalLM.from_config(config)
    except Exception as error:  # in as many ways as there are families and broken configurations
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise ModelError(
            f"the configuration of the family {config.model_type!r} makes no causal language model: {reason}",
            "Give a decoder-only model that transformers knows.",
        ) from error
    text = config.get_text_config()
    num_heads = getattr(text, "num_attention_heads", None)
    if not isinstance(num_heads, int) or num_heads < 1:
        raise ModelError(
            f"the family {text.model_type!r} states no number of attention heads, so it has none",
            "Give a decoder-only model with attention.",
        )
    head = model.get_output_embeddings()
    tied = head is not None and head.weight is model.get_input_embeddings().weight
    linears = [one for one in model.modules() if isinstance(one, torch.nn.Linear) and one is not head]
    # GPT-2 and its kin have transposed linear layers, of a class of transformers.
    transposed = [one.weight for one in model.modules() if type(one).__name__ == "Conv1D"]
    shapes = [tuple(one.weight.shape) for one in linears] + [tuple(one.shape) for one in transposed]
    dtype = getattr(text, "dtype", None) or getattr(config, "dtype", None)
    return Outline(
        family=str(text.model_type),
        num_layers=text.num_hidden_layers,
        hidden_size=text.hidden_size,
        intermediate_size=_intermediate(text),
        num_heads=num_heads,
        num_key_heads=_key_heads(text, num_heads),
        head_size=getattr(text, "head_dim", None) or text.hidden_size // num_heads,
        vocabulary=text.vocab_size,
        num_positions=getattr(text, "max_position_embeddings", None),
        tied=tied,
        rope=dict(getattr(text, "rope_parameters", None) or {}),
        window=getattr(text, "sliding_window", None) if getattr(text, "use_sliding_window", True) else None,
        parameters=_parameters(model),
        linear_parameters=sum(rows * columns for rows, columns in shapes),
        linear_width=sum(map(sum, shapes)),
        stored_dtype=str(dtype).removeprefix("torch.") if dtype is not None else None,
        stored_bytes=stored_bytes,
    )


def _key_heads(text: Any, num_heads: int) -> int:
    """The number of key heads. Falcon has its own names for it, and one head where its older form shares it."""
    stated = getattr(text, "num_key_value_heads", None)
    if stated:
        return int(stated)
    if getattr(text, "multi_query", False) and not getattr(text, "new_decoder_architecture", False):
        return 1
    return int(getattr(text, "num_kv_heads", None) or num_heads)


def _intermediate(text: Any) -> int:
    """The width inside the MLP that a token passes."""
    experts = getattr(text, "num_experts_per_tok", None)
    if experts:
        return int(experts * (getattr(text, "moe_intermediate_size", None) or text.intermediate_size))
    names = ("intermediate_size", "ffn_dim", "ffn_hidden_size", "n_inner")
    return int(next(filter(None, (getattr(text, name, None) for name in names)), 4 * text.hidden_size))


def _parameters(model: Any) -> dict[str, int]:
    """Parameters by part. Tied weights are listed once, as the embedding."""
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    found = dict.fromkeys(PARTS, 0)
    for name, parameter in model.named_parameters():
        if parameter is embedding.weight:
            part = "embedding"
        elif head is not None and any(parameter is own for own in head.parameters()):
            part = "output layer"
        else:
            part = _part(name)
        found[part] += parameter.numel()
    return found


def _part(name: str) -> str:
    """The part that a parameter inside a layer belongs to, by its name. Norms are none of these parts."""
    if "norm" in name or ".ln_" in name:
        return "other"
    if "attn" in name or "attention" in name:
        return "attention"
    return "MLP" if any(word in name for word in _OF_MLP) else "other"


def outline_of_gguf(file: Path) -> Outline:
    """The outline of a GGUF file, of which only the header is read.

    Raises:
        ModelError: the file is no GGUF file, is damaged, states too little, or is a model without attention.
    """
    layout = read_layout(file)
    try:
        return _gguf_outline(layout, file)
    except KeyError as error:
        raise ModelError(
            f"the header of {file} does not state {error.args[0]}", "Use a GGUF file of a language model."
        ) from error


def _gguf_outline(layout: GgufLayout, file: Path) -> Outline:
    keys, shapes = layout.keys, layout.shapes

    def number(name: str, least: int = 1) -> int:
        return _highest(keys[name], name, file, least)

    hidden, num_heads = number("embedding_length"), number("attention.head_count")
    if len(shapes["token_embd.weight"]) != 2:
        raise ModelError(
            f"token_embd.weight of {file} has the shape {list(shapes['token_embd.weight'])}, and is no table of tokens",
            "Fetch the file again.",
        )
    parameters = dict.fromkeys(PARTS, 0)
    linear: list[tuple[int, ...]] = []
    for name, shape in shapes.items():
        inside = name.startswith("blk.")
        part = {"token_embd.weight": "embedding", "output.weight": "output layer"}.get(name, _part(name))
        parameters[part] += layout.size(name)
        if inside and len(shape) == 2 and name.endswith(".weight"):
            linear.append(shape)
    tensors = [name for name in shapes if len(shapes[name]) > 1]
    experts = number("expert_used_count", 0) if "expert_used_count" in keys else 0
    width = number("feed_forward_length", 0)
    expert_width = number("expert_feed_forward_length", 0) if "expert_feed_forward_length" in keys else width
    return Outline(
        family=layout.architecture,
        num_layers=number("block_count"),
        hidden_size=hidden,
        intermediate_size=experts * expert_width if experts else width,
        num_heads=num_heads,
        num_key_heads=number("attention.head_count_kv") if "attention.head_count_kv" in keys else num_heads,
        head_size=number("attention.key_length") if "attention.key_length" in keys else hidden // num_heads,
        vocabulary=shapes["token_embd.weight"][-1],
        num_positions=number("context_length") if "context_length" in keys else None,
        tied="output.weight" not in shapes,
        rope={"rope_theta": keys["rope.freq_base"]} if "rope.freq_base" in keys else {},
        window=number("attention.sliding_window", 0) if "attention.sliding_window" in keys else None,
        parameters=parameters,
        linear_parameters=sum(rows * columns for rows, columns in linear),
        linear_width=sum(map(sum, linear)),
        stored_dtype=layout.usual_type(tensors),
        stored_bytes=file.stat().st_size,
    )


def _highest(value: Any, name: str, file: Path, least: int) -> int:
    """A number, or the highest of numbers that each layer has for itself.

    Raises:
        ModelError: it is no whole number, or below the least.
    """
    values = value if isinstance(value, list) else [value]
    if not values or not all(type(one) is int for one in values) or max(values) < least:
        raise ModelError(
            f"the header of {file} states {name} = {value!r:.60}, not a whole number from {least} on",
            "Use a GGUF file of a language model with attention.",
        )
    return int(max(values))
