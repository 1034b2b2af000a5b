"""Merged weights compute what the adapter does."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from transformers import AutoTokenizer

from palmette.errors import ModelError, RunError
from palmette.publish.merge import merge_run
from tests.support.command import palmette
from tests.support.publishing import adapted, logits, plain


def test_merged_weights_compute_what_the_adapter_does(
    trained: Path, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In float32, whose sums of some hundred terms differ by a few times 1e-7 of their size when they are added in
    another order.
    """
    assert palmette(monkeypatch, "merge", trained, "--out", tmp_path / "merged") == 0
    want, base = logits(adapted(tiny_folder, trained / "adapter")), logits(plain(tiny_folder))
    assert float((want - base).abs().max()) > 0.1
    merged = plain(tmp_path / "merged")
    assert type(merged).__name__ == "LlamaForCausalLM"
    assert merged.dtype == torch.float32
    torch.testing.assert_close(logits(merged), want, rtol=1e-4, atol=1e-4)
    names = {path.name for path in (tmp_path / "merged").iterdir()}
    assert {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "palmette.json"} <= names
    assert not any("adapter" in name for name in names)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "merged")
    assert tokenizer.chat_template == AutoTokenizer.from_pretrained(tiny_folder).chat_template
    origin = json.loads((tmp_path / "merged" / "palmette.json").read_text())
    assert origin["manifest"] == json.loads((trained / "manifest.json").read_text())
    assert origin["recipe"]["train"]["learning_rate"] == 0.05
    assert palmette(monkeypatch, "merge", trained, "--out", tmp_path / "merged") == 2  # it exists


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_merged_weights_are_rounded_once(trained: Path, tiny_folder: Path, tmp_path: Path, dtype: str) -> None:
    merge_run(trained, tmp_path / "merged", dtype)  # type: ignore[arg-type]
    merged, want = plain(tmp_path / "merged"), adapted(tiny_folder, trained / "adapter").merge_and_unload()
    assert merged.dtype == getattr(torch, dtype)
    exact = dict(want.named_parameters())
    for name, value in merged.named_parameters():
        torch.testing.assert_close(value, exact[name].to(value.dtype), rtol=2**-7, atol=1e-6)
    assert json.loads((tmp_path / "merged" / "config.json").read_text())["dtype"] == dtype


def test_what_cannot_be_merged_is_refused(trained: Path, full: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="holds a full model: there is no adapter to merge"):
        merge_run(full, tmp_path / "o")
    run = shutil.copytree(trained, tmp_path / "run")
    (run / "adapter" / "pause.safetensors").write_bytes(b"")
    with pytest.raises(RunError, match=r"holds pause\.safetensors, which a plain model has no place for"):
        merge_run(run, tmp_path / "o")
    shutil.rmtree(run / "adapter")
    with pytest.raises(RunError, match="is not finished"):
        merge_run(run, tmp_path / "o")
    with pytest.raises(RunError, match="is not a run folder"):
        merge_run(tmp_path, tmp_path / "o")
    assert not (tmp_path / "o").exists()


def test_a_merge_that_computes_something_else_is_refused(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The adapter is dropped instead of merged."""
    monkeypatch.setattr(
        "palmette.publish.merge.merge_lora",
        lambda loaded: SimpleNamespace(model=loaded.model.unload(), tokenizer=loaded.tokenizer),
    )
    with pytest.raises(ModelError, match="compute something else than the adapter"):
        merge_run(trained, tmp_path / "o")
    assert not (tmp_path / "o").exists()
