"""Tiny models, tokenizers and data, made in the process."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, settings
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from palmette.model.attention import BACKENDS
from palmette.model.embedded import convert_gguf, find_gguf
from palmette.model.fused import describe, fuse
from tests.chromium import HOW_TO_INSTALL, Browser, find_chromium
from tests.tokenizers import CHATML, byte_level_tokenizer

VOCABULARY = 61

torch.set_num_threads(1)
# On a busy machine an example may take long, which is no fault of the code.
settings.register_profile("tests", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tests")


# The shape of every tiny model: weights drawn far wider than usual, so that attention matters.
SMALL = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "initializer_range": 0.4,
}


# The ways through a model on a CPU: attention backend, and whether layers are fused.
PATHS = {
    "eager": (BACKENDS["eager"], False),
    "flex": (BACKENDS["flex"], False),
    "fused": (BACKENDS["sdpa"], True),
    "sdpa": (BACKENDS["sdpa"], False),
}


def on_path(path: str, dtype: torch.dtype = torch.float64) -> LlamaForCausalLM:
    """A Llama of two layers that computes in one of the `PATHS`."""
    backend, fused = PATHS[path]
    model = tiny_llama(dtype, backend)
    if fused:
        fuse(model)
        assert describe(model).startswith("fused")
    return model


def tiny_llama(dtype: torch.dtype = torch.float64, backend: str = BACKENDS["sdpa"], **changes: Any) -> LlamaForCausalLM:
    """A Llama of two layers."""
    torch.manual_seed(7)
    settings = {**SMALL, "max_position_embeddings": 4096, **changes}
    model = with_exact_norms(LlamaForCausalLM(LlamaConfig(**settings)).to(dtype).eval())
    model.set_attn_implementation(backend)
    return model


def with_exact_norms(model: Any) -> Any:
    """Norms in the model's own dtype: those of transformers compute in float32, which would hide what float64 is to show."""
    for parent in list(model.modules()):
        for name, norm in list(parent.named_children()):
            if type(norm).__name__.endswith("RMSNorm"):
                exact = torch.nn.RMSNorm(norm.weight.shape, eps=norm.variance_epsilon, dtype=norm.weight.dtype)
                setattr(parent, name, exact)
    return model


@pytest.fixture(autouse=True)
def same_interrupt() -> Iterator[None]:
    """Ctrl-C does what it does at a terminal, also where a shell runs the tests in the background; no test leaves it changed."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    after = signal.signal(signal.SIGINT, before)
    assert after is signal.default_int_handler


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    """A small byte-level tokenizer with a ChatML template."""
    return byte_level_tokenizer(["<|im_start|>", "<|im_end|>"], eos="<|im_end|>", template=CHATML)


@pytest.fixture(scope="session")
def tiny_folder(tokenizer: PreTrainedTokenizerFast, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny float32 Llama and its tokenizer, as `--model` takes it."""
    folder = tmp_path_factory.mktemp("tiny-model")
    model = tiny_llama(torch.float32, vocab_size=len(tokenizer), initializer_range=0.1, tie_word_embeddings=True)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A headless Chromium. Of one module only: while it runs, no test can start an event loop of its own."""
    if not (program := find_chromium()):
        pytest.skip(HOW_TO_INSTALL)
    from playwright.sync_api import sync_playwright  # here, since other processes of tests import this module too

    with sync_playwright() as playwright, playwright.chromium.launch(executable_path=program) as chromium:
        yield Browser(chromium)


@pytest.fixture(scope="session")
def builtin_model() -> None:
    """The built-in model is in the cache: its first conversion shows progress, which is not what a test looks at."""
    if file := find_gguf():
        convert_gguf(file)


def squad_file(path: Path, **changes: Any) -> Path:
    """A small SQuAD v2 file of two documents; `changes` replace fields of the first question."""
    first = {
        "id": "q1",
        "question": "What is the tower built of?",
        "answers": [{"text": "granite", "answer_start": 13}],
        "is_impossible": False,
    }
    unanswerable = {"id": "q2", "question": "Who built it?", "answers": [], "is_impossible": True}
    third = {
        "id": "q3",
        "question": "When does the ferry leave?",
        "answers": [{"text": "7:40", "answer_start": 20}],
        "is_impossible": False,
    }
    paragraphs = [
        {"context": "The tower is granite, and white.", "qas": [{**first, **changes}, unanswerable]},
        {"context": "The ferry leaves at 7:40 from pier 3.", "qas": [third]},
    ]
    path.write_text(json.dumps({"version": "v2.0", "data": [{"title": "Harbour", "paragraphs": paragraphs}]}))
    return path
