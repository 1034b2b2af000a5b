"""Runs of one base model that answer differently."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

WEIGHTS = Path("adapter", "adapter_model.safetensors")


def runs_like(run: Path, folder: Path, number: int) -> list[Path]:
    """Copies of a run whose adapters hold other numbers, large enough to change answers."""
    made = []
    for index in range(number):
        copy = folder / f"run-{index}"
        shutil.copytree(run, copy)
        generator = torch.Generator().manual_seed(index)
        weights = {
            name: torch.randn(value.shape, generator=generator).to(value.dtype) * 0.3
            for name, value in load_file(run / WEIGHTS).items()
        }
        save_file(weights, copy / WEIGHTS, metadata={"format": "pt"})
        made.append(copy)
    return made
