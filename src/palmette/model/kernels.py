"""Elementwise passes of a layer in one sweep each: C compiled for this machine where there is a compiler, else torch.

Both have the same functions, on contiguous tensors; `kernels.c` says what each computes. The C ones hold for bfloat16 and float32
on a CPU, and are compiled once per machine into the user's cache (about a second).

Letters: B rows, T tokens, H heads, D size of a head, K keys, R repeats.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, Protocol

import torch

from palmette.model.embedded import cache_folder

_FLAGS = ("-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-fopenmp", "-shared", "-fPIC")
_SCALARS = {torch.bfloat16: ("-DBF16",), torch.float32: ()}
_OFF = "PALMETTE_COMPILE"


class Kernels(Protocol):
    """What a fused layer needs; `name` is for people."""

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
        """The gradients of gate and up; grad, that of the output, is replaced by the output."""

    def rotate(self, x_BTHD: torch.Tensor, cos_BTD: torch.Tensor, sin_BTD: torch.Tensor) -> torch.Tensor:
        """x turned by its positions, [B, H, T, D]."""

    def rotate_backward(self, grad_BHTD: torch.Tensor, cos_BTD: torch.Tensor, sin_BTD: torch.Tensor) -> torch.Tensor:
        """The gradient of x, [B, T, H, D]."""

    def masked_softmax(self, scores_RTK: torch.Tensor, mask_TK: torch.Tensor, scale: float) -> None:
        """Turn scores into softmax(scale * scores) over the keys where the mask is True."""

    def softmax_backward(self, grad: torch.Tensor, weights: torch.Tensor, scale: float) -> None:
        """Turn the gradient of the softmax's weights into that of its scores."""

    def scatter_add(self, source_HKD: torch.Tensor, key_K: torch.Tensor, total_HTD: torch.Tensor) -> None:
        """Add to the rows of `total` that key names (float32; float64 for float64)."""


class TorchKernels:
    """The same in torch's own operations, for any dtype and device."""

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
        hidden = (_wide(scores_RTK) * scale).masked_fill(~mask_TK, float("-inf"))
        scores_RTK.copy_(torch.softmax(hidden, dim=-1))

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
        library: the compiled file.
        dtype: that it was compiled for.
    """

    name = "compiled"

    def __init__(self, library: Path, dtype: torch.dtype) -> None:
        self._library, self._dtype = ctypes.CDLL(str(library)), dtype

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
    """The fastest that there are for tensors of this dtype on this kind of device.

    PALMETTE_COMPILE=0 in the environment keeps to torch.
    """
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if device_type != "cpu" or dtype not in _SCALARS or compiler is None or os.environ.get(_OFF) == "0":
        return TorchKernels()
    try:
        return NativeKernels(_compiled(compiler, _SCALARS[dtype]), dtype)
    except (OSError, subprocess.SubprocessError):  # no usable compiler, OpenMP, or cache: slower, not wrong
        return TorchKernels()


def _compiled(compiler: str, defines: tuple[str, ...]) -> Path:
    """The compiled file, made anew where source, flags, compiler, or processor are others than before."""
    source = resources.files("palmette.model").joinpath("kernels.c").read_bytes()
    command = [compiler, *_FLAGS, *defines]
    version = subprocess.run([compiler, "--version"], capture_output=True, check=True, timeout=60).stdout
    made_of = repr((command, version, platform.machine(), _processor())).encode() + source
    file = cache_folder() / "kernels" / f"{hashlib.sha256(made_of).hexdigest()[:20]}.so"
    if not file.is_file():
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=file.parent) as name:
            code, made = Path(name) / "kernels.c", Path(name) / "kernels.so"
            code.write_bytes(source)
            subprocess.run([*command, str(code), "-o", str(made), "-lm"], capture_output=True, check=True, timeout=300)
            made.rename(file)
    return file


def _processor() -> str:
    """What -march=native goes by."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    return next((line for line in lines if line.startswith(("flags", "Features"))), platform.processor())
