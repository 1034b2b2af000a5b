"""`train mlm`: the loss is that of transformers' collator and model, however a step is cut, and resuming is exact."""

from __future__ import annotations

import json
import math
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import BertConfig, BertModel, DataCollatorForLanguageModeling

from palmette.config.recipes import read_section
from palmette.encoders.masked import load_masked
from palmette.errors import DataError, ModelError, RecipeError
from palmette.train.recipes.masked import MlmRecipe
from palmette.train.run import resume, train
from palmette.train.steps.callbacks import TrainingInterrupted
from palmette.train.texts.mlm import MaskedPlan, Masks, masked_loss, num_masked, prepare
from tests.support.command import palmette
from tests.support.encoders import SMALL_BERT
from tests.support.masked import masked_word_piece, tiny_bert
from tests.support.runs import assert_same, log, on_step, quiet
from tests.support.together import run_in

TEXTS = ["The ferry is red.", "The tower was high, on a pier.", "A cafe is in the tower.", "Fill the ferry, walk on."]


@pytest.mark.parametrize("tokens_per_batch", [1000, 16])
def test_the_loss_and_its_gradient_are_those_of_transformers(tokens_per_batch: int) -> None:
    """One batch with the collator's own padding, masks and labels, and the model's own loss. Ours is cut into batches
    of unequal numbers of masked tokens, with one denominator: in float64 the difference is rounding.
    """
    ours, stock = tiny_bert(), tiny_bert().model
    pieces = sorted((ours.row(ours.content(text)) for text in TEXTS * 2), key=len, reverse=True)
    collator = DataCollatorForLanguageModeling(ours.tokenizer, mlm_probability=0.3)
    collator.generator = torch.Generator().manual_seed(9)
    collated = collator([{"input_ids": piece} for piece in pieces])
    expected = stock(**collated).loss
    expected.backward()
    batches = Masks(ours.tokenizer, 0.3).batches(pieces, 9, tokens_per_batch)
    assert (len(batches) > 2) == (tokens_per_batch == 16)
    total = sum(map(num_masked, batches))
    assert total == int((collated["labels"] != -100).sum()) > 5
    loss = torch.zeros(())
    for batch in batches:
        part = masked_loss(ours.model, batch, total)
        part.backward()
        loss = loss + part.detach()
    assert loss.item() == pytest.approx(expected.item(), abs=1e-6)  # our logits are float32 in the loss
    for (name, one), (_, other) in zip(ours.model.named_parameters(), stock.named_parameters(), strict=True):
        if other.grad is not None:
            assert torch.allclose(one.grad, other.grad, atol=1e-7), name


def test_every_epoch_learns_every_piece_once_under_other_masks() -> None:
    tiny = tiny_bert()
    pieces = [tiny.row(tiny.content(text)) for text in TEXTS]
    plan = MaskedPlan(pieces, Masks(tiny.tokenizer, 0.5), pieces_per_step=3, tokens_per_batch=1000, seed=1)
    assert plan.steps_per_epoch == 2
    seen = []
    for epoch in range(2):
        batches = [batch for step in range(2) for batch in plan.step_batches(epoch, step)]
        whole = []
        for batch in batches:
            restored = batch.token_BT.clone()
            restored[batch.row_P, batch.column_P] = batch.truth_P
            whole += [row[mask.bool()].tolist() for row, mask in zip(restored, batch.attention_BT, strict=True)]
        assert sorted(whole) == sorted(pieces)
        seen.append([batch.token_BT.tolist() for batch in batches])
    assert seen[0] != seen[1]
    assert [batch.token_BT.tolist() for step in range(2) for batch in plan.step_batches(1, step)] == seen[1]


def test_a_short_step_masks_something() -> None:
    tiny = tiny_bert()
    for seed in range(20):
        (batch,) = Masks(tiny.tokenizer, 0.01).batches([[2, 6, 3]], seed, 100)
        assert batch.truth_P.tolist() == [6]


@pytest.fixture(scope="module")
def bare_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bare")
    tokenizer = masked_word_piece()
    torch.manual_seed(3)
    BertModel(BertConfig(vocab_size=len(tokenizer), **SMALL_BERT)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def recipe_of(encoder: Path, out: Path, **changes: Any) -> MlmRecipe:
    texts = out.parent / "texts.txt"
    texts.write_text(" ".join(TEXTS * 30))
    values: dict[str, Any] = {
        "output": str(out),
        "model": {"name": str(encoder), "dtype": "float32"},
        "data": {"train": [str(texts)]},
        "train": {"learning_rate": 0.01, "save_every": 1, "tokens_per_batch": 64},
        "mlm": {"piece_tokens": 16, "pieces_per_step": 8, "measure_every": 2, "held_out_share": 0.1},
    }
    for key, value in changes.items():
        section, _, name = key.partition("__")
        values.setdefault(section, {})[name] = value
    return read_section(MlmRecipe, values, "test")


@pytest.fixture(scope="module")
def finished(bare_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mlm")
    train(recipe_of(bare_encoder, folder / "run"), quiet)
    return folder / "run"


def test_a_run_learns_and_its_head_is_complete(finished: Path) -> None:
    lines = log(finished)
    measured = [line["held_out_loss"] for line in lines if "held_out_loss" in line]
    assert measured[0] == pytest.approx(math.log(len(masked_word_piece())), abs=1.0)  # all tokens alike
    assert measured[-1] < measured[0] - 0.5
    loaded = load_masked(str(finished))  # which refuses a model that lacks weights
    assert loaded.fresh == ()
    assert loaded.folder == str(finished / "model")
    assert (finished / "model").is_dir()
    assert not (finished / "checkpoints").exists()


@pytest.mark.parametrize("step", [1, 4])
def test_a_stopped_run_ends_with_the_same_parameters(
    step: int, finished: Path, bare_encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With dropout, which the optimizer steps draw from the global state."""
    recipe = recipe_of(bare_encoder, tmp_path / "run")
    with monkeypatch.context() as patch:
        on_step(patch, step, lambda: signal.raise_signal(signal.SIGINT))
        with pytest.raises(TrainingInterrupted):
            train(recipe, quiet)
    resume(tmp_path / "run", quiet)
    one, other = (load_file(run / "model" / "model.safetensors") for run in (finished, tmp_path / "run"))
    assert_same(one, other)
    figures = [[(line["step"], line.get("held_out_loss")) for line in log(run)] for run in (finished, tmp_path / "run")]
    assert figures[0] == figures[1]


def test_the_cache_keeps_what_was_trained_last_for_an_encoder(
    finished: Path, bare_encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The encoder's own name loads it then. With other files it is another encoder. One with a head keeps its own."""
    monkeypatch.setenv("PALMETTE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PALMETTE_WEIGHTS_CACHE", "100")
    encoder = tmp_path / "encoder"
    shutil.copytree(bare_encoder, encoder)
    with pytest.raises(ModelError, match="has no head for masked tokens"):
        load_masked(str(encoder))
    for seed in (0, 1):
        said: list[str] = []
        recipe = recipe_of(encoder, tmp_path / f"run{seed}", train__seed=seed)
        train(recipe, said.append)
        assert f"kept in the cache: `palmette mcmc --model {encoder}` writes with it" in said
        kept = load_masked(str(encoder))
        assert f"{tmp_path / f'run{seed}'} learned {recipe.data.train[0]}, to a held-out loss of" in kept.note
        assert_same(kept.model.state_dict(), load_masked(str(tmp_path / f"run{seed}")).model.state_dict())
        assert not kept.fresh
    assert load_masked(str(encoder), seed=1).fresh  # training starts from the encoder as it is
    said = []
    train(recipe_of(finished, tmp_path / "again"), said.append)
    assert not any("kept in the cache" in line for line in said)
    (encoder / "tokenizer_config.json").write_text((encoder / "tokenizer_config.json").read_text().replace("64", "63"))
    with pytest.raises(ModelError, match="has no head for masked tokens"):
        load_masked(str(encoder))


def test_text_cannot_be_a_mask(bare_encoder: Path, tmp_path: Path) -> None:
    recipe = recipe_of(bare_encoder, tmp_path / "run")
    Path(recipe.data.train[0]).write_text("The [MASK] is [SEP] red. " * 20)
    job = prepare(recipe, quiet)
    batches = job.plan.step_batches(0, 0)
    assert not any({3, 4} & set(batch.truth_P.tolist()) for batch in batches)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train__method": "lora"}, r"train\.method = lora has no meaning for an encoder. Take train\.method out"),
        ({"train__trees_per_step": 7}, r"train\.trees_per_step = 7 has no meaning"),
        ({"model__init": "random"}, r"model\.init = random has no meaning"),
        ({"data__kind": "chat"}, r"data\.kind = chat has no meaning"),
    ],
)
def test_contradictions_are_named(changes: dict[str, Any], message: str, bare_encoder: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=message):
        recipe_of(bare_encoder, tmp_path / "run", **changes)


def test_what_cannot_be_trained_is_refused(bare_encoder: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"mlm\.piece_tokens = 99 is more than .* reads, 64"):
        prepare(recipe_of(bare_encoder, tmp_path / "run", mlm__piece_tokens=99), quiet)
    with pytest.raises(ModelError, match="cannot load the encoder"):
        prepare(recipe_of(tmp_path / "nothing", tmp_path / "run"), quiet)
    recipe = recipe_of(bare_encoder, tmp_path / "run", clean__min_words=10_000)
    with pytest.raises(DataError, match="nothing is left to learn"):
        prepare(recipe, quiet)


def test_the_command_names_what_to_try(
    bare_encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = recipe_of(bare_encoder, tmp_path / "run")
    (tmp_path / "r.yaml").write_text(recipe.to_yaml())
    assert palmette(monkeypatch, "train", "mlm", tmp_path / "r.yaml") == 0
    assert 'mcmc "The ____ is ____." --model' in capsys.readouterr().err
    assert "nats per masked token" in (tmp_path / "run" / "training.html").read_text()


def test_two_processes_learn_as_one(bare_encoder: Path, tmp_path: Path) -> None:
    """In float64, and with a head that each process draws from the seed alone."""
    sections = recipe_of(bare_encoder, tmp_path / "none").model_dump(exclude={"output", "stage"}, exclude_unset=True)
    (tmp_path / "recipes.json").write_text(json.dumps([["mlm", sections]]))
    for number in (1, 2):
        run_in(number, "tests.support.together:train_all", tmp_path / "recipes.json", tmp_path / str(number))
    one, two = log(tmp_path / "1" / "mlm"), log(tmp_path / "2" / "mlm")
    assert len(one) >= 3
    for before, after in zip(one, two, strict=True):
        assert after["loss"] == pytest.approx(before["loss"], rel=2e-7)  # of float32, in which losses are added up
        assert after["grad_norm"] == pytest.approx(before["grad_norm"], rel=1e-9)
