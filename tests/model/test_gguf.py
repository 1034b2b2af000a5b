"""GGUF files: a stock transformers model with the same rope settings gives the expected logits."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, Phi3Config, PreTrainedTokenizerFast, Qwen2Config

from palmette.errors import ModelError
from palmette.model.embedded import convert_gguf
from tests.support.gguf import write_gguf
from tests.support.models import SMALL

HEAD = 32
CONFIGS = {"llama": LlamaConfig, "qwen2": Qwen2Config, "phi3": Phi3Config}
SHAPE = {
    **SMALL,
    "hidden_size": 2 * HEAD,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": HEAD,
    "initializer_range": 0.2,
    "pad_token_id": None,
}
BASE = 10000.0


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("PALMETTE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def stock(architecture: str, tokenizer: Any, rope: dict[str, Any] | None, **changes: Any) -> Any:
    """A stock model whose frequencies are scaled as `rope` says, with the same weights whatever it says."""
    torch.manual_seed(11)
    settings = {**SHAPE, "vocab_size": len(tokenizer), "max_position_embeddings": 4096, **changes}
    parameters = {"rope_type": "default", **(rope or {}), "rope_theta": BASE}
    return AutoModelForCausalLM.from_config(CONFIGS[architecture](**settings, rope_parameters=parameters)).eval()


@torch.no_grad()
def logits(model: Any, length: int = 300) -> torch.Tensor:
    token = (7 * torch.arange(length)[None] + 3) % model.config.vocab_size
    return model(input_ids=token, use_cache=False).logits[0]


def difference(one: torch.Tensor, other: torch.Tensor) -> float:
    """Relative, without what all tokens have in common."""
    one, other = (x - x.mean(-1, keepdim=True) for x in (one, other))
    return float((one - other).norm() / other.norm())


def factors_of(model: Any) -> np.ndarray:
    """What stock transformers divides each frequency by."""
    plain = BASE ** -(torch.arange(0, HEAD, 2, dtype=torch.float64) / HEAD)
    return (plain / model.model.rotary_emb.inv_freq.double()).numpy()


def check(file: Path, wanted: Any, plain: Any, *, length: int = 300) -> Any:
    loaded = AutoModelForCausalLM.from_pretrained(convert_gguf(file)).eval()
    assert difference(logits(plain, length), logits(wanted, length)) > 0.05, "scaling changes nothing here"
    assert difference(logits(loaded, length), logits(wanted, length)) < 1e-4
    return loaded.config.rope_parameters


@pytest.mark.parametrize("architecture", ["llama", "qwen2"])
@pytest.mark.parametrize("named", [True, False], ids=["type named", "type left to its default"])
def test_linear(architecture: str, named: bool, tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    wanted = stock(architecture, tokenizer, {"rope_type": "linear", "factor": 4.0})
    keys = {"rope.scaling.factor": 4.0, **({"rope.scaling.type": "linear"} if named else {})}
    file = write_gguf(tmp_path / "m.gguf", wanted, tokenizer, architecture=architecture, keys=keys)
    check(file, wanted, stock(architecture, tokenizer, None))


@pytest.mark.parametrize("attention_factor", [1.0, 0.8])
def test_yarn(attention_factor: float, tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    """llama.cpp multiplies cosine and sine by attn_factor (1 + ln(factor) / 10); transformers by attention_factor."""
    rope = {"rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 64, "beta_fast": 16.0}
    rope["attention_factor"] = attention_factor * (1 + np.log(8) / 10)
    wanted = stock("qwen2", tokenizer, rope)
    keys = {
        "rope.scaling.type": "yarn",
        "rope.scaling.factor": 8.0,
        "rope.scaling.original_context_length": 64,
        "rope.scaling.yarn_beta_fast": 16.0,
        "rope.scaling.attn_factor": attention_factor,
    }
    file = write_gguf(tmp_path / "m.gguf", wanted, tokenizer, architecture="qwen2", keys=keys)
    check(file, wanted, stock("qwen2", tokenizer, None))


def test_yarn_as_the_paper_has_it(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    """Without further keys, transformers' own defaults hold."""
    wanted = stock("llama", tokenizer, {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 128})
    keys = {
        "rope.scaling.type": "yarn",
        "rope.scaling.factor": 4.0,
        "rope.scaling.original_context_length": 128,
        "rope.scaling.finetuned": True,
    }
    file = write_gguf(tmp_path / "m.gguf", wanted, tokenizer, architecture="llama", keys=keys)
    check(file, wanted, stock("llama", tokenizer, None))


LLAMA31 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
OTHER = {"low_freq_factor": 2.0, "high_freq_factor": 8.0, "original_max_position_embeddings": 256}


@pytest.mark.parametrize(("settings", "kind", "length"), [(LLAMA31, "llama3", 3000), (OTHER, "longrope", 300)])
def test_factors_of_frequencies(
    settings: dict[str, Any], kind: str, length: int, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    """Llama 3.1 and later: a tensor of divisors and no key. They are taken from stock transformers' frequencies."""
    wanted = stock("llama", tokenizer, {"rope_type": "llama3", "factor": 32.0, **settings})
    factors = factors_of(wanted)
    assert factors.min() == pytest.approx(1)
    assert factors.max() == pytest.approx(32)
    assert ((factors > 1.01) & (factors < 31)).any(), "no factor lies between"
    file = write_gguf(
        tmp_path / "m.gguf", wanted, tokenizer, architecture="llama", tensors={"rope_freqs.weight": factors}
    )
    rope = check(file, wanted, stock("llama", tokenizer, None), length=length)
    assert rope["rope_type"] == kind
    if kind == "llama3":
        assert {name: rope[name] for name in settings} == settings


@pytest.mark.parametrize("length", [100, 300], ids=["short", "long"])
def test_phi3(length: int, tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    """Two tensors: one for texts up to the original context, one for longer ones."""
    short, long = np.linspace(1, 1.5, HEAD // 2), np.linspace(1, 40, HEAD // 2)
    rope = {"rope_type": "longrope", "short_factor": short.tolist(), "long_factor": long.tolist()}
    rope |= {"original_max_position_embeddings": 128, "attention_factor": 1.2}
    # transformers makes a configuration with Phi-3's own padding token, whatever a file says.
    changes = {"original_max_position_embeddings": 128, "vocab_size": 32064}
    wanted = stock("phi3", tokenizer, rope, **changes)
    file = write_gguf(
        tmp_path / "m.gguf",
        wanted,
        tokenizer,
        architecture="phi3",
        keys={"rope.scaling.attn_factor": 1.2, "rope.scaling.original_context_length": 128},
        tensors={"rope_factors_short.weight": short, "rope_factors_long.weight": long},
    )
    check(file, wanted, stock("phi3", tokenizer, None, **changes), length=length)


@pytest.mark.parametrize("keys", [{}, {"rope.scaling.type": "none", "rope.scaling.factor": 8.0}], ids=str)
def test_without_scaling(keys: dict[str, Any], tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    wanted = stock("llama", tokenizer, None)
    file = write_gguf(tmp_path / "m.gguf", wanted, tokenizer, architecture="llama", keys=keys)
    loaded = AutoModelForCausalLM.from_pretrained(convert_gguf(file)).eval()
    assert difference(logits(loaded), logits(wanted)) < 1e-4


REFUSED: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "unknown type": ({"rope.scaling.type": "spiral", "rope.scaling.factor": 2.0}, {}, "not understood: spiral"),
    "unknown key of scaling": ({"rope.scaling.twist": 2.0}, {}, r"qwen2\.rope\.scaling\.twist"),
    "scaled attention": ({"rope.scaling.attn_factor": 1.1}, {}, r"rope\.scaling\.attn_factor"),
    "factors and a factor": ({"rope.scaling.factor": 2.0}, {"rope_freqs.weight": np.ones(16)}, r"rope_freqs\.weight"),
    "one of two tensors": ({}, {"rope_factors_long.weight": np.ones(16)}, r"rope_factors_long\.weight"),
    "unknown key": ({"attention.temperature": 2.0}, {}, r"keys that transformers ignores: qwen2\.attention\.temp"),
    "heads of another size": ({"attention.key_length": 48}, {}, r"qwen2\.attention\.key_length = 48"),
    "a window": ({"attention.sliding_window": 64}, {}, r"qwen2\.attention\.sliding_window = 64"),
    "unknown tensor": ({}, {"blk.0.attn_gate.weight": np.ones((8, 8))}, r"tensors .* ignores: blk\.0\.attn_gate"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_would_be_ignored_is_refused(case: str, tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    keys, tensors, message = REFUSED[case]
    model = stock("qwen2", tokenizer, None)
    file = write_gguf(tmp_path / "m.gguf", model, tokenizer, architecture="qwen2", keys=keys, tensors=tensors)
    with pytest.raises(ModelError, match=message) as caught:
        convert_gguf(file)
    assert "\n" not in str(caught.value)


def test_biases_that_the_familys_table_lacks_are_refused(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    """transformers makes a Llama without biases of every Llama file, and drops those that are there."""
    model = stock("llama", tokenizer, None, attention_bias=True)
    file = write_gguf(tmp_path / "m.gguf", model, tokenizer, architecture="llama")
    with pytest.raises(ModelError, match=r"ignores: blk\.0\.attn_k\.bias, .* and 5 more"):
        convert_gguf(file)


def test_a_missing_tensor_is_refused(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """transformers draws weights that a file lacks, and warns."""
    model = stock("qwen2", tokenizer, None)
    del model.model.layers[1].mlp.up_proj
    file = write_gguf(tmp_path / "m.gguf", model, tokenizer, architecture="qwen2")
    with pytest.raises(ModelError, match=r"lacks the weights model\.layers\.1\.mlp\.up_proj\.weight"):
        convert_gguf(file)


def test_a_file_cut_anywhere_is_refused_in_one_line(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    whole = write_gguf(tmp_path / "m.gguf", stock("qwen2", tokenizer, None), tokenizer, architecture="qwen2")
    content, start = whole.read_bytes(), gguf.GGUFReader(whole).data_offset
    assert 2000 < start < len(content)
    cut = tmp_path / "cut.gguf"
    for length in [0, 3, 4, 7, 20, 24, 31, *range(40, start, start // 60), start, start + 5, len(content) - 4]:
        cut.write_bytes(content[:length])
        with pytest.raises(ModelError, match=r"cut\.gguf cannot be read as a GGUF model") as caught:
            convert_gguf(cut)
        assert "\n" not in str(caught.value)


def test_a_conversion_is_on_the_disk_before_it_gets_its_name(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a power failure could leave a folder of empty files, which would serve for ever after."""
    path = write_gguf(tmp_path / "m.gguf", stock("qwen2", tokenizer, None), tokenizer, architecture="qwen2")
    flushed: list[str] = []
    named: list[list[str]] = []
    fsync, rename = os.fsync, Path.rename

    def noted_fsync(handle: int) -> None:
        flushed.append(Path(f"/proc/self/fd/{handle}").readlink().name)
        fsync(handle)

    def noted_rename(self: Path, target: Path) -> Path:
        named.append(list(flushed))
        return rename(self, target)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(Path, "rename", noted_rename)
    converted = convert_gguf(path)
    assert sorted(named[-1]) == sorted(file.name for file in converted.iterdir())
    assert "model.safetensors" in named[-1]


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
@pytest.mark.parametrize(
    ("umask", "folder", "file"), [(0o022, 0o755, 0o644), (0o077, 0o700, 0o600), (0o002, 0o755, 0o644)]
)
def test_a_conversion_follows_the_umask_and_others_may_not_write(
    umask: int, folder: int, file: int, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    path = write_gguf(tmp_path / "m.gguf", stock("qwen2", tokenizer, None), tokenizer, architecture="qwen2")
    before = os.umask(umask)
    try:
        converted = convert_gguf(path)
    finally:
        os.umask(before)
    assert stat.S_IMODE(converted.stat().st_mode) == folder
    modes = {entry.name: stat.S_IMODE(entry.stat().st_mode) for entry in converted.iterdir()}
    assert set(modes.values()) == {file}
    assert "model.safetensors" in modes


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
@pytest.mark.parametrize("opened", ["folder", "file"])
def test_a_conversion_that_others_may_have_written_is_made_again(
    opened: str, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    path = write_gguf(tmp_path / "m.gguf", stock("qwen2", tokenizer, None), tokenizer, architecture="qwen2")
    converted = convert_gguf(path)
    config, written = converted / "config.json", (converted / "config.json").read_bytes()
    config.write_text("{}")
    assert convert_gguf(path) == converted
    assert config.read_text() == "{}", "nobody else may write there, so it is not looked at again"
    (converted if opened == "folder" else config).chmod(0o777)
    assert convert_gguf(path) == converted
    assert config.read_bytes() == written


@pytest.mark.skipif(os.name != "posix", reason="links carry no modes elsewhere")
def test_a_cache_that_leads_elsewhere_is_refused(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PALMETTE_CACHE", str(tmp_path / "cache"))
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "models").symlink_to(tmp_path / "elsewhere")
    path = write_gguf(tmp_path / "m.gguf", stock("qwen2", tokenizer, None), tokenizer, architecture="qwen2")
    with pytest.raises(ModelError, match=r"others may write to the cache .*models, or it is a link"):
        convert_gguf(path)
    assert not list((tmp_path / "elsewhere").iterdir())
