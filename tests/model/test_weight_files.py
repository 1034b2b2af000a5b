"""Weights come from safetensors of the model's own folder, whatever its index and its configuration name."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, BertConfig, BertForMaskedLM, BertForQuestionAnswering

from palmette.baselines.encoder import load_encoder
from palmette.baselines.windows import Windowing
from palmette.encoders.masked import load_masked
from palmette.errors import ModelError
from palmette.model.loading import load_model
from palmette.model.weight_files import INDEX, check_weight_files
from tests.support.encoders import word_piece
from tests.support.hub import KNOWN, closed_port, downloaded, fake_hub, use_hub


@pytest.fixture
def sharded(tiny_folder: Path, tmp_path: Path) -> Path:
    """The tiny model in several files with an index."""
    folder = Path(shutil.copytree(tiny_folder, tmp_path / "model"))
    model = AutoModelForCausalLM.from_pretrained(folder)
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder, max_shard_size="20KB")
    return folder


def rename(folder: Path, old: str, new: str) -> None:
    index = json.loads((folder / INDEX).read_text())
    index["weight_map"] = {key: new if file == old else file for key, file in index["weight_map"].items()}
    (folder / INDEX).write_text(json.dumps(index))


def shards(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("model-*.safetensors"))


def test_a_model_in_several_files_is_the_same_model(sharded: Path, tiny_folder: Path) -> None:
    assert len(shards(sharded)) > 1
    whole, parts = load_model(str(tiny_folder)).model, load_model(str(sharded)).model
    for (name, one), (_, other) in zip(whole.named_parameters(), parts.named_parameters(), strict=True):
        assert torch.equal(one, other), name


def test_an_index_cannot_name_a_pickle(sharded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """transformers opens what an index names, and takes a name that does not end in .safetensors for a pickle."""
    for name in shards(sharded):
        pickle = f"{Path(name).stem}.bin"
        torch.save(load_file(sharded / name), sharded / pickle)
        rename(sharded, name, pickle)
    read = []
    load = torch.load
    monkeypatch.setattr(torch, "load", lambda file, **options: read.append(file) or load(file, **options))
    AutoModelForCausalLM.from_pretrained(sharded, use_safetensors=True)
    assert read, "transformers does not do it any more, and the check can go"
    read.clear()
    with pytest.raises(ModelError, match=r"'model-00001-of-\d+\.bin'.*safetensors"):
        load_model(str(sharded))
    assert not read


def test_an_index_cannot_leave_the_folder(sharded: Path) -> None:
    first = shards(sharded)[0]
    (sharded / first).rename(sharded.parent / "other.safetensors")
    rename(sharded, first, "../other.safetensors")
    AutoModelForCausalLM.from_pretrained(sharded, use_safetensors=True)  # which reads it
    with pytest.raises(ModelError, match=r"'\.\./other\.safetensors'.*beside"):
        load_model(str(sharded))


def test_a_configuration_cannot_name_a_pickle(tiny_folder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_folder, tmp_path / "model"))
    torch.save(load_file(folder / "model.safetensors"), folder / "adapter_model.bin")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "transformers_weights": "adapter_model.bin"}))
    with pytest.raises(ModelError, match=r"'adapter_model\.bin'"):
        load_model(str(folder))


@pytest.mark.parametrize("broken", ["[]", "{}", '{"weight_map": {"a": 1}}', "not JSON"])
def test_a_broken_index_is_named(sharded: Path, broken: str) -> None:
    (sharded / INDEX).write_text(broken)
    with pytest.raises(ModelError, match=r"model\.safetensors\.index\.json"):
        load_model(str(sharded))


@pytest.mark.parametrize("kind", [BertForMaskedLM, BertForQuestionAnswering])
def test_encoders_are_held_to_it_too(kind: Any, tmp_path: Path) -> None:
    tokenizer = word_piece()
    size = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    model = kind(BertConfig(vocab_size=len(tokenizer), **size))
    model.save_pretrained(tmp_path, max_shard_size="2KB")
    tokenizer.save_pretrained(tmp_path)
    first = shards(tmp_path)[0]
    torch.save(load_file(tmp_path / first), tmp_path / "a.bin")
    rename(tmp_path, first, "a.bin")
    with pytest.raises(ModelError, match=r"'a\.bin'"):
        load_masked(str(tmp_path)) if kind is BertForMaskedLM else load_encoder(str(tmp_path), Windowing())


def test_without_the_hub_an_index_that_was_not_downloaded_is_not_taken_for_absent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise the hub could answer a second later, and what its index names would be opened unchecked."""
    use_hub(monkeypatch, closed_port(), tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)  # no retries
    snapshot = downloaded(tmp_path, KNOWN)
    (snapshot / "config.json").write_text("{}")
    with pytest.raises(ModelError, match=r"model\.safetensors\.index\.json of 'someone/known' cannot be fetched"):
        check_weight_files(KNOWN)
    (snapshot / INDEX).write_text(json.dumps({"weight_map": {"a": "pytorch_model.bin"}}))
    with pytest.raises(ModelError, match=r"names 'pytorch_model\.bin', which is no safetensors file"):
        check_weight_files(KNOWN)
    (snapshot / INDEX).write_text(json.dumps({"weight_map": {"a": "model-1.safetensors"}}))
    check_weight_files(KNOWN)


def test_a_model_of_the_hub_without_an_index_has_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with fake_hub(files={"config.json": b"{}"}) as hub:
        use_hub(monkeypatch, hub.server_port, tmp_path)
        check_weight_files(KNOWN)
        assert hub.asked[-1] == f"/{KNOWN}/resolve/main/{INDEX}"
