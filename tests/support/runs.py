"""What training runs leave, and how tests act on them."""

from __future__ import annotations

import json
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from palmette.config.recipes import read_section
from palmette.train.recipes.preferences import RewardRecipe
from palmette.train.run import train
from palmette.train.steps.callbacks import MetricsLog
from tests.support.recipes import sft_recipe


def quiet(_: str) -> None:
    pass


def adapter(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "adapter" / "adapter_model.safetensors")


def assert_same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.equal(value, other[name]), name


def on_step(monkeypatch: pytest.MonkeyPatch, step: int, act: Callable[[], None]) -> None:
    """Do something when a step has been logged."""
    original = MetricsLog.on_log

    def on_log(self: MetricsLog, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        original(self, args, state, control, logs, **kwargs)
        if state.global_step == step and logs and "loss" in logs:
            act()

    monkeypatch.setattr(MetricsLog, "on_log", on_log)


def log(folder: Path, name: str = "metrics.jsonl") -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / name).read_text().splitlines()]


def train_small_model(tiny_folder: Path, folder: Path) -> Path:
    """Fine-tuning by `sft_recipe`; its run folder."""
    train(sft_recipe(tiny_folder, folder), quiet)
    return folder


def train_small_reward_model(tiny_folder: Path, folder: Path) -> Path:
    """A reward model that likes "abc" better than "17"; its run folder."""
    rows = [{"prompt": f"Say {n}.", "chosen": "abc" * n, "rejected": "17" * n} for n in range(1, 5)]
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    values = {
        "output": str(folder / "run"),
        "model": {"name": str(tiny_folder), "dtype": "float32"},
        "data": {"train": [str(folder / "pairs.jsonl")]},
        "lora": {"rank": 2},
        "train": {"epochs": 1, "learning_rate": 0.01},
    }
    train(read_section(RewardRecipe, values, "test"), quiet)
    return folder / "run"


def limit_files(num_bytes: int | None) -> None:
    """From now on the system refuses to let any file grow beyond so many bytes; None lifts the limit."""
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard if num_bytes is None else num_bytes, hard))
