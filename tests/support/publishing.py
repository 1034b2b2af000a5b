"""Models of published folders, loaded by transformers and peft alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from palmette.model.loading import without_alias_warning


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model.eval()(input_ids=torch.arange(5, 45)[None]).logits
    return found


def plain(folder: Path, **options: Any) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder, **options)


def adapted(base: Path, adapter: Path) -> Any:
    """Base and adapter as peft itself puts them together."""
    with without_alias_warning():
        return PeftModel.from_pretrained(plain(base, dtype=torch.float32), adapter)
