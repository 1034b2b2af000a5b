"""What a run depends on outside its folder is checked each time that it is opened."""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from safetensors.torch import load_file, save_file

from palmette.errors import ModelError
from palmette.inference.answerer import load_answerer
from palmette.inference.fingerprint import TRUST, base_fingerprint
from palmette.inference.names import resolve_model, resolve_run
from palmette.inference.reference import reference_fingerprint
from palmette.publish.merge import merge_run
from tests.support.runs import train_small_reward_model


@pytest.fixture
def base(tiny_folder: Path, tmp_path: Path) -> Path:
    """A base model that a test may change."""
    return Path(shutil.copytree(tiny_folder, tmp_path / "base"))


@pytest.fixture
def trained(base: Path, tmp_path: Path) -> Path:
    """A finished run with an adapter on that base."""
    return train_small_reward_model(base, tmp_path)


def change_weights(base: Path) -> None:
    """Change one number of the weights. The file keeps its size and its time of change."""
    file = base / "model.safetensors"
    before, weights = file.stat(), load_file(file)
    name = sorted(weights)[-1]
    weights[name].view(-1)[0] += 1.0
    save_file(weights, file, metadata={"format": "pt"})
    assert file.stat().st_size == before.st_size
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def change_template(base: Path) -> None:
    file = base / "chat_template.jinja"
    file.write_text(file.read_text() + "{# other #}")


def change_tokenizer(base: Path) -> None:
    file = base / "tokenizer.json"
    file.write_text(file.read_text().replace('"version": "1.0"', '"version":  "1.0"'))


CHANGES: list[tuple[Callable[[Path], None], str]] = [
    (change_weights, "model.safetensors changed"),
    (change_template, "chat_template.jinja changed"),
    (change_tokenizer, "tokenizer.json changed"),
    (lambda base: (base / "chat_template.jinja").unlink(), "chat_template.jinja missing"),
    (lambda base: base.joinpath("added_tokens.json").write_text("{}") and None, "added_tokens.json new"),
]


def test_an_unchanged_base_is_opened(trained: Path, base: Path) -> None:
    written = json.loads((trained / "manifest.json").read_text())["base"]
    assert written == base_fingerprint(str(base))
    assert {"model.safetensors", "config.json", "tokenizer.json", "chat_template.jinja"} <= written["files"].keys()
    os.utime(base / "model.safetensors")
    assert resolve_model(trained).section.name == str(base)


@pytest.mark.parametrize(("change", "words"), CHANGES)
def test_a_changed_base_is_refused_by_name(
    change: Callable[[Path], None],
    words: str,
    trained: Path,
    base: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    change(base)
    for opening in (
        lambda: resolve_run(trained),
        lambda: load_answerer(trained),
        lambda: reference_fingerprint(str(trained), None),
        lambda: merge_run(trained, trained.parent / "merged"),
    ):
        with pytest.raises(ModelError, match=rf"{words}\. .*--trust-changed-base"):
            opening()
    monkeypatch.setenv(TRUST, "1")
    with caplog.at_level(logging.WARNING):
        assert resolve_run(trained).adapter == trained / "adapter"
    assert words in caplog.text


def test_a_relative_name_means_the_folder_that_it_meant(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From another working folder, where the same name is another model or none, the run opens its own base."""
    monkeypatch.chdir(tmp_path)
    folder = train_small_reward_model(Path("base"), tmp_path)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert resolve_run(folder).section.name == str(base)
    shutil.copytree(base, elsewhere / "base")
    change_weights(elsewhere / "base")
    assert resolve_run(folder).section.name == str(base)


def test_a_folder_is_never_looked_up_on_the_hub(
    trained: Path, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A recipe with a relative name, as older versions wrote it, in a working folder without that model."""
    recipe = yaml.safe_load((trained / "recipe.yaml").read_text())
    recipe["model"]["name"] = "base"
    (trained / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    with pytest.raises(ModelError, match="was of the kind folder, and is of the kind hub"):
        resolve_run(trained)
    manifest = json.loads((trained / "manifest.json").read_text())
    del manifest["base"]
    (trained / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ModelError, match="was a folder, which is not here"):
        resolve_run(trained)


def test_a_run_of_an_older_version_is_opened_with_a_line(trained: Path, caplog: pytest.LogCaptureFixture) -> None:
    manifest = json.loads((trained / "manifest.json").read_text())
    del manifest["base"]
    (trained / "manifest.json").write_text(json.dumps(manifest))
    with caplog.at_level(logging.WARNING):
        assert resolve_run(trained).adapter == trained / "adapter"
        resolve_run(trained)
    assert caplog.text.count("records no hashes of its base model") == 1
