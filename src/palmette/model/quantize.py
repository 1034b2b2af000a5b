"""A 4-bit base for LoRA (QLoRA; Dettmers et al., 2023, https://arxiv.org/abs/2305.14314): what it takes, and when it is refused.

Weights of linear layers are kept as 4-bit NormalFloat in blocks with their own scales, which are quantized once more; each product
is computed in a floating dtype. The weights themselves are never trained: an adapter on top is.

CPUs are refused: there, an evaluation makes bitsandbytes (0.50) pack the weights anew for its fast product, which has no backward
pass, and training goes on with gradients missing or wrong and no error.
"""

from __future__ import annotations

import importlib
from importlib.util import find_spec
from typing import Any, Literal

import torch
from transformers import BitsAndBytesConfig
from transformers.utils import is_bitsandbytes_available

from palmette.errors import ModelError

Quantization = Literal["4bit"]
_PACKAGE = "bitsandbytes"
_INSTALL = "Install it: pip install palmette[quantize]"


def quantization_config(device: str, dtype: torch.dtype = torch.bfloat16) -> BitsAndBytesConfig:
    """How transformers is to load a base in 4 bits: NormalFloat, scales quantized too, products in `dtype`.

    Args:
        device: where the model will run, such as "cuda".
        dtype: of the products and of everything that is not quantized.

    Raises:
        ModelError: the device is a CPU; bitsandbytes is missing, too old, cannot be loaded, or does not support the device.
    """
    if device == "cpu":
        raise ModelError(
            "a 4-bit base loses its gradients on a CPU", "Use a GPU, or load the base as it is, without 4 bits."
        )
    if find_spec(_PACKAGE) is None:
        raise ModelError("a 4-bit base needs bitsandbytes, which is not installed", _INSTALL)
    if not is_bitsandbytes_available():
        raise ModelError("the bitsandbytes that is installed is too old for transformers", _INSTALL)
    try:
        supported = importlib.import_module(_PACKAGE).supported_torch_devices
    # It loads a library for the GPU on import, and fails in as many ways as there are drivers.
    except Exception as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise ModelError(
            f"bitsandbytes cannot be loaded: {reason}", "Mend its installation, or load the base as it is."
        ) from error
    if device not in supported:
        raise ModelError(
            f"bitsandbytes supports {', '.join(sorted(supported))}, not {device}",
            "Load the base as it is, without 4 bits.",
        )
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )


def is_quantized(model: Any) -> bool:
    """Whether a model's base is kept in 4 bits: then it can carry an adapter, but neither be trained itself nor merged with one."""
    return bool(getattr(model, "is_loaded_in_4bit", False))
