"""A base in 4 or 8 bits under a LoRA adapter: how it is loaded, and where it is refused. Only the adapter is trained.

4 bits (QLoRA, Dettmers et al., 2023, https://arxiv.org/abs/2305.14314): weights of linear layers are 4-bit NormalFloat
in blocks with scales of their own, which are quantized too. Each product is computed in a floating dtype. On a CPU this
is refused. There an evaluation makes bitsandbytes (0.50) repack the weights for its fast product, which has no backward
pass, and training continues with missing or wrong gradients and no error.

8 bits (LLM.int8, Dettmers et al., 2022, https://arxiv.org/abs/2208.07339): weights and inputs of each product are 8-bit
integers with a scale for each row. Columns of the input in which any entry reaches 6 are multiplied in a floating
dtype. Which columns these are depends on all rows of a batch, so the other rows change numbers within that rounding.
Inputs pass through float16.
"""

from __future__ import annotations

import importlib
import logging
from importlib.util import find_spec
from typing import Any, Literal, get_args

import torch
from transformers import BitsAndBytesConfig
from transformers.utils import is_bitsandbytes_available

from palmette.errors import ModelError

Quantization = Literal["4bit", "8bit"]
_PACKAGE = "bitsandbytes"
_INSTALL = "Install it: pip install palmette[quantize]"


def quantization_config(
    device: str, dtype: torch.dtype = torch.bfloat16, quantization: Quantization = "4bit"
) -> BitsAndBytesConfig:
    """transformers' configuration for a base in 4 bits (NormalFloat, quantized scales, products in `dtype`) or in 8.

    Args:
        device: where the model will run, such as "cuda".
        dtype: dtype of the products and of everything that is not quantized.
        quantization: "4bit" or "8bit".

    Raises:
        ModelError: 4 bits are wanted on a CPU. Or bitsandbytes is missing or too old, cannot be loaded, or does not
            support the device.
    """
    if device == "cpu" and quantization == "4bit":
        raise ModelError(
            "a 4-bit base loses its gradients on a CPU",
            "Use a GPU, or 8bit, or load the base as it is, without 4 bits.",
        )
    bits = quantization.removesuffix("bit")
    if find_spec(_PACKAGE) is None:
        raise ModelError(f"a base in {bits} bits needs bitsandbytes, which is not installed", _INSTALL)
    if not is_bitsandbytes_available():
        raise ModelError("the bitsandbytes that is installed is too old for transformers", _INSTALL)
    try:
        supported = importlib.import_module(_PACKAGE).supported_torch_devices
    # On import it loads a library for the GPU, which fails in as many ways as there are drivers.
    except Exception as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise ModelError(
            f"bitsandbytes cannot be loaded: {reason}", "Fix its installation, or load the base as it is."
        ) from error
    if device not in supported:
        raise ModelError(
            f"bitsandbytes supports {', '.join(sorted(supported))}, not {device}",
            f"Load the base as it is, without {bits} bits.",
        )
    if quantization == "8bit":
        # It warns at every product that bfloat16 passes through float16.
        logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )


def is_quantized(model: Any) -> bool:
    """Whether a base is in 4 or 8 bits. Then it can carry an adapter, but cannot be trained or merged with one."""
    return any(getattr(model, f"is_loaded_in_{quantization}", False) for quantization in get_args(Quantization))
