"""A base in 4 or 8 bits: refused with the way out where bitsandbytes is missing or unfit, else configured as
published.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from palmette.errors import ModelError
from palmette.model import quantize
from palmette.model.attention import BACKENDS
from palmette.model.checks import check_model
from palmette.model.forward import score_tokens
from palmette.model.loading import add_lora, load_model
from palmette.model.quantize import is_quantized, quantization_config
from palmette.tree.batch import PackedBatch
from tests.support.models import tiny_llama
from tests.support.poison import poison_tree


def install(monkeypatch: pytest.MonkeyPatch, *, recent: bool = True, **attributes: Any) -> None:
    """A stand-in for bitsandbytes."""
    fake = ModuleType("bitsandbytes")
    for name, value in attributes.items():
        setattr(fake, name, value)
    monkeypatch.setitem(sys.modules, "bitsandbytes", fake)
    monkeypatch.setattr(quantize, "find_spec", lambda name: name)
    monkeypatch.setattr(quantize, "is_bitsandbytes_available", lambda: recent)


def test_without_bitsandbytes_the_way_out_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantize, "find_spec", lambda name: None)
    with pytest.raises(ModelError, match=r"not installed. Install it: pip install palmette\[quantize\]"):
        quantization_config("cuda")


def test_an_old_one_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, recent=False, supported_torch_devices={"cuda"})
    with pytest.raises(ModelError, match=r"too old for transformers. .*palmette\[quantize\]"):
        quantization_config("cuda")


def test_a_broken_one_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, supported_torch_devices={"cuda"})

    def broken(name: str) -> ModuleType:
        raise OSError("libcudart.so.13: cannot open shared object file\nmore")

    monkeypatch.setattr(quantize, "importlib", SimpleNamespace(import_module=broken))
    with pytest.raises(ModelError, match=r"cannot be loaded: libcudart\.so\.13: cannot open shared object file"):
        quantization_config("cuda")


def test_a_device_that_it_does_not_support_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, supported_torch_devices={"cuda", "cpu"})
    with pytest.raises(ModelError, match="supports cpu, cuda, not xpu"):
        quantization_config("xpu")


def test_a_cpu_is_refused_though_bitsandbytes_takes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, supported_torch_devices={"cuda", "cpu"})
    with pytest.raises(ModelError, match="loses its gradients on a CPU"):
        quantization_config("cpu")


def test_the_configuration_is_that_of_qlora(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, supported_torch_devices={"cuda", "cpu"})
    config = quantization_config("cuda")
    assert config.load_in_4bit
    assert config.quantization_method() == "nf4"
    assert config.bnb_4bit_use_double_quant
    assert config.bnb_4bit_compute_dtype == torch.bfloat16
    assert quantization_config("cuda", torch.float32).bnb_4bit_compute_dtype == torch.float32


def test_eight_bits_are_those_of_llm_int8(monkeypatch: pytest.MonkeyPatch) -> None:
    """On CPUs too; the threshold is the paper's. Missing or unfit libraries are refused as for 4 bits."""
    install(monkeypatch, supported_torch_devices={"cuda", "cpu"})
    for device in ("cuda", "cpu"):
        config = quantization_config(device, torch.bfloat16, "8bit")
        assert config.load_in_8bit
        assert not config.load_in_4bit
        assert config.llm_int8_threshold == 6.0
    with pytest.raises(ModelError, match=r"not xpu. Load the base as it is, without 8 bits"):
        quantization_config("xpu", torch.bfloat16, "8bit")
    monkeypatch.setattr(quantize, "find_spec", lambda name: None)
    with pytest.raises(ModelError, match="a base in 8 bits needs bitsandbytes"):
        quantization_config("cpu", torch.bfloat16, "8bit")


def test_loading_asks_for_as_many_bits_as_the_recipe(monkeypatch: pytest.MonkeyPatch, tiny_folder: Path) -> None:
    asked: list[str] = []

    def config(device: str, dtype: torch.dtype, quantization: str) -> None:
        asked.append(quantization)
        raise ModelError("enough", "")

    monkeypatch.setattr("palmette.model.loading.quantization_config", config)
    for quantization in ("4bit", "8bit"):
        with pytest.raises(ModelError, match="enough"):
            load_model(str(tiny_folder), quantization=quantization)
    assert asked == ["4bit", "8bit"]


def test_a_quantized_base_is_known() -> None:
    assert is_quantized(SimpleNamespace(is_loaded_in_4bit=True))
    assert is_quantized(SimpleNamespace(is_loaded_in_8bit=True))
    assert not is_quantized(torch.nn.Linear(1, 1))


def with_plain_weights(model: Any) -> Any:
    """The model with each 4-bit or 8-bit layer replaced by a plain one of the very weights that the bits stand for.

    An 8-bit weight is an integer times its row's scale / 127.
    """
    library = pytest.importorskip("bitsandbytes")
    for name, layer in list(model.named_modules()):
        if isinstance(layer, library.nn.Linear4bit | library.nn.Linear8bitLt):
            if isinstance(layer, library.nn.Linear4bit):
                weight = library.functional.dequantize_4bit(layer.weight.data, layer.weight.quant_state).to(model.dtype)
            else:
                weight = (layer.weight.data.float() * layer.weight.SCB[:, None] / 127).to(model.dtype)
            plain = torch.nn.Linear(layer.in_features, layer.out_features, bias=False, device="meta")
            plain.weight = torch.nn.Parameter(weight.reshape(layer.out_features, layer.in_features))
            parent, _, own = name.rpartition(".")
            setattr(model.get_submodule(parent), own, plain)
    return model


def adapter_gradients(folder: Path, config: Any, device: str, *, plain: bool) -> dict[str, torch.Tensor]:
    """Gradients of an adapter on a quantized base that has been evaluated first."""
    options = {"attn_implementation": BACKENDS["sdpa"], "use_safetensors": True, "quantization_config": config}
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16, **options)
    assert is_quantized(model)
    torch.manual_seed(1)
    model = add_lora(with_plain_weights(model) if plain else model, rank=4, alpha=8, dropout=0.0, targets="all-linear")
    model = model.to(device)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.05)
    check_model(model.eval(), training=True)
    score_tokens(model.train(), PackedBatch.from_trees([[poison_tree((8, 9))]]).to(device)).logprob_P.sum().backward()
    trained = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert all(parameter.grad is not None for _, parameter in trained)
    return {name: parameter.grad.float() for name, parameter in trained}


GPU = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")]


@pytest.mark.parametrize(
    ("device", "quantization"),
    [
        ("cpu", "8bit"),
        pytest.param("cuda", "8bit", marks=GPU),
        pytest.param("cuda", "4bit", marks=GPU),
    ],
)
def test_an_adapter_learns_as_on_the_weights_that_the_bits_stand_for(
    tmp_path: Path, device: str, quantization: quantize.Quantization
) -> None:
    """Relative difference of each gradient; the limit is that of model/checks.py, the rounding of bfloat16."""
    pytest.importorskip("bitsandbytes")
    sizes = {"hidden_size": 64, "intermediate_size": 64, "head_dim": 16, "initializer_range": 0.1}
    tiny_llama(torch.bfloat16, **sizes).save_pretrained(tmp_path)
    config = quantization_config(device, torch.bfloat16, quantization)
    got, want = (adapter_gradients(tmp_path, config, device, plain=plain) for plain in (False, True))
    assert got.keys() == want.keys()
    for name, gradient in want.items():
        assert float(gradient.norm()) > 0
        assert float((got[name] - gradient).norm()) <= 0.05 * float(gradient.norm()), name
