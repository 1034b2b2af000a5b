"""Adapters that take turns in the weights of one base: each time as if it had been loaded alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft.tuners.lora.layer import Linear
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from palmette.model.adapters import SharedWeights
from palmette.model.files import PAUSE_WEIGHTS
from palmette.model.loading import add_lora, load_model, merge_lora

DTYPES = ["float32", "bfloat16"]


def adapter(base: Path, folder: Path, seed: int, **options: Any) -> Path:
    """An adapter with weights drawn at random, saved by peft."""
    torch.manual_seed(seed)
    settings: dict[str, Any] = {"rank": 3, "alpha": 7.0, "dropout": 0.1, "targets": "all-linear", **options}
    model = add_lora(AutoModelForCausalLM.from_pretrained(base), **settings)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(base).save_pretrained(folder)
    return folder


def alone(base: Path, folder: Path | None, dtype: Any) -> dict[str, torch.Tensor]:
    loaded = merge_lora(load_model(str(base), adapter=folder, dtype=dtype))
    return {name: value.clone() for name, value in loaded.model.state_dict().items()}


def assert_same(model: Any, expected: dict[str, torch.Tensor]) -> None:
    state = model.state_dict()
    assert state.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(state[name], value), name


@pytest.fixture
def adapters(tiny_folder: Path, tmp_path: Path) -> dict[str, Path | None]:
    """Of several kinds, two of which change only some layers."""
    return {
        "base": None,
        "one": adapter(tiny_folder, tmp_path / "one", 1),
        "dora": adapter(tiny_folder, tmp_path / "dora", 2, dora=True),
        "few": adapter(tiny_folder, tmp_path / "few", 3, targets=["q_proj", "down_proj"]),
        "ranks": adapter(tiny_folder, tmp_path / "ranks", 4, rank_pattern={"k_proj": 1}, rank_stabilised=True),
    }


@pytest.mark.parametrize("dtype", DTYPES)
def test_weights_are_those_of_a_model_loaded_alone(
    tiny_folder: Path, adapters: dict[str, Path | None], dtype: Any
) -> None:
    """Bit for bit, in any order and again and again. Subtracting an adapter would leave its rounding behind."""
    expected = {name: alone(tiny_folder, folder, dtype) for name, folder in adapters.items()}
    weight = "model.layers.0.self_attn.q_proj.weight"
    assert all(not torch.equal(expected[name][weight], expected["base"][weight]) for name in adapters if name != "base")
    model = load_model(str(tiny_folder), dtype=dtype).model
    kinds = [type(module) for module in model.modules()]
    shared = SharedWeights(model)
    assert all(shared.add(name, folder) for name, folder in adapters.items())
    for name in ("one", "few", "dora", "few", "base", "ranks", "one", "base", "dora"):
        assert shared.use(name)
        assert not shared.use(name)
        assert_same(model, expected[name])
    assert [type(module) for module in model.modules()] == kinds


def test_an_adapter_may_be_added_while_another_one_is_in_use(
    tiny_folder: Path, adapters: dict[str, Path | None]
) -> None:
    model = load_model(str(tiny_folder), dtype="float32").model
    shared = SharedWeights(model)
    for name in ("one", "few"):
        assert shared.add(name, adapters[name])
        shared.use(name)
        assert_same(model, alone(tiny_folder, adapters[name], "float32"))


def test_after_a_switch_that_failed_half_way_the_next_one_is_right(
    tiny_folder: Path, adapters: dict[str, Path | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load_model(str(tiny_folder), dtype="float32").model
    shared = SharedWeights(model)
    for name in ("one", "few"):
        shared.add(name, adapters[name])
    merge, calls = Linear.merge, list[int]()

    def broken(self: Any, *args: Any, **options: Any) -> None:
        calls.append(1)
        if len(calls) > 5:
            raise MemoryError
        merge(self, *args, **options)

    with monkeypatch.context() as patched:
        patched.setattr(Linear, "merge", broken)
        with pytest.raises(MemoryError):
            shared.use("one")
    assert shared.use("few")
    assert_same(model, alone(tiny_folder, adapters["few"], "float32"))
    assert shared.use("one")
    assert_same(model, alone(tiny_folder, adapters["one"], "float32"))


@pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`", "ignore:Setting `save_embedding_layers`")
def test_what_changes_more_than_linear_layers_is_not_shared(tiny_folder: Path, tmp_path: Path) -> None:
    model = load_model(str(tiny_folder), dtype="float32").model
    shared = SharedWeights(model)
    embedding = adapter(tiny_folder, tmp_path / "embedding", 1, targets=["embed_tokens", "q_proj"])
    pause = adapter(tiny_folder, tmp_path / "pause", 2)
    save_file({"pause_ND": torch.zeros(1, 32)}, pause / PAUSE_WEIGHTS)
    assert not shared.add("embedding", embedding)
    assert not shared.add("pause", pause)
    assert_same(model, alone(tiny_folder, None, "float32"))
