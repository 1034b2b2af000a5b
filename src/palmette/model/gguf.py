"""What a GGUF file states and transformers leaves out: how rotary frequencies are scaled, and keys or tensors it drops.

transformers reads the weights of a GGUF file. Of the keys that describe the model it reads those in a table of its own,
and it ignores the rest without an error. Frequencies would then be those of the unscaled model. Here the keys
`*.rope.scaling.*` and the tensors `rope_freqs` and `rope_factors_*` become `rope_parameters` of the configuration, and
a key or a tensor that would still be ignored is refused, since nobody knows what it would have changed.

The meaning of keys and tensors follows the GGUF specification
(https://github.com/ggml-org/ggml/blob/master/docs/gguf.md) and llama.cpp, which divides the frequency of each pair of
components by its factor.

Not covered: keys of architectures whose table transformers does not publish (lfm2, qwen35), apart from their scaling.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from palmette.errors import ModelError

_SCALING = "rope.scaling."
_FREQUENCIES, _LONG, _SHORT = (f"{name}.weight" for name in ("rope_freqs", "rope_factors_long", "rope_factors_short"))
_ROPE_TENSORS = (_FREQUENCIES, _LONG, _SHORT)
# Llama 3.1's parameters (https://arxiv.org/abs/2407.21783 and its configuration), beside the factor.
_LLAMA3 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
# YaRN's parameters (https://arxiv.org/abs/2309.00071), which llama.cpp takes where a file is silent.
_YARN_BETAS = {"beta_fast": 32.0, "beta_slow": 1.0}
# Keys of scaling that change nothing at these values.
_NEUTRAL = {"alpha": 0.0, "yarn_log_multiplier": 0.0, "yarn_ext_factor": 1.0, "yarn_attn_factor": 1.0}
# Keys that change no number: what tensors and their shapes say as well, and notes on how the file was made.
_HARMLESS = {
    "block_count",
    "context_length",
    "vocab_size",
    "tensor_data_layout",
    "expert_feed_forward_length",
    "expert_shared_feed_forward_length",
}
# Keys that a configuration must agree with, by the attribute that says the same.
_SAME = {
    "attention.key_length": "head_dim",
    "attention.value_length": "head_dim",
    "attention.layer_norm_rms_epsilon": "rms_norm_eps",
    "attn_logit_softcapping": "attn_logit_softcapping",
    "final_logit_softcapping": "final_logit_softcapping",
}
_WAY_OUT = "Use the model's safetensors weights, or another GGUF file of it."


@dataclass(frozen=True)
class GgufHeader:
    """What a GGUF file says beside its weights.

    Attributes:
        file: the file.
        architecture: such as "llama".
        keys: values of the keys of the architecture, without its name in front: "rope.freq_base" and the like.
        tensors: names of the tensors.
        factors: the tensors that rotary frequencies are divided by, by name.
    """

    file: Path
    architecture: str
    keys: Mapping[str, Any]
    tensors: frozenset[str]
    factors: Mapping[str, list[float]]

    def refuse(self, what: str) -> ModelError:
        """The error that says what would be left out."""
        return ModelError(f"{self.file} {what}", _WAY_OUT)


def read_header(file: Path) -> GgufHeader:
    """Read a GGUF file's keys and the names of its tensors.

    Raises:
        ModelError: the file is not a GGUF file, or it is damaged or cut off.
    """
    from gguf import GGUFReader, dequantize

    try:
        reader = GGUFReader(file)
        architecture = str(reader.fields["general.architecture"].contents())
        prefix = f"{architecture}."
        keys = {
            name.removeprefix(prefix): field.contents()
            for name, field in reader.fields.items()
            if name.startswith(prefix)
        }
        factors = {
            tensor.name: np.asarray(dequantize(tensor.data, tensor.tensor_type), dtype=np.float64).ravel().tolist()
            for tensor in reader.tensors
            if tensor.name in _ROPE_TENSORS
        }
        return GgufHeader(file, architecture, keys, frozenset(tensor.name for tensor in reader.tensors), factors)
    except Exception as error:  # a damaged file fails wherever its bytes stop to make sense
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise ModelError(
            f"{file} cannot be read as a GGUF model, it may be damaged or cut off: {reason}",
            "Fetch the file again, or give another one.",
        ) from error


def scale_frequencies(header: GgufHeader, config: Any) -> None:
    """Write the scaling of rotary frequencies that a file states into its model's configuration.

    Args:
        header: of the file.
        config: the configuration that transformers made of the file. Its `rope_parameters` are changed.

    Raises:
        ModelError: the file states something that transformers cannot compute.
    """
    present = getattr(config, "rope_parameters", None) or {}
    nested = bool(present) and all(isinstance(value, dict) for value in present.values())
    # Where layers with a sliding window have frequencies of their own, llama.cpp scales those of the others alone.
    rope = dict(present.get("full_attention", {}) if nested else present)
    stated = header.factors or any(key.startswith(_SCALING) for key in header.keys)
    if not rope and stated:
        raise header.refuse("scales rotary frequencies, which its architecture lacks in transformers")
    if scaling := _scaling(header, config, rope) if rope else {}:
        scaled = {**rope, **scaling}
        config.rope_parameters = {**present, "full_attention": scaled} if nested else scaled
        if hasattr(config, "original_max_position_embeddings"):
            config.original_max_position_embeddings = scaled.get("original_max_position_embeddings")


def _scaling(header: GgufHeader, config: Any, rope: Mapping[str, Any]) -> dict[str, Any]:
    """The `rope_parameters` that a file's keys and tensors stand for. Empty if it scales nothing."""
    left = {
        key.removeprefix(_SCALING): value
        for key, value in header.keys.items()
        if key.startswith(_SCALING) and key != f"{_SCALING}finetuned"
    }
    kind = str(left.pop("type", "linear"))  # linear is llama.cpp's default
    factor = float(left.pop("factor", 0.0) or header.keys.get("rope.scale_linear", 0.0) or 1.0)
    context = int(header.keys.get("context_length", 0) or getattr(config, "max_position_embeddings", 0))
    original = int(left.pop("original_context_length", 0)) or context
    attention_factor = float(left.pop("attn_factor", 1.0))
    factors = dict(header.factors)
    scaling: dict[str, Any] = {}
    if _LONG in factors and _SHORT in factors and kind in ("linear", "longrope", "none") and factor == 1:
        scaling = _longrope(factors.pop(_SHORT), factors.pop(_LONG), original, attention_factor)
        attention_factor = 1.0
    elif _FREQUENCIES in factors and kind in ("linear", "llama3", "none", "longrope") and factor == 1:
        scaling = _by_frequency(factors.pop(_FREQUENCIES), context, float(rope["rope_theta"]))
    elif kind == "yarn":
        scaling = {"rope_type": "yarn", "factor": factor, "original_max_position_embeddings": original}
        scaling |= {name: float(left.pop(f"yarn_{name}", value)) for name, value in _YARN_BETAS.items()}
        scaling["attention_factor"] = (
            attention_factor * (1 + 0.1 * math.log(factor)) if factor > 1 else attention_factor
        )
        attention_factor = 1.0
    elif kind == "linear" and factor != 1:
        scaling = {"rope_type": "linear", "factor": factor}
    elif kind not in ("linear", "none"):
        raise header.refuse(f"scales rotary frequencies in a way that is not understood: {kind}")
    unread = sorted(name for name, value in left.items() if name not in _NEUTRAL or float(value) != _NEUTRAL[name])
    if attention_factor != 1:
        unread.append("attn_factor")
    if unread or factors:
        names = [*(f"the key {header.architecture}.{_SCALING}{name}" for name in unread), *sorted(factors)]
        raise header.refuse(f"scales rotary frequencies by {', '.join(names)}, which is not understood")
    return scaling


def _longrope(short: list[float], long: list[float], original: int, attention_factor: float) -> dict[str, Any]:
    return {
        "rope_type": "longrope",
        "short_factor": short,
        "long_factor": long,
        "original_max_position_embeddings": original,
        "attention_factor": attention_factor,
    }


def _by_frequency(factors: list[float], context: int, base: float) -> dict[str, Any]:
    """Parameters under which frequencies are divided by these factors: Llama 3's where they fit, else LongRoPE's.

    LongRoPE with the same factors for short and long texts divides by any factors at any length.
    """
    size = 2 * len(factors)
    frequency = base ** -(np.arange(0, size, 2) / size)
    largest, original = max(factors), float(_LLAMA3["original_max_position_embeddings"])
    low, high = _LLAMA3["low_freq_factor"], _LLAMA3["high_freq_factor"]
    smooth = np.clip((original * frequency / (2 * math.pi) - low) / (high - low), 0, 1)
    if largest > 1 and np.allclose(1 / ((1 - smooth) / largest + smooth), factors, rtol=1e-5, atol=0):
        return {"rope_type": "llama3", "factor": largest, **_LLAMA3}
    return _longrope(factors, factors, context, 1.0)


def check_all_read(header: GgufHeader, model: Any, loading: Mapping[str, Any]) -> None:
    """Refuse a file with keys or tensors that were ignored, or a model with weights that the file lacks.

    Args:
        header: of the file.
        model: the model that transformers made of the file.
        loading: what transformers says about loading: "missing_keys" and "unexpected_keys".

    Raises:
        ModelError: something was ignored or is missing. The message names it.
    """
    missing = sorted(loading.get("missing_keys") or ())
    if missing:
        raise header.refuse(f"lacks the weights {_some(missing)}")
    ignored = sorted({*(loading.get("unexpected_keys") or ()), *_unread_tensors(header, model)})
    if ignored:
        raise header.refuse(f"holds tensors that transformers ignores: {_some(ignored)}")
    unread = [f"{header.architecture}.{key} = {header.keys[key]!r}" for key in _unread_keys(header, model.config)]
    if unread:
        raise header.refuse(f"has keys that transformers ignores: {_some(unread)}")


def _unread_tensors(header: GgufHeader, model: Any) -> set[str]:
    """Tensors that have no counterpart in the model."""
    from transformers.integrations.gguf.utils import is_gguf_arch_supported
    from transformers.modeling_gguf_pytorch_utils import (
        TENSOR_PROCESSORS,
        TensorProcessor,
        get_gguf_hf_weights_map,
    )

    if is_gguf_arch_supported(header.architecture):
        return set()  # this way of loading reports them itself
    processor = TENSOR_PROCESSORS.get(header.architecture, TensorProcessor)(config={})
    known = {*get_gguf_hf_weights_map(model, processor), *header.factors}
    # Experts are split and joined on the way, under names that only transformers knows.
    return {name for name in header.tensors - known if "_exps" not in name}


def _unread_keys(header: GgufHeader, config: Any) -> list[str]:
    """Keys that neither transformers nor this module reads, and that the configuration does not confirm."""
    from transformers.integrations import GGUF_CONFIG_MAPPING

    plain = {name.replace("_", ""): table for name, table in GGUF_CONFIG_MAPPING.items()}
    table = plain.get(header.architecture.replace("-", "").replace("_", ""))
    if table is None:
        return []
    unread = []
    for key, value in header.keys.items():
        if key in _SAME:
            read = _agree(getattr(config, _SAME[key], None), value)
        elif key == "attention.sliding_window":
            read = _agree(getattr(config, "sliding_window", None), value) or value >= config.max_position_embeddings
        elif key == "rope.freq_base":
            read = _agree(_base(config), value) or isinstance(_base(config), dict)
        else:
            read = key in table or key in _HARMLESS or key.startswith(_SCALING) or key == "rope.scale_linear"
        if not read:
            unread.append(key)
    return unread


def _base(config: Any) -> Any:
    """The base of the rotary frequencies, or a map of them by kind of layer."""
    rope = getattr(config, "rope_parameters", None) or {}
    return rope.get("rope_theta", rope)


def _agree(configured: Any, stated: Any) -> bool:
    return configured is not None and math.isclose(float(configured), float(stated), rel_tol=1e-6)


def _some(names: list[str]) -> str:
    """The first names of a list, and how many follow."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
