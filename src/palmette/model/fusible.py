"""Which layers may run as one operation: transformers' own, with nothing attached that the operation would skip.

A class is recognised by itself, never by its name: a model that brings a `LlamaDecoderLayer` of its own may compute
something else. A hook or a replaced `forward` on any part of a layer keeps the layer stock, so it is called.

Not covered: a method that is replaced on one of transformers' classes. `model/checks.py` compares with stock layers
before a model is used, which shows that.
"""

from __future__ import annotations

import sys
from typing import Any

import torch
from torch.nn.modules import module as torch_modules
from transformers.activations import SiLUActivation
from transformers.models.llama import modeling_llama as llama
from transformers.models.mistral import modeling_mistral as mistral
from transformers.models.qwen2 import modeling_qwen2 as qwen2

from palmette.model.attention import BACKENDS

# Layers of this form: x + o(attention(rotate(q), rotate(k), v)), then x + down(silu(gate) * up), each after a norm.
# For each the classes of its attention, its MLP and its norms.
FAMILIES: dict[type, tuple[type, type, type]] = {
    llama.LlamaDecoderLayer: (llama.LlamaAttention, llama.LlamaMLP, llama.LlamaRMSNorm),
    mistral.MistralDecoderLayer: (mistral.MistralAttention, mistral.MistralMLP, mistral.MistralRMSNorm),
    qwen2.Qwen2DecoderLayer: (qwen2.Qwen2Attention, qwen2.Qwen2MLP, qwen2.Qwen2RMSNorm),
}
ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
MLP = ("gate_proj", "up_proj", "down_proj")
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def fusible(layer: Any) -> bool:
    """Whether a decoder layer has a known form, on a CPU, with plain linear layers and at most one LoRA update each.

    The answer may change while a model is used, as adapters and hooks come and go.
    """
    if type(layer) not in FAMILIES or has_global_hooks() or has_hooks(layer):
        return False
    kinds = FAMILIES[type(layer)]
    attention, mlp = layer.self_attn, layer.mlp
    norms = (layer.input_layernorm, layer.post_attention_layernorm)
    if (type(attention), type(mlp)) != kinds[:2] or type(mlp.act_fn) not in (SiLUActivation, torch.nn.SiLU):
        return False
    if any(type(norm) not in (kinds[2], torch.nn.RMSNorm) for norm in norms):
        return False
    if not all(_is_untouched(module) for module in (attention, mlp, mlp.act_fn, *norms)):
        return False
    config, weight = attention.config, norms[0].weight
    if weight.device.type != "cpu" or config.attention_dropout or config._attn_implementation != BACKENDS["sdpa"]:
        return False
    linears = [getattr(attention, name) for name in ATTENTION] + [getattr(mlp, name) for name in MLP]
    return all(_is_plain_linear(linear, weight.dtype) for linear in linears)


def epsilon(norm: Any) -> Any:
    """The epsilon of a root-mean-square norm, transformers' or torch's."""
    return getattr(norm, "variance_epsilon", getattr(norm, "eps", None))


def has_global_hooks() -> bool:
    """Whether a hook is registered for all modules of the process."""
    return any(getattr(torch_modules, f"_global{name}") for name in _HOOKS)


def has_hooks(module: Any) -> bool:
    """Whether a hook is registered on a module."""
    attributes = vars(module)
    return any(attributes[name] for name in _HOOKS)


def _is_untouched(module: Any) -> bool:
    """Whether calling a module does what its class says and nothing else."""
    return not has_hooks(module) and "forward" not in vars(module)


def is_lora_linear(module: Any) -> bool:
    """Whether a module is peft's linear layer with a LoRA update. Where nobody has imported peft, none is.

    peft is not imported for this question, since that takes as long as loading a small model.
    """
    peft_layer = sys.modules.get("peft.tuners.lora.layer")
    return peft_layer is not None and type(module) is peft_layer.Linear


def _is_plain_linear(module: Any, dtype: torch.dtype) -> bool:
    if not _is_untouched(module):
        return False
    if not is_lora_linear(module):
        return type(module) is torch.nn.Linear and module.weight.dtype == dtype
    names = list(module.lora_A)
    if len(names) != 1 or module.lora_variant or module.lora_bias[names[0]]:  # DoRA, for example
        return False
    down, up, dropout = (part[names[0]] for part in (module.lora_A, module.lora_B, module.lora_dropout))
    if module.training and not isinstance(dropout, torch.nn.Identity):
        return False
    if not (_is_untouched(dropout) and _is_plain_linear(down, dtype) and _is_plain_linear(up, dtype)):
        return False
    return _is_plain_linear(module.get_base_layer(), dtype)
