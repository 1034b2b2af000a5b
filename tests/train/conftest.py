"""What tests of the stages on preferences share."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from palmette.model.loading import load_model
from tests.support.models import tiny_llama
from tests.support.preferences import jsonl, rows


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return jsonl(tmp_path_factory.mktemp("preferences") / "pairs.jsonl", rows())


@pytest.fixture(scope="module")
def other_folder(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another model with the same tokens, so that nothing is 0 in the first step."""
    folder = tmp_path_factory.mktemp("other-model")
    size = load_model(str(tiny_folder), dtype="float32").model.config.vocab_size
    tiny_llama(torch.float32, vocab_size=size, initializer_range=0.2).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        if (tiny_folder / name).is_file():
            shutil.copy(tiny_folder / name, folder / name)
    return folder
