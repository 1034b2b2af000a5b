"""LoRA's options: each is what its paper says, by its formula; and what is trained with them resumes bit for bit."""

from __future__ import annotations

import math
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from palmette.config.sections import LoraSection
from palmette.errors import ModelError
from palmette.model.fused import describe, fuse
from palmette.model.loading import add_lora
from palmette.train.run import resume, train
from palmette.train.steps.callbacks import TrainingInterrupted
from tests.support.models import tiny_llama
from tests.support.recipes import sft_recipe
from tests.support.runs import adapter, assert_same, on_step, quiet

PLAIN: dict[str, Any] = {"rank": 4, "alpha": 6.0, "dropout": 0.0, "targets": ["q_proj"]}


def adapted(**options: Any) -> Any:
    """A model with an adapter whose update is not nothing; the same matrices whatever the options."""
    torch.manual_seed(3)
    model = add_lora(tiny_llama(), **{**PLAIN, **options})
    for name, parameter in model.named_parameters():
        if "lora_A" in name or "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    return model


def layer(model: Any) -> tuple[Any, torch.Tensor, torch.Tensor]:
    """An adapted layer, its weight [out, in], and B A, in which nothing is scaled."""
    found = model.get_base_model().model.layers[0].self_attn.q_proj
    return found, found.base_layer.weight, found.lora_B["default"].weight @ found.lora_A["default"].weight


def test_the_defaults_are_plain_lora() -> None:
    config = add_lora(tiny_llama(), **LoraSection(targets=["q_proj"]).model_dump()).peft_config["default"]
    assert (config.r, config.lora_alpha, config.lora_dropout) == (16, 32.0, 0.0)
    assert not config.use_dora
    assert not config.use_rslora
    assert config.rank_pattern == config.alpha_pattern == {}


@pytest.mark.parametrize(("stabilised", "scaling"), [(False, 6.0 / 4), (True, 6.0 / math.sqrt(4))])
def test_the_update_is_scaled_by_alpha_over_rank_or_its_root(stabilised: bool, scaling: float) -> None:
    """y = W x + s B A x, with s = alpha / r, or alpha / sqrt(r) (Kalajdzievski, 2023)."""
    module, weight, update = layer(adapted(rank_stabilised=stabilised))
    x = torch.randn(5, weight.shape[1], dtype=torch.float64)
    assert float((x @ update.t()).detach().norm()) > 0.1
    torch.testing.assert_close(module(x), x @ (weight + scaling * update).t(), rtol=1e-9, atol=1e-9)


def test_dora_learns_lengths_apart_from_directions() -> None:
    """Each row of the weight is m v / |v|, with v a row of W + s B A, and m the length of W's row before training
    (Liu et al., 2024).
    """
    module, weight, update = layer(adapted(dora=True))
    direction = weight + 6.0 / 4 * update
    effective = weight.norm(dim=1, keepdim=True) * direction / direction.norm(dim=1, keepdim=True)
    x = torch.randn(5, weight.shape[1], dtype=torch.float64)
    torch.testing.assert_close(module(x), x @ effective.t(), rtol=1e-6, atol=1e-6)
    assert float((x @ (direction - effective).t()).detach().norm()) > 0.1  # plain LoRA would give something else
    trained = [name for name, parameter in module.named_parameters() if parameter.requires_grad]
    assert any("magnitude" in name for name in trained)


def test_dora_runs_the_stock_layers() -> None:
    for dora, path in ((False, "fused"), (True, "stock")):
        model = tiny_llama(torch.float32)
        fuse(model)
        assert describe(add_lora(model, **PLAIN, dora=dora)).startswith(path)


def test_some_layers_get_a_rank_and_alpha_of_their_own() -> None:
    options = {"rank_pattern": {r"1\.self_attn\.q_proj": 2}, "alpha_pattern": {"v_proj": 12.0}}
    model = adapted(targets=["q_proj", "v_proj"], **options).get_base_model()
    ranks = [
        [getattr(block.self_attn, name).r["default"] for name in ("q_proj", "v_proj")] for block in model.model.layers
    ]
    scalings = [getattr(model.model.layers[0].self_attn, name).scaling["default"] for name in ("q_proj", "v_proj")]
    assert ranks == [[4, 4], [2, 4]]
    assert scalings == [6.0 / 4, 12.0 / 4]


@pytest.mark.parametrize("option", ["rank_pattern", "alpha_pattern"])
def test_a_pattern_that_matches_nothing_is_refused(option: str) -> None:
    with pytest.raises(ModelError, match=rf"lora\.{option}: no name of an adapted layer ends with 'v_proj'"):
        adapted(**{option: {"v_proj": 2}})


@pytest.mark.parametrize(
    "options", [{"lora__dora": True}, {"lora__rank_stabilised": True, "lora__rank_pattern": {"q_proj": 3}}]
)
def test_what_is_trained_with_them_resumes_bit_equal(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    train(sft_recipe(tiny_folder, tmp_path / "straight", **options), quiet)
    on_step(monkeypatch, 1, lambda: signal.raise_signal(signal.SIGINT))
    with pytest.raises(TrainingInterrupted):
        train(sft_recipe(tiny_folder, tmp_path / "stopped", **options), quiet)
    monkeypatch.undo()
    resume(tmp_path / "stopped", quiet)
    assert_same(adapter(tmp_path / "straight"), adapter(tmp_path / "stopped"))
    magnitudes = [name for name in adapter(tmp_path / "straight") if "magnitude" in name]
    assert bool(magnitudes) == ("lora__dora" in options)
