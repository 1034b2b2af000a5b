"""The conditions that a model's numbers depend on, beside its weights: our code, the libraries, and the machine.

What is kept in the cache under a hash of these conditions is made again as soon as one of them differs.
"""

from __future__ import annotations

import functools
import hashlib
import os
import platform
from collections.abc import Iterator
from importlib import metadata, resources
from typing import Any

import torch

from palmette.model.library import processor_features
from palmette.model.memory import KERNELS_KEPT

_LIBRARIES = ("palmette", "torch", "transformers", "peft", "safetensors", "numpy")
_OUR_CODE = ("model", "tree")
_CODE_SUFFIXES = (".py", ".c")
# Variables of the environment that choose other kernels, another number of threads or other libraries.
_VARIABLES = (
    "ATEN_",
    "CC",
    "DNNL_",
    "LD_",
    "MKL_",
    "OMP_",
    "ONEDNN_",
    "OPENBLAS_",
    "PALMETTE_COMPILE",
    "PYTORCH_",
    "TORCH_",
)


@functools.cache
def code_hash() -> str:
    """A hash of palmette's own code that numbers depend on: the folders `model` and `tree`."""
    digest = hashlib.sha256()
    for name, content in _sources():
        digest.update(f"{name} {len(content)}\n".encode() + content)
    return digest.hexdigest()


def conditions() -> dict[str, Any]:
    """The versions of the libraries, our code, and the machine, as JSON holds them."""
    return {
        "versions": {name: _version(name) for name in _LIBRARIES} | {"python": platform.python_version()},
        "code": code_hash(),
        "machine": [platform.machine(), processor_features(), torch.backends.cpu.get_cpu_capability()],
        "threads": torch.get_num_threads(),
        "precision": [torch.get_float32_matmul_precision(), torch.are_deterministic_algorithms_enabled()],
        "environment": {
            name: value
            for name, value in sorted(os.environ.items())
            if name.startswith(_VARIABLES) and name != KERNELS_KEPT  # which changes no number
        },
    }


def _sources() -> Iterator[tuple[str, bytes]]:
    for folder in _OUR_CODE:
        for file in sorted(resources.files(f"palmette.{folder}").iterdir(), key=lambda one: one.name):
            if file.name.endswith(_CODE_SUFFIXES):
                yield f"{folder}/{file.name}", file.read_bytes()


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
