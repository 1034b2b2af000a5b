"""Tiny models, tokenizers and data, made in the process."""

from __future__ import annotations

import gc
import random
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings
from transformers import PreTrainedTokenizerFast

from palmette.tasks.extractive_qa import ExtractiveQa
from palmette.tree.chat import ChatTemplate
from tests.support.browser import HOW_TO_INSTALL, Browser, find_chromium
from tests.support.models import tiny_llama
from tests.support.span_decoding import fitted, stock
from tests.support.tokenizers import CHATML, byte_level_tokenizer

if TYPE_CHECKING:
    from tests.support.chat_server import ChatServer

torch.set_num_threads(1)
# On a busy machine an example may take long, which is no fault of the code. Examples are the same in each run, so that
# a change is judged by the change alone. `make search` looks for others.
settings.register_profile("search", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("tests", parent=settings.get_profile("search"), derandomize=True)
settings.load_profile("tests")


def pytest_collection_finish() -> None:
    """What is imported by now stays: the garbage collector need not look through it each time that memory is freed."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def same_draws() -> None:
    """What a test draws depends on no other test."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def same_interrupt() -> Iterator[None]:
    """Ctrl-C does what it does at a terminal, also where a shell runs the tests in the background; no test leaves it
    changed.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    after = signal.signal(signal.SIGINT, before)
    assert after is signal.default_int_handler


@pytest.fixture(autouse=True)
def no_hub(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub is not asked, and not waited for: without a network each question would be put six times, ever more
    slowly.
    """
    if not request.node.get_closest_marker("network"):
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


@pytest.fixture(autouse=True)
def no_kept_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """The weights of the tests' models do not take the place of the user's own in the cache."""
    monkeypatch.setenv("PALMETTE_WEIGHTS_CACHE", "0")


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    """A small byte-level tokenizer with a ChatML template."""
    return byte_level_tokenizer(["<|im_start|>", "<|im_end|>"], eos="<|im_end|>", template=CHATML)


@pytest.fixture(scope="session")
def qa_task(tokenizer: PreTrainedTokenizerFast) -> ExtractiveQa:
    """Questions about documents, with the prompt "plain"."""
    return ExtractiveQa(ChatTemplate(tokenizer))


@pytest.fixture(scope="session")
def fitted_model(tokenizer: PreTrainedTokenizerFast) -> Any:
    """A tiny model that has learned the answers of `tests/support/span_decoding.py`. No test may change it."""
    return fitted(tokenizer)


@pytest.fixture(scope="session")
def stock_model(fitted_model: Any) -> Any:
    """The same weights with the attention of transformers."""
    return stock(fitted_model)


@pytest.fixture(scope="session")
def tiny_folder(tokenizer: PreTrainedTokenizerFast, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny float32 Llama and its tokenizer, as `--model` takes it."""
    folder = tmp_path_factory.mktemp("tiny-model")
    model = tiny_llama(torch.float32, vocab_size=len(tokenizer), initializer_range=0.1, tie_word_embeddings=True)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def sft_run(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of fine-tuning that was never stopped."""
    from tests.support.runs import train_small_model  # the stages take seconds to import

    return train_small_model(tiny_folder, tmp_path_factory.mktemp("runs") / "straight")


@pytest.fixture(scope="session")
def reward_run(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A reward model's run."""
    from tests.support.runs import train_small_reward_model  # the stages take seconds to import

    return train_small_reward_model(tiny_folder, tmp_path_factory.mktemp("reward"))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A headless Chromium. Of one module only: while it runs, no test can start an event loop of its own."""
    if not (program := find_chromium()):
        pytest.skip(HOW_TO_INSTALL)
    from playwright.sync_api import expect, sync_playwright  # here: other processes of tests import this module too

    expect.set_options(timeout=20_000)  # milliseconds, as for what a page is told to do
    with sync_playwright() as playwright, playwright.chromium.launch(executable_path=program) as chromium:
        yield Browser(chromium)


@pytest.fixture
def server() -> Iterator[ChatServer]:
    """A server of chat completions that does as it is told."""
    from tests.support.chat_server import ChatServer

    with ChatServer() as started:
        yield started
