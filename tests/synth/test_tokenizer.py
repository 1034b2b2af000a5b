"""A tokenizer trained on texts, and a model of random weights that learns with it from nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from palmette.config.recipes import read_section
from palmette.errors import DataError, RecipeError
from palmette.inference.names import resolve_run
from palmette.synth.tokenizer import ModelSize, model_config, num_parameters, train_tokenizer
from palmette.train.recipes.texts import PretrainRecipe
from palmette.train.run import train
from tests.support.command import palmette
from tests.support.runs import log, quiet

TEXT = "The ferry leaves at 7:40 from pier 3, and the tower is built of oak. " * 40


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the command writes."""
    base = tmp_path_factory.mktemp("tokenizer")
    (base / "texts").mkdir()
    (base / "texts" / "a.txt").write_text(TEXT)
    with pytest.MonkeyPatch.context() as patch:
        options = ("--vocabulary", 300, "--layers", 2, "--width", 64)
        assert palmette(patch, "synth", "tokenizer", base / "texts", "--out", base / "made", *options) == 0
    return base


def test_the_tokenizer_writes_any_text(folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder / "made")
    assert len(tokenizer) <= 300
    assert len(tokenizer(" ferry leaves")["input_ids"]) < len(" ferry leaves")  # it has learned words
    for text in (TEXT, "naïve Ω <|endoftext|?> 🐦\n\ttab"):
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    assert len(tokenizer("2026")["input_ids"]) == 4
    turns = [{"role": "user", "content": "When?"}, {"role": "assistant", "content": "At 7:40."}]
    assert tokenizer.apply_chat_template(turns, tokenize=False).startswith("<|im_start|>user\nWhen?<|im_end|>")


@pytest.mark.parametrize("size", [ModelSize(2, 64), ModelSize(4, 128), ModelSize(1, 96)])
def test_parameters_are_counted_as_transformers_counts_them(folder: Path, size: ModelSize, tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder / "made")
    config = model_config(tokenizer, size)
    (tmp_path / "config.json").write_text(json.dumps(config))
    model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(tmp_path))
    assert num_parameters(config) == sum(p.numel() for p in model.parameters())


def recipe_of(folder: Path, out: Path, **changes: Any) -> PretrainRecipe:
    values = {
        "output": str(out),
        "model": {"name": str(folder / "made"), "init": "random", "dtype": "float32"},
        "data": {"train": [str(folder / "texts")]},
        "train": {"method": "full", "learning_rate": 0.01, **changes},
        "pretrain": {"tokens": 4000, "tokens_per_step": 200, "piece_tokens": 50, "held_out_share": 0.2},
    }
    return read_section(PretrainRecipe, values, "test")


def test_a_model_learns_from_nothing_and_is_opened_as_any_other(folder: Path, tmp_path: Path) -> None:
    """The same seed draws the same weights, and a run's own weights are loaded, not drawn again."""
    logs = []
    for name in ("one", "two"):
        train(recipe_of(folder, tmp_path / name), quiet)
        logs.append([line["loss"] for line in log(tmp_path / name)])
    assert logs[0] == logs[1]
    assert logs[0][-1] < logs[0][0] / 2
    other = tmp_path / "other"
    train(recipe_of(folder, other, seed=1), quiet)
    assert log(other)[0]["loss"] != logs[0][0]
    source = resolve_run(str(tmp_path / "one"))
    assert source.section.init == "pretrained"
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "one" / "model")
    ids = torch.tensor([AutoTokenizer.from_pretrained(tmp_path / "one" / "model")(TEXT[:120])["input_ids"]])
    assert model(input_ids=ids, labels=ids).loss.item() < logs[0][0] / 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train": {"method": "lora"}}, "train.method = lora would never train them"),
        ({"start": "runs/x"}, "has others"),
    ],
)
def test_random_weights_are_all_trained(changes: dict[str, Any], message: str) -> None:
    values = {"output": "x", "model": {"init": "random"}, "train": {"method": "full"}, **changes}
    with pytest.raises(RecipeError, match=message):
        read_section(PretrainRecipe, values, "test")


def test_a_vocabulary_below_the_bytes_and_an_odd_width_are_refused() -> None:
    with pytest.raises(DataError, match="holds nothing beside the 256 bytes"):
        train_tokenizer([TEXT], 259)
    with pytest.raises(DataError, match="100 is no multiple of 32"):
        ModelSize(2, 100)


def test_an_odd_width_is_refused_before_a_text_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ("synth", "tokenizer", tmp_path / "missing.txt", "--out", tmp_path / "made", "--width", "48")
    assert palmette(monkeypatch, *command) == 2
    assert "a width of 48 is no multiple of 32. Give 64." in capsys.readouterr().err
