"""The names of the files that hold what was trained, beside a model's own. Nothing heavy is imported to know them."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

ADAPTER_WEIGHTS = "adapter_model.safetensors"
PAUSE_WEIGHTS = "pause.safetensors"

Purpose = Literal["reward", "value"]
PURPOSES: tuple[Purpose, ...] = ("reward", "value")


def head_file(purpose: Purpose) -> str:
    """The file of a scalar head."""
    return f"{purpose}_head.safetensors"


def has_head(folder: Path, purpose: Purpose) -> bool:
    """Whether a folder holds a head for this purpose."""
    return (folder / head_file(purpose)).is_file()
