"""What tests of the encoder share."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import BertConfig, BertModel

from tests.support.encoders import SMALL_BERT, word_piece


@pytest.fixture(scope="module")
def encoder_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny BERT without a span head."""
    folder = tmp_path_factory.mktemp("encoder")
    tokenizer = word_piece()
    torch.manual_seed(3)
    BertModel(BertConfig(vocab_size=len(tokenizer), **SMALL_BERT)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
