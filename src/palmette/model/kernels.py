"""Elementwise operations of a layer, one sweep over memory each: compiled C where there is a compiler, else torch.

Both kinds have the same functions, on contiguous tensors. `kernels.c` documents what each function computes. The C
functions serve bfloat16 and float32 on a CPU. `model/library.py` compiles them once per machine, in about a second.

Letters: B rows, T tokens, H heads, D size of a head, K keys, R repeats.
"""

from __future__ import annotations

import ctypes
import os
import shutil
from functools import cache
from typing import Any, Protocol

import torch

from palmette.model.library import load_library

_SCALARS = {torch.bfloat16: ("-DBF16",), torch.float32: ()}
_COMPILE = "PALMETTE_COMPILE"
_FUNCTIONS = (
    "rms_norm",
    "rms_norm_backward",
    "swiglu",
    "swiglu_backward",
    "rotate",
    "rotate_backward",
    "masked_softmax",
    "softmax_backward",
    "scatter_add",
)


class Kernels(Protocol):
    """The operations that a fused layer needs. `name` is how messages and manifests name them."""

    name: str

    def rms_norm(self, x: torch.Tensor, weight: torch.Tensor, eps: float) -> tuple[torch.Tensor, torch.Tensor]:
        """The normed rows of x, and 1 / rms of each row (float32)."""

    def rms_norm_backward(
        self, grad: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, inverse: torch.Tensor, total: torch.Tensor
    ) -> None:
        """Add the gradient of x to `total`."""

    def swiglu(self, gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
        """silu(gate) * up."""

    def swiglu_backward(
        self, gate: torch.Tensor, up: torch.Tensor, grad: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The gradients of gate and up, given that of the output, `grad`, which is overwritten with the output."""

    def rotate(self, x_BTHD: torch.Tensor, cos_BTD: torch.Tensor, sin_BTD: torch.Tensor) -> torch.Tensor:
        """x with rotary positions applied, [B, H, T, D]."""

    def rotate_backward(self, grad_BHTD: torch.Tensor, cos_BTD: torch.Tensor, sin_BTD: torch.Tensor) -> torch.Tensor:
        """The gradient of `rotate`'s x, [B, T, H, D]."""

    def masked_softmax(self, scores_RTK: torch.Tensor, mask_TK: torch.Tensor, scale: float) -> None:
        """Turn scores, in place, into softmax(scale * scores) over the keys where the mask is True."""

    def softmax_backward(self, grad: torch.Tensor, weights: torch.Tensor, scale: float) -> None:
        """Turn the gradient of the softmax's weights, in place, into that of its scores."""

    def scatter_add(self, source_HKD: torch.Tensor, key_K: torch.Tensor, total_HTD: torch.Tensor) -> None:
        """Add to the rows of `total` (float32, or float64 for float64) that `key_K` names."""


class TorchKernels:
    """The same operations in torch, for any dtype and device."""

    name = "torch"

    def rms_norm(self, x: torch.Tensor, weight: torch.Tensor, eps: float) -> tuple[torch.Tensor, torch.Tensor]:
        """See `Kernels`."""
        wide = _wide(x)
        inverse = (wide.square().mean(-1, keepdim=True) + eps).rsqrt()
        return (wide * inverse * weight).to(x.dtype), inverse.squeeze(-1)

    def rms_norm_backward(
        self, grad: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, inverse: torch.Tensor, total: torch.Tensor
    ) -> None:
        """See `Kernels`."""
        scaled, factor = _wide(grad) * weight, inverse[..., None]
        normed = _wide(x) * factor
        total.copy_(total + factor * (scaled - normed * (scaled * normed).mean(-1, keepdim=True)))

    def swiglu(self, gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
        """See `Kernels`."""
        return (torch.nn.functional.silu(_wide(gate)) * up).to(gate.dtype)

    def swiglu_backward(
        self, gate: torch.Tensor, up: torch.Tensor, grad: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """See `Kernels`."""
        wide, sigmoid = _wide(gate), torch.sigmoid(_wide(gate))
        silu = wide * sigmoid
        grad_gate = (grad * up * (sigmoid + silu * (1 - sigmoid))).to(gate.dtype)
        grad_up = (grad * silu).to(gate.dtype)
        grad.copy_(silu * up)
        return grad_gate, grad_up

    def rotate(self, x_BTHD: torch.Tensor, cos_BTD: torch.Tensor, sin_BTD: torch.Tensor) -> torch.Tensor:
        """See `Kernels`."""
        left, right = _wide(x_BTHD).chunk(2, dim=-1)
        turned = torch.cat((-right, left), dim=-1)
        result = _wide(x_BTHD) * cos_BTD[:, :, None] + turned * sin_BTD[:, :, None]
        return result.to(x_BTHD.dtype).transpose(1, 2).contiguous()

    def rotate_backward(self, grad_BHTD: torch.Tensor, cos_BTD: torch.Tensor, sin_BTD: torch.Tensor) -> torch.Tensor:
        """See `Kernels`."""
        grad = _wide(grad_BHTD.transpose(1, 2))
        left, right = (grad * sin_BTD[:, :, None]).chunk(2, dim=-1)
        result = grad * cos_BTD[:, :, None] + torch.cat((right, -left), dim=-1)
        return result.to(grad_BHTD.dtype).contiguous()

    def masked_softmax(self, scores_RTK: torch.Tensor, mask_TK: torch.Tensor, scale: float) -> None:
        """See `Kernels`."""
        masked = (_wide(scores_RTK) * scale).masked_fill(~mask_TK, float("-inf"))
        scores_RTK.copy_(torch.softmax(masked, dim=-1))

    def softmax_backward(self, grad: torch.Tensor, weights: torch.Tensor, scale: float) -> None:
        """See `Kernels`."""
        wide = _wide(grad)
        grad.copy_(scale * weights * (wide - (wide * weights).sum(-1, keepdim=True)))

    def scatter_add(self, source_HKD: torch.Tensor, key_K: torch.Tensor, total_HTD: torch.Tensor) -> None:
        """See `Kernels`."""
        total_HTD.index_add_(1, key_K, source_HKD.to(total_HTD.dtype))


def _wide(x: torch.Tensor) -> torch.Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


class NativeKernels:
    """The functions of a compiled `kernels.c`.

    Args:
        library: the loaded library, compiled for the dtype of the tensors.
    """

    name = "compiled"

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library

    def _call(self, function: str, *arguments: torch.Tensor | int | float) -> None:
        values: list[Any] = []
        for argument in arguments:
            if isinstance(argument, torch.Tensor):
                assert argument.is_contiguous(), f"{function}: {argument.stride()}"
                values.append(ctypes.c_void_p(argument.data_ptr()))
            else:
                values.append(ctypes.c_float(argument) if isinstance(argument, float) else ctypes.c_int64(argument))
        self._library[function](*values)

    def rms_norm(self, x: torch.Tensor, weight: torch.Tensor, eps: float) -> tuple[torch.Tensor, torch.Tensor]:
        """See `Kernels`."""
        y, inverse = torch.empty_like(x), torch.empty(x.shape[:-1], dtype=torch.float32)
        self._call("rms_norm", x, weight, y, inverse, inverse.numel(), x.shape[-1], eps)
        return y, inverse

    def rms_norm_backward(
        self, grad: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, inverse: torch.Tensor, total: torch.Tensor
    ) -> None:
        """See `Kernels`."""
        self._call("rms_norm_backward", grad, x, weight, inverse, total, inverse.numel(), x.shape[-1])

    def swiglu(self, gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
        """See `Kernels`."""
        y = torch.empty_like(gate)
        self._call("swiglu", gate, up, y, gate.numel())
        return y

    def swiglu_backward(
        self, gate: torch.Tensor, up: torch.Tensor, grad: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """See `Kernels`."""
        grad_gate, grad_up = torch.empty_like(gate), torch.empty_like(up)
        self._call("swiglu_backward", gate, up, grad, grad_gate, grad_up, gate.numel())
        return grad_gate, grad_up

    def rotate(self, x_BTHD: torch.Tensor, cos_BTD: torch.Tensor, sin_BTD: torch.Tensor) -> torch.Tensor:
        """See `Kernels`."""
        rows, tokens, heads, size = x_BTHD.shape
        y = x_BTHD.new_empty(rows, heads, tokens, size)
        self._call("rotate", x_BTHD, cos_BTD, sin_BTD, y, rows, tokens, heads, size)
        return y

    def rotate_backward(self, grad_BHTD: torch.Tensor, cos_BTD: torch.Tensor, sin_BTD: torch.Tensor) -> torch.Tensor:
        """See `Kernels`."""
        rows, heads, tokens, size = grad_BHTD.shape
        x = grad_BHTD.new_empty(rows, tokens, heads, size)
        self._call("rotate_backward", grad_BHTD, cos_BTD, sin_BTD, x, rows, tokens, heads, size)
        return x

    def masked_softmax(self, scores_RTK: torch.Tensor, mask_TK: torch.Tensor, scale: float) -> None:
        """See `Kernels`."""
        repeats, tokens, keys = scores_RTK.shape
        self._call("masked_softmax", scores_RTK, mask_TK, scale, repeats, tokens, keys)

    def softmax_backward(self, grad: torch.Tensor, weights: torch.Tensor, scale: float) -> None:
        """See `Kernels`."""
        self._call("softmax_backward", grad, weights, scale, grad.numel() // grad.shape[-1], grad.shape[-1])

    def scatter_add(self, source_HKD: torch.Tensor, key_K: torch.Tensor, total_HTD: torch.Tensor) -> None:
        """See `Kernels`."""
        heads, keys, size = source_HKD.shape
        self._call("scatter_add", source_HKD, key_K, total_HTD, heads, keys, total_HTD.shape[1], size)


@cache
def kernels_for(dtype: torch.dtype, device_type: str) -> Kernels:
    """The fastest kernels for tensors of this dtype on this kind of device.

    With PALMETTE_COMPILE=0 in the environment these are always torch's.
    """
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if device_type != "cpu" or dtype not in _SCALARS or compiler is None or compiling_is_off():
        return TorchKernels()
    library = load_library(compiler, _SCALARS[dtype], _FUNCTIONS)
    return TorchKernels() if library is None else NativeKernels(library)


def compiling_is_off() -> bool:
    """Whether the environment asks for torch's kernels, with PALMETTE_COMPILE=0."""
    return os.environ.get(_COMPILE) == "0"
