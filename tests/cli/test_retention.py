"""`eval retention`: what it measures of a run, and what it wants to know."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from palmette.data.general import chat_prompts, hashes, passages
from palmette.evaluate.retention.measure import (
    Settings,
    score_texts,
)
from palmette.evaluate.retention.probe import Probe
from palmette.evaluate.retention.scores import total
from palmette.model.loading import load_model, weights_hash
from tests.support.command import palmette
from tests.support.data import squad_file


def trained(tiny_folder: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, method: str) -> Path:
    """A run that has learned something: three steps without a warm-up."""
    recipe = {
        "output": str(folder / "run"),
        "model": {"name": str(tiny_folder), "dtype": "float32"},
        "data": {"train": [str(squad_file(folder / "train.json"))]},
        "train": {"epochs": 3, "method": method, "learning_rate": 0.03, "warmup": 0.0},
    }
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    assert palmette(monkeypatch, "train", "sft", folder / "recipe.yaml") == 0
    return folder / "run"


def test_the_command_measures_a_run(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One model with its adapter off and on; then the same run against its base named by hand, two models: the same
    figures.
    """
    run = trained(tiny_folder, tmp_path, monkeypatch, "lora")
    words = ["eval", "retention", "--model", run, "--max-new-tokens", "5", "--out"]
    capsys.readouterr()
    assert palmette(monkeypatch, *words, tmp_path / "one") == 0
    shown = capsys.readouterr().out
    assert {path.name for path in (tmp_path / "one").iterdir()} == {"retention.json", "retention.png"}
    assert (tmp_path / "one" / "retention.png").read_bytes().startswith(b"\x89PNG")
    found = json.loads((tmp_path / "one" / "retention.json").read_text())
    assert f"{found['untouched']['perplexity']:.2f}" in shown
    assert f"{found['kl']:.3f}" in shown
    assert (len(found["by_passage"]), len(found["by_prompt"])) == (len(passages()), len(chat_prompts()))
    assert found["kl"] > 0.01
    made_by = found["made_by"]
    assert made_by["data"] == hashes()
    assert made_by["settings"]["max_new_tokens"] == 5
    assert made_by["base_sha256"] == weights_hash(str(tiny_folder))
    assert made_by["weights"] == weights_hash(str(run / "adapter"))
    assert palmette(monkeypatch, *words, tmp_path / "two", "--base", tiny_folder) == 0
    again = json.loads((tmp_path / "two" / "retention.json").read_text())
    for name in ("untouched", "tuned"):
        assert again[name]["perplexity"] == pytest.approx(found[name]["perplexity"], rel=1e-5)
    assert again["kl"] == pytest.approx(found["kl"], rel=1e-4)
    assert (again["made_by"]["weights"], again["made_by"]["base_sha256"]) == (
        made_by["weights"],
        made_by["base_sha256"],
    )
    assert palmette(monkeypatch, *words, tmp_path / "one") == 2
    assert "exists already" in capsys.readouterr().err


def test_the_command_measures_a_fully_trained_run(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = trained(tiny_folder, tmp_path, monkeypatch, "full")
    words = ["eval", "retention", "--max-new-tokens", "3", "--model"]
    assert palmette(monkeypatch, *words, run, "--out", tmp_path / "out") == 0
    found = json.loads((tmp_path / "out" / "retention.json").read_text())
    for name, folder in (("untouched", tiny_folder), ("tuned", run / "model")):
        loaded = load_model(str(folder), dtype="float32")
        expected = total(score_texts(loaded.model, Probe(loaded.tokenizer), Settings()))
        assert found[name]["perplexity"] == pytest.approx(expected.perplexity, rel=1e-5)
    assert found["tuned"]["perplexity"] != pytest.approx(found["untouched"]["perplexity"], rel=1e-3)
    assert found["kl"] > 0.01
    assert found["made_by"]["base_sha256"] == weights_hash(str(tiny_folder))
    assert found["made_by"]["weights"] == weights_hash(str(run / "model"))


def test_the_command_wants_to_know_the_untouched_model(
    tiny_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["eval", "retention", "--max-new-tokens", "3", "--model", tiny_folder]
    assert palmette(monkeypatch, *words) == 2
    assert "--base" in capsys.readouterr().err
    assert palmette(monkeypatch, *words, "--base", tiny_folder) == 0
    shown = capsys.readouterr().out
    assert "x 1.000" in shown
    assert "+0.000" in shown
